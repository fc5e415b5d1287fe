"""Training of hypernetworks.

runs          `train`, which starts or resumes a run in a folder
trainer       `Trainer`, the training loop
recipe        `Recipe`, the hyperparameters
schedules     learning rate schedules, and `Budget`, the length of a training
hypernetwork  `Hypernetwork`, what the trainer needs of a model
checking      checks of what a hypernetwork of your own predicts
objective     the loss of a meta-batch and its gradient
optimization  gradient clipping, optimizer step, moving average of the weights
meta_batches  batches of networks, prepared by worker processes
images        batches of training images by step
texts         batches of training texts by step
examples      the images or texts of a step that one of several processes uses
forward       `run_graph`, a network with predicted parameters
task_data     checks that task, networks and data fit together
validation    `Validation`, the metric on networks and examples that are not trained on
state, log    the state of a training in a file, and its log
loggers       TensorBoard, Weights & Biases and others that receive the log
distributed   training with several processes
profiling     time of the parts of a step; `step_parts` defines them
"""

from __future__ import annotations

from ghn_model.training.distributed import Distributed
from ghn_model.training.hypernetwork import Hypernetwork, load_weights
from ghn_model.training.images import Images, image_stream
from ghn_model.training.log import COLUMNS, log_columns
from ghn_model.training.loggers import LOGGERS, LoggedRun, Logger
from ghn_model.training.profiling import StepProfile, profile_training
from ghn_model.training.recipe import PRECISIONS, Recipe
from ghn_model.training.runs import train
from ghn_model.training.schedules import Budget, Schedule
from ghn_model.training.state import CheckpointPolicy, Progress
from ghn_model.training.texts import TextStream
from ghn_model.training.validation import Validation

__all__ = [
    "COLUMNS",
    "LOGGERS",
    "PRECISIONS",
    "Budget",
    "CheckpointPolicy",
    "Distributed",
    "Hypernetwork",
    "Images",
    "LoggedRun",
    "Logger",
    "Progress",
    "Recipe",
    "Schedule",
    "StepProfile",
    "TextStream",
    "Validation",
    "image_stream",
    "load_weights",
    "log_columns",
    "profile_training",
    "train",
]
