# %% [markdown]
# # Use your own images
#
# This tutorial trains and evaluates a hypernetwork on a folder of images. It needs the folder `data` of
# [Get the corpus](corpus.py) and `pip install "deepnets1m[vision]"`.

# %% [markdown]
# ## Make a folder
#
# Images of a class are in a folder of its name. These are drawings of three shapes; use photographs in their place.

# %%
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

random = np.random.default_rng(0)
for name in ("circle", "cross", "square"):
    folder = Path("shapes") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(20):
        image = Image.new("RGB", (32, 32), tuple(random.integers(0, 100, 3)))
        draw, (x, y, r) = ImageDraw.Draw(image), random.integers(8, 13, 3)
        box, color = (x - r // 2, y - r // 2, x + r, y + r), tuple(random.integers(150, 256, 3))
        if name == "circle":
            draw.ellipse(box, fill=color)
        elif name == "square":
            draw.rectangle(box, fill=color)
        else:
            draw.line(box, fill=color, width=3)
            draw.line((box[0], box[3], box[2], box[1]), fill=color, width=3)
        image.save(folder / f"{number}.png")

# %% [markdown]
# ## Open it
#
# `folder:PATH` names this image set wherever a name of an image set is accepted, also in commands. Images must be
# squares of one size; `folder:shapes?image_size=64` resizes and crops them. Without folders `train` and `test`, 15 % of
# the images of each class are for testing, and 15 % for validation; the same files in every run.

# %%
from deepnets.data import open_images

test = open_images("folder:shapes", "test")
print(test.num_classes, test.image_size, len(test))  # 3 32 9

# %% [markdown]
# ## Train a hypernetwork for these classes

# %%
import torch

from deepnets import DeepNets1M
from ghn_model import GHNConfig
from ghn_model.training import Budget, Distributed, Recipe, image_stream, train

config = GHNConfig.preset("ghn2", kind="cpu", num_classes=3, hidden=16)
recipe = Recipe.preset("ghn2", kind="cpu", meta_batch_size=2, batch_size=8)
nets = DeepNets1M("data", split="train", num_classes=3)
images = image_stream("folder:shapes", recipe.images_per_step, device=torch.device("cpu"), run="runs/shapes")
path = train(
    "runs/shapes", config, recipe, images, nets, budget=Budget(steps=3), distributed=Distributed("cpu"), quiet=True
)

# %% [markdown]
# or, in a terminal, `deepnets train --images folder:shapes --minutes 10`.
#
# ## Evaluate it

# %%
from benchmark import evaluate, summarize

table = evaluate(str(path), split="test", images="folder:shapes", limit=1)
print(list(table.status), summarize(table).networks)  # ['ok'] 1

# %% [markdown]
# A hypernetwork for another number of classes cannot predict the classifiers of these networks. Leave them out. The
# accuracy is then that of random guesses. To train the first three networks from there, on all training images:
#
# ```sh
# deepnets finetune --images folder:shapes --shots 0 --batch-size 8 --init ghn2-digits --index 0:3
# ```

# %%
table = evaluate("ghn2-digits", split="test", images="folder:shapes", limit=1, predict_class_layers=False)
print(list(table.status))  # ['ok']

# %% [markdown]
# Data sets of torchvision (`torchvision:NAME`), functions of your own, and all formats are described in
# [Training](../training.md#train-on-images-of-your-own).
