"""Predictors that misbehave, by module, and what the benchmark must say about each of them on two networks.

Predictors whose outcome is `SAME` return the initial values of the network, so their rows must be those of `random`,
whatever else they do.  They run in a folder of the test, in which they may write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

SAME, ANY = "the rows of random", "any rows"
FOREVER = 3600

EXPECTED: dict[str, str] = {}
"""For every predictor, as "module:attribute": `SAME`, `ANY`, or the reason why both networks fail (one of "A|B")."""


def expect(outcome: str) -> Callable[[Any], Any]:
    """Add a predictor to `EXPECTED`."""

    def add(predictor: Any) -> Any:
        EXPECTED[f"{predictor.__module__}:{predictor.__name__}"] = outcome
        return predictor

    return add


def good(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def note(pid: int) -> None:
    """Write down a process that must not survive."""
    with Path("survivors.txt").open("a") as file:
        file.write(f"{pid}\n")


def in_copy(function: Callable[[], object]) -> int:
    """Run a function in a copy of this process."""
    pid = os.fork()
    if not pid:
        try:
            function()
        finally:
            os._exit(0)
    note(pid)
    return pid
