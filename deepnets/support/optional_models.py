"""Import the optional packages torchvision and timm, and build models by name.

The compiled part of torchvision only loads with the version of PyTorch that it was compiled for.  With another one, for
example a PyTorch for CPUs, `import torchvision` fails, because it registers gradients of operators that do not exist.
The classification models, the transforms and timm do not need these operators.  `import_torchvision` therefore declares
the missing operators (their signatures, without code) and imports again.  Calling such an operator is still an error.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib
import importlib.metadata
import logging
import re
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from deepnets.support.errors import ConfigError, MissingDataError, MissingDependencyError, in_one_line
from deepnets.support.extras import install_command
from deepnets.support.pretrained_weights import without_downloads
from deepnets.support.registry import import_attribute

__all__ = ["import_timm", "import_torchvision", "load_model", "without_values"]

INSTALL = install_command("vision")
SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""Signatures of the operators that `import torchvision` needs."""

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_declared: dict[str, torch.library.Library] = {}  # a declaration ends when its library object is deleted
_lock = threading.RLock()
_log = logging.getLogger(__name__)


def import_torchvision() -> ModuleType:
    """Import torchvision, even if its compiled part does not load.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If torchvision is not installed, or cannot be imported with this version of PyTorch; the message says what to
        install.

    Examples
    --------
    >>> try:
    ...     resnet = import_torchvision().models.resnet18
    ... except MissingDependencyError:
    ...     pass
    """
    with _lock:
        while True:
            try:
                return _import("torchvision")
            except RuntimeError as error:
                operator = _missing_operator(error)
                if operator not in SCHEMAS or operator in _declared:
                    raise _not_importable("torchvision", error) from error
                _declare(operator)


def import_timm(module: str = "timm", *, purpose: str = "") -> Any:
    """Import timm, which needs torchvision, or one of its modules.

    Parameters
    ----------
    module
        For example `"timm.optim"`.
    purpose
        What it is needed for, for the message of the error, for example ``"optimizer lamb"``.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If timm or torchvision is not installed or cannot be imported; the message says what to install.

    Examples
    --------
    >>> try:
    ...     create_model = import_timm().create_model
    ... except MissingDependencyError:
    ...     pass
    """
    with _lock:
        try:
            import_torchvision()
            try:
                return _import(module)
            except RuntimeError as error:
                raise _not_importable("timm", error) from error
        except MissingDependencyError as error:
            if not purpose:
                raise
            raise MissingDependencyError(f"{purpose}: needs timm: {error}") from error


def load_model(spec: str, /, *, meta: bool = False, **arguments: Any) -> nn.Module:
    """Build a model by name.

    Parameters
    ----------
    spec
        `"torchvision:resnet50"` for a model of torchvision, `"timm:resnet50"` for a model of timm, or
        `"module:callable"`, for example `"my_models:Net"`.  The callable returns the model.  Importing a module runs
        its code, so use modules that you trust.
    meta
        Whether to build the model on the `meta` device, where tensors have no memory and no values.
    arguments
        Arguments of the callable.

    Returns
    -------
    torch.nn.Module
        On the default device, in training mode.

    Raises
    ------
    ConfigError
        If there is no such module or model (the message proposes similar names), if its library is missing, if it
        cannot be built with these arguments, or if the result is not a `torch.nn.Module`.
    MissingDataError
        If trained weights of torchvision or timm are asked for whose file is not on this machine.  Nothing is
        downloaded; the message states which file to get, and where it belongs.

    Examples
    --------
    >>> load_model("torch.nn:Linear", in_features=2, out_features=3)
    Linear(in_features=2, out_features=3, bias=True)
    """
    module, colon, name = spec.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"model: expected 'torchvision:name', 'timm:name' or 'module:callable', got {spec!r}")
    if module == "torchvision":
        module = "torchvision.models"
    make = _timm_model(name) if module == "timm" else _attribute(spec, module, name)
    if isinstance(make, nn.Module) and not arguments:
        return without_values(make) if meta else make
    if not callable(make) or isinstance(make, nn.Module):
        raise ConfigError(f"model {spec}: expected something to call, got a {type(make).__name__}")
    library = module.partition(".")[0] in ("torchvision", "timm")
    with without_downloads() if library else contextlib.nullcontext():
        model = _build(spec, make, arguments, meta)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {spec}: expected it to make a torch.nn.Module, got a {type(model).__name__}")
    return model


