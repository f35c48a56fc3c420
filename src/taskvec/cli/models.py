"""Commands about models: train one, convert the published one, describe one."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from taskvec.choices import SHIPPED
from taskvec.cli import options
from taskvec.cli.terminal import as_lines, console, say, write_json


@options.together
def train_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/tiny.toml.")],
    out: Annotated[
        Path,
        typer.Option(
            callback=options.directory, help="Logs, checkpoints, in the end model/. A run found here goes on."
        ),
    ],
    photographs: Annotated[
        Path | None, typer.Option(help="Folders of photographs and masks, for a recipe that trains on them.")
    ] = None,
    json_file: options.Json = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Overrides the recipe's seed.")] = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Train a model from a recipe; Ctrl-C keeps a checkpoint, and the same command goes on from it.

    On several GPUs or processors: torchrun --standalone --nproc-per-node N -m taskvec train ...
    """
    from taskvec import environment
    from taskvec.processes import current
    from taskvec.training.recipe import read_recipe, train

    chosen = read_recipe(recipe)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    directory = train(chosen, out, console, options.working_on(device, threads), photographs)
    if not current().first:
        return
    facts = {"machine": environment.machine(), "versions": environment.versions()}
    write_json(json_file, {"model": str(directory), "recipe": asdict(chosen), **facts})
    console.print(f"the model is in {directory}")


@options.one_writer()
def convert_command(
    out: Annotated[Path, typer.Option(callback=options.directory, help="The model directory to write.")],
    mae: Annotated[
        Path | None,
        typer.Option(
            help="The MAE-VQGAN file, such as checkpoint-3400.pth: of torch.save or safetensors, or NAME.index.json."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The file of a model that is one file, such as SegGPT's seggpt_vit_large.pth, Painter's, or a GGUF's."
        ),
    ] = None,
    vqgan: Annotated[Path | None, typer.Option(help="The VQGAN's file, such as last.ckpt; likewise.")] = None,
    vqgan_config: Annotated[Path | None, typer.Option(help="The VQGAN's model.yaml, to be checked.")] = None,
    encoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    decoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="What the model card shall state, such as mit; the files do not say.")
    ] = None,
    mae_key: Annotated[str | None, typer.Option(help="Which model, where the MAE's file holds several.")] = None,
    vqgan_key: Annotated[str | None, typer.Option(help="Which model, where the VQGAN's file holds several.")] = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Turn the published files into a model directory for --model. The files are read as data; nothing in them runs."""
    options.refuse_to_overwrite(out, overwrite)
    if mae is None or checkpoint is not None:
        if mae is not None or checkpoint is None:
            raise ValueError("expected the model's file either as --mae, with --vqgan, or as --checkpoint")
        from taskvec.models import convert_checkpoint

        convert_checkpoint(checkpoint, out, licence, mae_key)
        console.print(f"the model is in {out}")
        write_json(json_file, {"model": str(out)})
        return
    from taskvec.models.checkpoints import convert

    converted = convert(
        mae, out, vqgan, vqgan_config, encoder_heads, decoder_heads, licence, mae_key=mae_key, vqgan_key=vqgan_key
    )
    for remark in converted.remarks:
        console.print(remark)
    for name in converted.ignored:
        console.print(f"ignored {name}")
    console.print(f"the model is in {out}")
    facts = {"config": asdict(converted.config), "ignored": converted.ignored, "remarks": converted.remarks}
    write_json(json_file, {"model": str(out), **facts})


def info_command(
    target: Annotated[
        str,
        typer.Argument(
            autocompletion=options.among(SHIPPED),
            help="A model (tiny, small or a directory), a directory of task vectors, or hub:OWNER/NAME.",
        ),
    ],
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """What a model or task vectors are: architecture, parameters, operations, fingerprint; or task, sites, origin."""
    from taskvec import records

    facts = None
    if device == "cpu":  # which is there
        facts = records.model_told(target) or records.vectors_told(Path(target))
    if facts is None:
        facts = _loaded(target, device)
    say(as_lines(facts))
    write_json(json_file, facts)


def _loaded(target: str, device: str) -> dict[str, Any]:
    """What a model, or task vectors, say of themselves that have to be read, which imports PyTorch."""
    from taskvec.description import describe_model, describe_vectors
    from taskvec.hub import located
    from taskvec.models import load_model
    from taskvec.records import holds_vectors

    place = target if target in SHIPPED else located(target)
    if holds_vectors(place):
        return describe_vectors(place)
    return describe_model(load_model(place, options.device_named(device)))
