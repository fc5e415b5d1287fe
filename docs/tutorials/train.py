# %% [markdown]
# # Train a hypernetwork
#
# This tutorial trains a GHN-2 on handwritten digits for a few steps, resumes the training, and loads the result. It
# needs the folder `data` of [Get the corpus](corpus.py). In a terminal, `deepnets train --minutes 10` trains for ten
# minutes.
#
# A step of the training predicts the parameters of a few networks, evaluates these networks on images, and improves the
# hypernetwork by the gradient of the loss.

# %% [markdown]
# ## Choose networks, images and a recipe
#
# A preset is a published hypernetwork or its recipe. For digits, hypernetwork and recipe are those for a CPU: four
# networks per step and 64 images for each. Here, there are fewer; leave out the changes for real trainings.

# %%
import torch

from deepnets import DeepNets1M
from ghn_model import GHNConfig
from ghn_model.training import Recipe, image_stream

config = GHNConfig.preset("ghn2", kind="cpu", num_classes=10, hidden=16)
recipe = Recipe.preset("ghn2", "digits", meta_batch_size=2, batch_size=8)
nets = DeepNets1M("data", split="train", virtual_edges=config.virtual_edges)
images = image_stream("digits", recipe.images_per_step, device=torch.device("cpu"))

# %% [markdown]
# ## Train
#
# A run is a folder. The budget is a number of steps or minutes; the schedule of the learning rate fits it.

# %%
from ghn_model.training import Budget, CheckpointPolicy, Distributed, Validation, train

options = {"distributed": Distributed("cpu"), "checkpoints": CheckpointPolicy(log_steps=2), "quiet": True}
path = train("runs/tutorial", config, recipe, images, nets, budget=Budget(steps=4), **options)
print(path.name)  # ghn.safetensors

# %% [markdown]
# ## Resume it
#
# The same call resumes a run that was interrupted. A finished run can be extended by a larger budget. This call also
# validates: at the end it measures the accuracy on a network and images that are not trained on.

# %%
from deepnets.data import open_images

batches = list(open_images("digits", "val").batches(64))
graphs = [DeepNets1M("data", split="val")[3]]
validation = Validation(graphs, batches[:2], every=100)
path = train("runs/tutorial", config, recipe, images, nets, budget=Budget(steps=6), validation=validation, **options)

# %% [markdown]
# ## Look at the log
#
# `log.csv` has a row every 20 steps (here 2): loss, accuracy, speed. `curve.csv` has the validations. The argument
# `loggers=("tensorboard",)` or `("wandb",)` also sends the rows to TensorBoard or Weights & Biases
# ([loggers](../training.md#log-to-tensorboard-weights-biases-or-your-own-program)).

# %%
import pandas as pd

log = pd.read_csv("runs/tutorial/log.csv")
print(list(log.step))  # [2, 4, 6]
print(len(pd.read_csv("runs/tutorial/curve.csv")))  # 1

# %% [markdown]
# ## Use the result

# %%
from deepnets import GENOTYPES, Network, NetworkConfig
from ghn_model import GHN

ghn = GHN.from_pretrained(path)
model = ghn.initialize(Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16)))
print(ghn.config.hidden)  # 16

# %% [markdown]
# Six steps show that everything works. `ghn2-digits` was trained for an hour of processor time. A training of that
# length, as a command that also resumes when it is repeated:
#
# ```sh
# deepnets train --preset ghn2 --images digits --minutes 60 --validate-every 1000
# ```
#
# Next: [evaluate it](evaluate.py) beside other methods, [train on your images](images.py), or read about
# [all options](../training.md).
