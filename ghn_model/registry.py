"""Registries of the exchangeable parts of a hypernetwork: encoders and decoders.

A `GHNConfig` names a part by a registered name or as ``"module:attribute"``.  Code outside this package is imported
only if the user names it: in a configuration that the user constructs, or in the environment variable
``DEEPNETS_PLUGINS``, a comma-separated list of modules.  A checkpoint never causes an import, because checkpoints are
untrusted input.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deepnets.support import ConfigError, Registry, abbreviated, import_attribute, in_one_line, is_attribute

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DECODERS", "ENCODERS", "PLUGINS_VARIABLE", "Factory", "check_part", "find_part", "is_trusted"]

Factory = Callable[[Any], "nn.Module"]
"""Makes a part of a hypernetwork from its `GHNConfig`."""

PLUGINS_VARIABLE = "DEEPNETS_PLUGINS"

ENCODERS: Registry[Factory] = Registry(
    "hypernet",
    {
        "gatedgnn": "ghn_model.encoders:_gated_gnn",
        "mlp": "ghn_model.encoders:_node_mlp",
        "graphormer": "ghn_model.encoders:_graphormer",
    },
)
"""Encoders by the value of `GHNConfig.hypernet`."""

DECODERS: Registry[Factory] = Registry(
    "decoder",
    {
        "conv": "ghn_model.decoders:_conv",
        "mlp": "ghn_model.decoders:_mlp",
        "lowrank": "ghn_model.decoders:_low_rank",
    },
)
"""Decoders by the value of `GHNConfig.decoder`."""

_imported: dict[tuple[str, str], Factory] = {}  # parts given as module:attribute, by kind and name


def check_part(registry: Registry[Factory], name: Any) -> None:
    """Raise a `ConfigError` unless a name is registered or has the form ``"module:attribute"``.

    Nothing is imported except the modules of ``DEEPNETS_PLUGINS``, which may register names.

    Examples
    --------
    >>> check_part(ENCODERS, "gatedgnn")
    >>> check_part(ENCODERS, "my_module:MyEncoder")
    """
    if not isinstance(name, str) or not (_is_registered(registry, name) or is_attribute(name)):
        raise ConfigError(
            f"{registry.kind}: expected one of {', '.join(registry)}, or module:attribute; got {abbreviated(name)}; if "
            f"a module of yours registers this name, import it first or list it in {PLUGINS_VARIABLE}"
        )


def find_part(registry: Registry[Factory], name: str) -> Factory:
    """Return the factory that a name stands for; ``"module:attribute"`` is imported.

    Raises
    ------
    ConfigError
        If the name is unknown, or the attribute cannot be imported.

    Examples
    --------
    >>> find_part(ENCODERS, "torch.nn:Identity")
    <class 'torch.nn.modules.linear.Identity'>
    """
    check_part(registry, name)
    if name in registry:
        return registry[name]
    key = registry.kind, name
    if key not in _imported:
        _imported[key] = import_attribute(name, registry.kind)
    return _imported[key]


def is_trusted(registry: Registry[Factory], name: str) -> bool:
    """Return whether a checkpoint may use a name.

    It may if the name is registered, if the user has already made a part of this name in this process, or if its module
    is listed in ``DEEPNETS_PLUGINS``.

    Examples
    --------
    >>> is_trusted(ENCODERS, "gatedgnn"), is_trusted(ENCODERS, "os:system")
    (True, False)
    """
    return (
        _is_registered(registry, name)
        or (registry.kind, name) in _imported
        or (is_attribute(name) and name.partition(":")[0] in _plugins())
    )


def _is_registered(registry: Registry[Factory], name: str) -> bool:
    if name not in registry:
        for module in _plugins():
            _import_plugin(module)
    return name in registry


def _import_plugin(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # the module runs code of its own
        raise ConfigError(f"{PLUGINS_VARIABLE}: {module} cannot be imported: {in_one_line(error)}") from error


def _plugins() -> list[str]:
    return [name for part in os.environ.get(PLUGINS_VARIABLE, "").split(",") if (name := part.strip())]
