# %% [markdown]
# # First task vectors in five minutes
#
# A model that fills in a canvas of four pictures, a task told by examples, and the same task without any example.

# %%
import numpy as np
from PIL import Image

import taskvec

model = taskvec.load_model("tiny")
data = taskvec.load_data("scenes", split="train")

# %% [markdown]
# `find` averages head outputs over prompts of the task, and searches for the sites where these means make the model
# do it.

# %%
vectors = taskvec.find(model, data, task="segmentation")
vectors

# %% [markdown]
# A scene that neither the model nor the search has seen, and the answer of the model without an example:

# %%
scene = taskvec.load_data("scenes", split="test").load(np.array([5]), size=256)
Image.fromarray(np.hstack([scene.images[0], vectors(scene.images[0])[..., None].repeat(3, -1)]))

# %% [markdown]
# Is that the task vectors' doing? The model without an example and without them, and with an example, on the same
# queries, each with the decoding that suits it on the training scenes, as the vectors have theirs:

# %%
test = taskvec.load_data("scenes", split="test")
alone = taskvec.evaluate(model, "query_only", test, task="segmentation", pairs=50, training=data)
example = taskvec.evaluate(model, "one_shot", test, task="segmentation", pairs=50, training=data)
found = taskvec.evaluate(model, vectors, test, task="segmentation", pairs=50)
print(f"query alone {alone.interval.mean:.3f}, an example {example.interval.mean:.3f}", end=", ")
print(f"task vectors {found.interval.mean:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]")
assert found.interval.low > alone.interval.high

# %%
found

# %% [markdown]
# They are two small files, with all that is needed to know them again:

# %%
vectors.save_pretrained("vectors/segmentation")
taskvec.TaskVectors.from_pretrained("vectors/segmentation")