# --- imports ---


def _import(name: str) -> ModuleType:
    """Import a package.  A RuntimeError is raised unchanged, other errors as MissingDependencyError."""
    if name not in sys.modules:
        _purge(name)
    try:
        return importlib.import_module(name)
    except RuntimeError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MissingDependencyError(f"{name} is not installed; install it with {INSTALL}", name=name) from error
        raise _not_importable(name, error) from error


def _purge(name: str) -> None:
    """Remove the modules of a package whose import failed; they refer to an incomplete package."""
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def _missing_operator(error: BaseException) -> str | None:
    found = _MISSING.search(str(error))
    return found[1] if found else None


def _declare(operator: str) -> None:
    if not _declared:
        _log.info("torchvision's compiled operators are missing: they do not fit PyTorch %s", torch.__version__)
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(SCHEMAS[operator])
    _declared[operator] = library


def _not_importable(name: str, error: BaseException) -> MissingDependencyError:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    package = f"{name} {version}".strip()
    return MissingDependencyError(
        f"{package} cannot be imported with torch {torch.__version__}: {in_one_line(error, 300)}; install versions "
        f"that belong together, for example with {INSTALL}",
        name=name,
    )


# --- models by name ---


def _timm_model(name: str) -> Callable[..., Any]:
    try:
        timm: Any = import_timm()
    except ImportError as error:
        raise ConfigError(f"model timm:{name}: {error}") from error
    if not timm.is_model(name):
        raise ConfigError(f"model timm:{name}: timm has no such model{_similar(name, timm.list_models())}")
    return lambda **arguments: timm.create_model(name, **arguments)


def _attribute(spec: str, module: str, name: str) -> Any:
    kind = f"model {spec}"
    try:
        if module.partition(".")[0] == "torchvision":
            import_torchvision()
        elif module.partition(".")[0] == "timm":
            import_timm()
        try:
            return import_attribute(f"{module}:{name}", kind)
        except ConfigError as error:  # the module may import torchvision itself
            if not isinstance(error.__cause__, RuntimeError) or _missing_operator(error.__cause__) is None:
                raise
        import_torchvision()
        return import_attribute(f"{module}:{name}", kind)
    except ImportError as error:
        raise ConfigError(f"{kind}: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or not f"{module}.".startswith(f"{cause.name}."):
            raise
        hint = "; is it installed, or in the current folder?" if cause.name == module.partition(".")[0] else ""
        raise ConfigError(f"{kind}: there is no module {cause.name!r}{hint}") from cause


def _build(spec: str, make: Callable[..., Any], arguments: dict[str, Any], meta: bool) -> Any:
    if meta:
        try:
            with torch.device("meta"):
                return make(**arguments)
        except MissingDataError:
            raise
        except Exception:  # the constructor may need values of tensors: try again on the default device
            model = _build(spec, make, arguments, meta=False)
            return without_values(model) if isinstance(model, nn.Module) else model
    try:
        return make(**arguments)
    except MissingDataError as error:
        raise MissingDataError(f"model {spec}: {error}") from error
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
        raise ConfigError(f"model {spec}: cannot be built with {given}: {in_one_line(error, 300)}") from error


def without_values(model: nn.Module) -> nn.Module:
    """Copy a model to the device `meta`; parameters that modules share are shared in the copy, too.

    `Module.to` changes the model itself, and gives each module a parameter of its own.  A model that holds something
    that cannot be copied is returned as it is, with its values.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> without_values(model).weight.device, model.weight.device
    (device(type='meta'), device(type='cpu'))
    """
    copies: dict[int, Any] = {}
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    # Among those that are kept, tensors with a history cannot be copied by themselves.
    for tensor in (*model.parameters(), *model.buffers(), *kept):
        if torch.nn.parameter.is_lazy(tensor):
            continue
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        is_parameter = isinstance(tensor, nn.Parameter)
        copies[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
    try:
        return copy.deepcopy(model, copies)
    except Exception:  # values take memory, but do no harm
        return model


def _similar(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
