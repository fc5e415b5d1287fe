"""The state of a network that a run must not change: what its modules reach, saving it and restoring it."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import is_
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepnets.tracing.model import modules_of
from deepnets.tracing.tensors import is_floating

__all__ = ["preserved", "reachable"]

_CONTAINERS = (dict, list, set, deque)
_BARE = frozenset((dict, list, tuple, set, frozenset, deque, OrderedDict))
"""Containers without attributes."""

_ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, type, FunctionType, BuiltinFunctionType, ModuleType),
    *(torch.dtype, torch.device, torch.Size),
)
_ATOM_TYPES = frozenset(_ATOMS)
_REGISTRIES = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that every module has: its parameters, buffers, modules and hooks."""


def reachable(root: Any, seen: set[int]) -> Iterator[Any]:
    """Iterate over an object and all objects that it holds, in depth-first order.

    The elements of containers and the attributes of objects are visited, but not those of tensors, of functions, of
    classes and of the modules of Python.

    Parameters
    ----------
    root : object
        Where to start.
    seen : set of int
        The identities of objects to skip; those that are visited are added.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> holder = SimpleNamespace(a=[torch.zeros(2)], b=(1, torch.ones(3)))
    >>> [len(part) for part in reachable(holder, set()) if isinstance(part, Tensor)]
    [2, 3]
    """
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Tensor):
            continue
        parts: list[Any] = []
        if isinstance(value, dict):
            parts += value.values()
        elif isinstance(value, (list, tuple, set, frozenset, deque)):
            parts += value
        if type(value) not in _BARE:
            state = _attributes(value)
            if state is not None:
                seen.add(id(state))
                parts += state.values()
            parts += _slots(value).values()
        stack += reversed(parts)


def _attributes(value: Any) -> dict[str, Any] | None:
    try:
        state = vars(value)
    except TypeError:
        return None
    return state if type(state) is dict else None


def _slots(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that are stored in `__slots__`."""
    found = {}
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                found[name] = getattr(value, name)
    return found


@contextmanager
def preserved(model: nn.Module, training: bool) -> Iterator[list[Tensor]]:
    """Set the mode of a network for a block, and restore everything that its modules hold afterwards.

    Attributes are restored, and the contents of lists, dicts, sets, deques and plain objects at any depth.  Generators
    of random numbers are restored as well: those that the network holds, and those of PyTorch, NumPy and Python.

    Yields
    ------
    list of Tensor
        The tensors that the network holds and does not learn: buffers, attributes, caches, indices.
    """
    undo: list[Callable[[], object]] = []
    empty: list[Any] = []  # most are registries without hooks
    constants: list[Tensor] = []
    modules = list(modules_of(model))
    seen = {id(module) for module in modules}
    for module in modules:
        state = vars(module)
        undo.append(_restoring(state))
        constants += [buffer for buffer in module._buffers.values() if buffer is not None]
        constants += [p for p in module._parameters.values() if p is not None and not is_floating(p)]
        for name, held in state.items():
            if type(held) in _ATOM_TYPES:  # nearly all attributes
                continue
            if name in _REGISTRIES:
                if not held:
                    empty.append(held)
                elif isinstance(held, _CONTAINERS):
                    undo.append(_restoring(held))
            elif isinstance(held, Tensor):
                constants.append(held)
            elif type(held) is tuple and _ATOM_TYPES.issuperset(map(type, held)):  # sizes, strides: cannot change
                continue
            elif not isinstance(held, _ATOMS):
                undo += _undos(held, seen, constants)
        if isinstance(module, torch.jit.ScriptModule):  # its mode is not in its `__dict__`
            undo.append(partial(setattr, module, "training", module.training))
            module.training = training
        else:
            state["training"] = training
    undo += _generators()
    try:
        yield constants
    finally:
        for each in undo:
            each()
        for held in empty:
            if held:
                held.clear()


def _generators() -> Iterator[Callable[[], object]]:
    """Iterate over the functions that restore the global generators of random numbers."""
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield partial(np.random.set_state, np.random.get_state())  # noqa: NPY002
    yield partial(random.setstate, random.getstate())


def _undos(root: Any, seen: set[int], tensors: list[Tensor]) -> Iterator[Callable[[], object]]:
    """Iterate over functions that restore the objects that an attribute reaches, and collect its tensors."""
    for value in reachable(root, seen):
        if isinstance(value, Tensor):
            tensors.append(value)
        if isinstance(value, _CONTAINERS):
            yield _restoring(value)
        elif isinstance(value, torch.Generator):
            yield partial(value.set_state, value.get_state())
        elif isinstance(value, random.Random):
            yield partial(value.setstate, value.getstate())
        elif isinstance(value, np.random.Generator):
            yield partial(setattr, value.bit_generator, "state", value.bit_generator.state)
        if isinstance(value, Tensor) or type(value) in _BARE:
            continue
        state = _attributes(value)
        if state is not None:
            yield _restoring(state)
        slots = _slots(value)
        if slots:
            yield partial(_set_slots, value, slots)


def _set_slots(value: Any, slots: Mapping[str, Any]) -> None:
    for name, content in slots.items():
        if getattr(value, name, None) is not content:
            object.__setattr__(value, name, content)


def _restoring(held: Any) -> Callable[[], None]:
    """Return a function that restores the present content of a container."""
    content = held.copy()
    return partial(_restore, held, content)


def _restore(held: Any, content: Any) -> None:
    same = len(held) == len(content)
    if isinstance(held, dict):
        same = same and all(map(is_, held, content))  # the order of keys counts
        same = same and all(map(is_, held.values(), content.values()))
    elif isinstance(held, (list, deque)):
        same = same and all(map(is_, held, content))
    else:
        same = same and held == content
    if not same:
        _refill(held, content)


def _refill(held: Any, content: Iterable[Any]) -> None:
    held.clear()
    held.extend(content) if isinstance(held, (list, deque)) else held.update(content)
