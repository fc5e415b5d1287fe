"""Checks that task, networks and data of a training fit together, before anything long starts."""

from __future__ import annotations

from typing import Any

from deepnets.corpus import DeepNets1M
from deepnets.families import FamilyNetworks
from deepnets.support import ConfigError
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN
from ghn_model.tasks import LogitTask
from ghn_model.tasks.metrics import check_metrics
from ghn_model.training.images import Images
from ghn_model.training.recipe import Recipe
from ghn_model.training.texts import TextStream

__all__ = ["check_data"]


def check_data(
    task: LogitTask, hypernetwork: Any, recipe: Recipe, data: Images | TextStream, nets: DeepNets1M | FamilyNetworks
) -> None:
    """Check that task, networks and data fit together.

    Parameters
    ----------
    task, hypernetwork, recipe, data, nets
        As for `ghn_model.training.train`.

    Raises
    ------
    ConfigError
        If they do not, or the metric of the task fails for random logits.
    """
    check_metrics([task.metric], data.num_classes)
    if isinstance(data, TextStream):
        _check_texts(task, recipe, data, nets)
        return
    if isinstance(nets, FamilyNetworks) and nets.task != "images":
        raise ConfigError(f"nets: {nets!r} has language models, which do not process images")
    if (nets.num_classes, nets.image_size) != (data.num_classes, data.image_size):
        raise ConfigError(
            f"nets: has networks for {nets.num_classes} classes and images of {nets.image_size} pixels, but the images "
            f"have {data.num_classes} classes and {data.image_size} pixels"
        )
    config = hypernetwork.config if isinstance(hypernetwork, GHN) else hypernetwork
    if isinstance(config, GHNConfig) and config.num_classes != data.num_classes:
        raise ConfigError(f"config: is for {config.num_classes} classes, the images have {data.num_classes}")


def _check_texts(task: LogitTask, recipe: Recipe, texts: TextStream, nets: DeepNets1M | FamilyNetworks) -> None:
    if not isinstance(nets, FamilyNetworks) or nets.task != "text":
        raise ConfigError(f"nets: texts need language models, such as the family gpt2-widths; {nets!r} has none")
    if task.examples != "sequences":
        raise ConfigError(f"task: {task.name} is for {task.examples}, not for texts")
    if recipe.low_resolution:
        raise ConfigError("low_resolution: is for images")
    config = {**nets.network(0).arguments, **nets.config(0)}
    if (size := config.get("vocab_size", texts.num_classes)) < texts.num_classes:
        raise ConfigError(f"nets: know {size} tokens, but the tokenizer of {texts.name} has {texts.num_classes}")
    if (length := config.get("context_length", texts.sequence_length)) < texts.sequence_length:
        raise ConfigError(f"nets: read at most {length} tokens, but sequences have {texts.sequence_length}")
