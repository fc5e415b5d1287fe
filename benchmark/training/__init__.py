"""Training of single networks by gradient descent: the baseline of predicted parameters, and fine-tuning.

recipe        `SGDRecipe`, the settings of a training
presets       the published recipes
trainer       `train_network` and the evaluation of trained networks
epoch         one pass through the training images
augmentation  cutout, mixup and CutMix
progress      the state of a training, from which it continues
start         initial parameters: random, predicted or saved
subsets       the first n images of every class
detection     Faster R-CNN with a network as its backbone, on Penn-Fudan
adaptation    torchvision models for images of 32 pixels
vits          vision transformers for images of 32 pixels, those of LoGAH's tables
"""

from __future__ import annotations

from benchmark.training.adaptation import adapt_to_small_images
from benchmark.training.presets import PRESET_IMAGES, PRESET_LRS, PRESETS, usual_preset
from benchmark.training.recipe import SGDRecipe
from benchmark.training.start import Start, initialized, open_start, read_state, saved_states, state_name
from benchmark.training.subsets import n_shot
from benchmark.training.trainer import Trained, evaluate_trained, evaluated_epochs, track_statistics, train_network

__all__ = [
    "PRESETS",
    "PRESET_IMAGES",
    "PRESET_LRS",
    "SGDRecipe",
    "Start",
    "Trained",
    "adapt_to_small_images",
    "evaluate_trained",
    "evaluated_epochs",
    "initialized",
    "n_shot",
    "open_start",
    "read_state",
    "saved_states",
    "state_name",
    "track_statistics",
    "train_network",
    "usual_preset",
]
