"""`tests.coverage`: what it prints about networks that are complete, incomplete, or cannot be traced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import coverage
from tests.support.families import Family
from tests.support.zoo.case import Parts


def raising(self: Any, x: Tensor) -> Tensor:
    raise ValueError("no such size")


def unbuilt() -> nn.Module:
    raise KeyError("no such option")


def test_rows_of_families(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    makers = {
        "good": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
        "incomplete": lambda: Parts(lambda self, x: self.a(x), a=nn.Linear(4, 4, bias=False), spare=nn.Linear(4, 4)),
        "raising": lambda: Parts(raising, a=nn.Linear(4, 4)),
        "unbuilt": unbuilt,
    }
    families = {name: Family("torch", make, lambda: torch.randn(2, 4)) for name, make in makers.items()}
    families["absent"] = Family("a_package_that_is_not_there", makers["good"], lambda: torch.randn(2, 4))
    monkeypatch.setattr(coverage, "FAMILIES", families)
    coverage.check_families("", 0, 1)
    *rows, counts = capsys.readouterr().out.splitlines()
    cells = {row.split()[1]: " ".join(row.split()[2:]) for row in rows}
    assert list(cells) == list(families)
    assert cells["good"].startswith("yes equal ")
    assert cells["incomplete"].startswith("yes, but spare.weight, spare.bias unused equal ")
    assert cells["raising"].startswith("TraceError Parts cannot run on a tensor (2, 4) of float32: ValueError: no such")
    assert cells["unbuilt"] == "cannot be built KeyError: 'no such option'"
    assert cells["absent"] == "not installed"
    assert counts == "a_package_that_is_not_there: other 1, torch: complete and equal 2, torch: other 2"


def test_a_wrong_graph_has_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of other layers is compared, those of the network one after the other instead of side by side."""
    layers = {"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)}
    chain = Parts(lambda self, x: self.b(self.a(x)), **layers)
    apart = Parts(lambda self, x: self.b(x) + self.a(x), **layers)
    trace = coverage.trace
    monkeypatch.setattr(coverage, "trace", lambda model, inputs: trace(apart, inputs))
    complete, ancestry, _ = coverage.check_family(Family("torch", lambda: chain, lambda: torch.randn(2, 4)))
    assert complete == "yes"
    assert ancestry.startswith("1 differences: b.weight")
