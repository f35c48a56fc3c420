# %% [markdown]
# # A language model
#
# The same in SmolLM2, which `make demo-language` puts into `models/smollm2`. `TASKVEC_LANGUAGE_MODEL` names another.

# %%
import os

import taskvec

model = taskvec.load_model(os.environ.get("TASKVEC_LANGUAGE_MODEL", "models/smollm2"))
data = taskvec.load_data("relations", split="train", relation="present-past")

# %% [markdown]
# Ten examples in a prompt tell the model what is asked. Means over such prompts, at the heads that a search chooses,
# say it without.

# %%
vectors = taskvec.find(model, data)
vectors

# %%
vectors(["sing", "walk", "go"])

# %% [markdown]
# Words that the search has not seen, without an example, with ten, and with the task vectors:

# %%
test = taskvec.load_data("relations", split="test", relation="present-past")
for name, method in (("bare question", "query_only"), ("ten examples", "one_shot"), ("task vectors", vectors)):
    print(name, taskvec.evaluate(model, method, test, pairs=40).interval)

# %% [markdown]
# The answer need not be one token:

# %%
vectors.generate(["Yesterday I"], tokens=8)
