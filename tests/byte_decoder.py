"""A tiny random language model whose tokens are bytes, so that it reads any text."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from small_decoders import decoder
from taskvec.models.causal_lm import CausalLm


def byte_decoder() -> CausalLm:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return decoder("bytes", PreTrainedTokenizerFast(tokenizer_object=tokenizer))
