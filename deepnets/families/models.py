"""Base models of families: the registry `MODELS`, and building a network from a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from deepnets.support import (
    ConfigError,
    DeepNetsError,
    MissingDependencyError,
    Registry,
    in_one_line,
    is_attribute,
    is_out_of_memory,
    load_model,
)

__all__ = ["MODELS", "build_model", "check_model", "example_inputs"]

MODELS: Registry[Callable[..., nn.Module]] = Registry(
    "model",
    {
        "resnet": "deepnets.families.resnet:ResNet",
        "vit": "deepnets.families.vision_transformer:VisionTransformer",
        "gpt2": "deepnets.families.language_models:gpt2",
        "llama": "deepnets.families.language_models:llama",
    },
)
"""Base models by name; a function or class that returns a `torch.nn.Module`, called with keyword arguments."""

LIBRARIES = ("torchvision", "timm")
EXAMPLE_TOKENS = 8


def check_model(model: Any, where: str, *, allow_code: bool = True) -> None:
    """Check that a value names a base model, without importing anything.

    Parameters
    ----------
    model
        A callable, or a name as for `Family`.
    where
        Where it was given, for error messages.
    allow_code
        Whether a callable or "module:callable" is allowed.

    Raises
    ------
    ConfigError
        If it does not name a base model.

    Examples
    --------
    >>> check_model("resnet", "family mine")
    """
    if allow_code and callable(model):
        return
    names = f"{', '.join(MODELS)}, torchvision:NAME or timm:NAME"
    if not isinstance(model, str):
        raise ConfigError(f"{where}: model: expected {names}, or a callable, got {type(model).__name__}")
    library, _, name = model.partition(":")
    if model in MODELS or (library in LIBRARIES and name.isidentifier()):
        return
    if is_attribute(model):
        if allow_code:
            return
        raise ConfigError(f"{where}: model: {model!r} is code, which a file cannot name; use one of {names}")
    raise ConfigError(f"{where}: model: unknown {model!r}; use one of {names}, or module:callable")


def build_model(
    model: str | Callable[..., nn.Module], arguments: Mapping[str, Any], offered: Mapping[str, Any], where: str
) -> nn.Module:
    """Build a network on the default device.

    Parameters
    ----------
    model
        As in `Family`.
    arguments
        Keyword arguments.
    offered
        More keyword arguments, of which those are passed that the model has by name.
    where
        The family and the configuration, for error messages.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ConfigError
        If the model does not accept the arguments, or the result is not a module.
    MissingDependencyError
        If the model needs a package that is not installed.

    Examples
    --------
    >>> arguments = {"depths": [1], "widths": [8]}
    >>> build_model("resnet", arguments, {"num_classes": 3, "color": "red"}, "a family").fc
    Linear(in_features=8, out_features=3, bias=True)
    """
    library, _, name = model.partition(":") if isinstance(model, str) else ("", "", "")
    try:
        if library in LIBRARIES and name:
            if loading := [key for key in arguments if key.startswith(("pretrained", "weights", "checkpoint"))]:
                raise ConfigError(f"{loading[0]}: networks of a family have initial values, no trained weights")
            given = {key: value for key, value in offered.items() if key == "num_classes"}
            built: Any = load_model(f"{library}:{_classifier(library, name)}", **{**given, **arguments})
        else:
            make = MODELS[model] if isinstance(model, str) else model
            known: Any = inspect.signature(make).parameters
            known = {*known, "num_classes"} if _is_of_library(make) else {*known}  # in their `**kwargs`
            given = {key: value for key, value in offered.items() if key in known}
            built = make(**{**given, **arguments})
    except MissingDependencyError:
        raise
    except DeepNetsError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # the model is arbitrary code
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"{where}: {in_one_line(error, 300)}") from error
    if not isinstance(built, nn.Module):
        raise ConfigError(f"{where}: expected a torch.nn.Module, got {type(built).__name__}")
    return built


def _is_of_library(make: Callable[..., nn.Module]) -> bool:
    return str(getattr(make, "__module__", "")).partition(".")[0] in LIBRARIES


def _classifier(library: str, name: str) -> str:
    """Check that a name is that of a model, not of another attribute of the library."""
    if library == "torchvision":
        from deepnets.support import import_torchvision

        if name not in import_torchvision().models.list_models():
            raise ConfigError(f"model: torchvision has no model {name!r}")
    return name


def example_inputs(task: str, image_size: int) -> Any:
    """Return an example of the inputs of networks, to be passed to `deepnets.trace`.

    Parameters
    ----------
    task
        One of `deepnets.families.TASKS`.
    image_size
        Height and width of the images.

    Returns
    -------
    Tensor or dict
        `(1, 3, image_size, image_size) float32` on the device `meta` for images; for texts,
        ``{"input_ids": tensor}`` with a tensor `(1, 8) int64` of zeros.

    Examples
    --------
    >>> example_inputs("images", 32).shape, example_inputs("text", 32)["input_ids"].shape
    (torch.Size([1, 3, 32, 32]), torch.Size([1, 8]))
    """
    if task == "text":
        return {"input_ids": torch.zeros(1, EXAMPLE_TOKENS, dtype=torch.int64)}
    return torch.empty(1, 3, image_size, image_size, device="meta")
