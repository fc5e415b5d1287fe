"""Networks that are trained: the baselines that predicted parameters are compared with, and fine-tuning.

recipe.py      the published recipes              start.py   where parameters come from: random, predicted, saved
training.py    training, evaluation               runs.py    many trainings, into a folder, continued after a kill
subsets.py     n images of every class            curves.py  convergence as table and picture
adaptation.py  torchvision's models for images of 32 pixels
"""

from __future__ import annotations

from benchmark.sgd.adaptation import adapt_to_small_images
from benchmark.sgd.recipe import SGDRecipe
from benchmark.sgd.subsets import n_shot
from benchmark.sgd.training import Trained, evaluate_trained, track_statistics, train_network

__all__ = [
    "SGDRecipe",
    "Trained",
    "adapt_to_small_images",
    "evaluate_trained",
    "n_shot",
    "track_statistics",
    "train_network",
]
