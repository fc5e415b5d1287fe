"""`Watcher`: passes on to a `Capture` what it does not see, the operators of compiled code and of `torch.vmap`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deepnets.tracing.capture import Capture
from deepnets.tracing.model import modules_of
from deepnets.tracing.state import reachable

__all__ = ["Watcher", "checked_results", "without_compilation"]


class Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Passes on every operator that is not part of a function that the capture executes.

    These are the operators of `torch.jit`, of custom code in C++, and the operators on the tensors inside the tensors
    of `torch.func`.  It makes a run slower by a third, so it is used only for networks that need it.

    Parameters
    ----------
    capture : Capture
        The capture of the run, created with `watched=True`.
    """

    def __init__(self, capture: Capture) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._capture = capture

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._capture.depth:
            return func(*args, **(kwargs or {}))
        return self._capture.apply(func, args, kwargs or {})


@contextmanager
def checked_results(model: nn.Module, capture: Capture) -> Iterator[None]:
    """Ask where the results of every module come from, for a block: an error names the module that returns a tensor.

    Otherwise, an error names the module that reads it, or none.
    """

    def check(module: nn.Module, args: Any, result: Any) -> None:
        capture.depth += 1
        try:
            for part in reachable(result, set()):
                if isinstance(part, Tensor):
                    capture.current_value(part)
        finally:
            capture.depth -= 1

    modules = [module for module in modules_of(model) if not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_hook(check) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def without_compilation() -> Iterator[None]:
    """Run functions of `torch.compile`, among them `flex_attention`, without compiling them, for a block."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        yield
        return
    flex = sys.modules.get("torch.nn.attention.flex_attention")
    flag = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"
    before = getattr(flex, flag, None)
    if before is not None:
        setattr(flex, flag, True)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        if before is not None:
            setattr(flex, flag, before)
