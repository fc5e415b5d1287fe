"""The module that is traced: its modules and parameters, and its default inputs.

Modules and parameters are found by the registries of `torch.nn.Module`, because networks may have attributes named
`modules` or `parameters` that hide the methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from deepnets.graph import ParameterSlot
from deepnets.support import TraceError

__all__ = [
    "default_inputs",
    "failing_module",
    "modules_of",
    "named_modules",
    "parameter_slots",
    "parameters_of",
    "unwrapped",
]

USUAL_SIZES = (224, 299, 32, 64)
"""Image sizes to try, in pixels, if neither the network nor the user states one."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over a module and all modules in it, with their names, as `torch.nn.Module.named_modules` does.

    Examples
    --------
    >>> [name for name, _ in named_modules(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())))]
    ['', '0', '1', '1.0']
    """
    seen = set()
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name, module
        if module._modules:
            children = [(key, child) for key, child in module._modules.items() if child is not None]
            stack += [(f"{name}.{key}" if name else key, child) for key, child in reversed(children)]


def modules_of(model: nn.Module) -> Iterator[nn.Module]:
    """Iterate over a module and all modules in it, as `torch.nn.Module.modules` does."""
    return (module for _, module in named_modules(model))


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters by name, as `torch.nn.Module.named_parameters` does; a shared one has its first name."""
    found: dict[str, nn.Parameter] = {}
    seen = set()
    for prefix, module in named_modules(model):
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{prefix}.{name}" if prefix else name] = parameter
    return found


def failing_module(model: nn.Module, error: BaseException) -> str:
    """Return the name of the innermost module of a network whose code raised an error, or an empty text."""
    names = {id(module): name for name, module in named_modules(model)}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


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
    channels = next((m.in_channels for m in modules_of(model) if isinstance(m, nn.modules.conv._ConvNd)), 3)
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
    parameters = (p for module in modules_of(model) for p in module._parameters.values() if p is not None)
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())


def parameter_slots(model: nn.Module, parameters: Mapping[str, Tensor]) -> list[ParameterSlot]:
    """Return the parameters of a network, with roles by module type, as needed for those that get no node."""
    norms: set[int] = set()
    for module in modules_of(model):
        if isinstance(module, _NORMS) or type(module).__name__.endswith("RMSNorm"):
            norms.update(map(id, module._parameters.values()))
    slots = []
    for name, parameter in parameters.items():
        if isinstance(parameter, UninitializedTensorMixin):
            raise TraceError(
                f"{name}: this parameter of a lazy module has no shape yet; run the network on an input once before "
                "tracing it"
            )
        kind = "bias" if name.endswith("bias") else "weight"
        role = f"norm_{kind}" if id(parameter) in norms else kind
        slots.append(ParameterSlot(name, tuple(parameter.shape), role))
    return slots
