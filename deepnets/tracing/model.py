"""The module that is traced: its default inputs, its parameters, and restoring it after the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from deepnets.graph import ParameterSlot
from deepnets.support import TraceError

__all__ = ["constants", "default_inputs", "parameter_slots", "preserved", "unwrapped"]

USUAL_SIZES = (224, 299, 32, 64)
"""Image sizes to try, in pixels, if neither the network nor the user states one."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers of `torch.compile` and of data-parallel training."""
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def default_inputs(model: nn.Module) -> list[Any]:
    """Return inputs to try, on the `meta` device.

    First come the inputs that the network states, then images of `USUAL_SIZES` with as many channels as its first
    convolution has.
    """
    dummy = getattr(model, "dummy_inputs", None)
    main = getattr(model, "main_input_name", None)  # image models of Hugging Face have dummy inputs of text
    stated = [dummy] if isinstance(dummy, dict) and dummy and (main is None or main in dummy) else []
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), 3)
    shapes = [size if len(size) == 3 else (channels, *size) for size in _stated_sizes(model)]
    shapes += [(channels, side, side) for side in USUAL_SIZES]
    kind = _float_type(model)
    return stated + [torch.empty((1, *shape), device="meta", dtype=kind) for shape in dict.fromkeys(shapes)]


def _stated_sizes(model: nn.Module) -> list[tuple[int, ...]]:
    sizes: list[Any] = []
    for name in ("default_cfg", "pretrained_cfg"):
        settings = getattr(model, name, None)
        if isinstance(settings, dict):
            sizes.append(settings.get("input_size"))
    sizes += [getattr(model, name, None) for name in ("expected_input_sz", "image_size", "img_size")]
    sizes.append(getattr(getattr(model, "config", None), "image_size", None))
    stated: list[tuple[int, ...]] = []
    for size in sizes:
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            stated.append((size, size))
        elif isinstance(size, (tuple, list)) and len(size) in (2, 3) and all(isinstance(n, int) for n in size):
            stated.append(tuple(size))
    return stated


def _float_type(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def constants(model: nn.Module) -> Iterator[Tensor]:
    """Iterate over the tensors of a network that are not parameters: buffers, and attributes of its modules."""
    yield from model.buffers()
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, (list, tuple)):
                yield from (part for part in value if isinstance(part, Tensor) and not isinstance(part, nn.Parameter))


@contextmanager
def preserved(model: nn.Module, training: bool) -> Iterator[None]:
    """Set the mode of a network for a block, and restore every attribute of every module afterwards, caches included.

    The state of PyTorch's random number generator is restored as well.
    """
    states = [vars(module) for module in model.modules()]
    attributes = [dict(state) for state in states]
    containers = [held for state in states for held in state.values() if isinstance(held, _CONTAINERS)]
    contents = [(held, held.copy()) for held in containers if held]
    empty = [held for held in containers if not held]  # most are registries without hooks
    random_state = torch.get_rng_state()
    for state in states:
        state["training"] = training
    try:
        yield
    finally:
        torch.set_rng_state(random_state)
        for state, before in zip(states, attributes):
            _restore(state, before)
        for held, content in contents:
            _restore(held, content)
        for held in empty:
            if held:
                held.clear()


_CONTAINERS = (dict, list, set)  # of parameters, buffers, hooks and caches


def _restore(held: Any, content: Any) -> None:
    """Restore the content of a container."""
    same = len(held) == len(content)
    if isinstance(held, dict):
        same = same and all(key in held and held[key] is value for key, value in content.items())
    elif isinstance(held, list):
        same = same and all(a is b for a, b in zip(held, content))
    else:
        same = same and held == content
    if not same:
        held.clear()
        held.extend(content) if isinstance(held, list) else held.update(content)


def parameter_slots(model: nn.Module) -> list[ParameterSlot]:
    """Return all parameters of a network, with roles by module type, as needed for those that get no node."""
    owners = {id(p): module for module in model.modules() for p in module._parameters.values() if p is not None}
    slots = []
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedTensorMixin):
            raise TraceError(
                f"{name}: this parameter of a lazy module has no shape yet; run the network on an input once before "
                "tracing it"
            )
        kind = "bias" if name.endswith("bias") else "weight"
        role = f"norm_{kind}" if isinstance(owners.get(id(parameter)), _NORMS) else kind
        slots.append(ParameterSlot(name, tuple(parameter.shape), role))
    return slots
