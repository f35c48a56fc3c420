# %% [markdown]
# # A look inside: taskness, sites, arithmetic
#
# Where is a task in the model, before anybody searches?

# %%
import matplotlib.pyplot as plt
import torch

import taskvec
from taskvec.analysis import head_taskness

model = taskvec.load_model("tiny")
data = taskvec.load_data("scenes", split="train")
names = ["segmentation", "low_light", "inpainting", "colorization"]
prompts = [taskvec.draw_prompts(data, taskvec.TASKS[name], count=50, size=model.image_size, seed=0) for name in names]
statistics = taskvec.collect(model, prompts)
statistics

# %% [markdown]
# Taskness is the variance between the tasks' means over the variance within them: large where a head's output says
# which task it is.

# %%
heads = head_taskness(taskvec.taskness(statistics))
figure, axes = plt.subplots(1, len(heads), figsize=(8, 3))
for axis, (stack, scores) in zip(axes, heads.items(), strict=True):
    axis.imshow(scores)
    axis.set(title=stack, xlabel="head", ylabel="layer")

# %% [markdown]
# One search for the sites of two tasks: means at the same sites add up.

# %%
segmentation, inpainting = taskvec.find_all(model, data, ["segmentation", "inpainting"])
print(f"{len(segmentation.sites)} sites, such as {segmentation.sites[:3]}")
assert segmentation.sites == inpainting.sites

# %% [markdown]
# Where they are, by layer:

# %%
for stack in ("encoder", "decoder"):
    layers = torch.tensor([site.layer for site in segmentation.sites if site.stack == stack])
    print(stack, torch.bincount(layers, minlength=len(heads[stack])).tolist())

# %% [markdown]
# A patch by hand: the means of one task at the sites of the search, in a run on queries alone.

# %%
sites = model.sites("quadrant")
patch = taskvec.Patch(sites, sites.mask(segmentation.sites)[None], statistics.means(["segmentation"]))
queries = taskvec.draw_prompts(
    taskvec.load_data("scenes", split="test"), taskvec.TASKS["segmentation"], count=4, size=model.image_size, seed=1
)
items = model.prepare(queries, "query_only")
patched = model.answers(taskvec.run(model, items, patch), items)
alone = model.answers(taskvec.run(model, items), items)
print(f"{(patched != alone).float().mean():.0%} of the values of the answers are others")

# %% [markdown]
# Half of the way between two tasks is task vectors, too:

# %%
0.5 * segmentation + 0.5 * inpainting
