"""Training of hypernetworks.

trainer       `train`, the training loop
recipe        `Recipe`, the hyperparameters; `schedules`, learning rate schedules
objective     the loss of a meta-batch and its gradient
optimization  from gradients to updated weights
meta_batches  batches of networks, prepared by worker processes
images        batches of training images by step
validation    `Validation`, accuracy on networks and images that are not trained on
state, log    the resumable state of a training, and its log
distributed   training with several processes
profiling     where the time of a step goes; `trace_events` reads the profiler's traces, `step_parts` names its parts
"""

from __future__ import annotations

from ghn_model.training.distributed import Ranks
from ghn_model.training.images import image_stream
from ghn_model.training.log import COLUMNS
from ghn_model.training.profiling import Measured, profile_training
from ghn_model.training.recipe import PRECISIONS, Recipe
from ghn_model.training.schedules import Length
from ghn_model.training.trace_events import Profile
from ghn_model.training.trainer import Images, Saving, train
from ghn_model.training.validation import Validation

__all__ = [
    "COLUMNS",
    "PRECISIONS",
    "Images",
    "Length",
    "Measured",
    "Profile",
    "Ranks",
    "Recipe",
    "Saving",
    "Validation",
    "image_stream",
    "profile_training",
    "train",
]
