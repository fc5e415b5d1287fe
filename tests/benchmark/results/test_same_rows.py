"""Rows depend on the seed and the network alone: not on workers, backends, or the order of evaluation."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmark import evaluate
from benchmark.results import Machine, run
from tests.support.benchmark_runs import ROOT, VARYING, command, table_of
from tests.support.processes import PATIENCE
from tests.support.small_corpus import write_predictors

PREDICTORS = {"plugged_in:noisy": "plugged_in:noisy", "untrained:ghn1": "untrained-ghn1", "random": "random"}
"""Names of predictors, and their labels."""

NOISE = (0.0, 0.08)
OPTIONS: dict[str, Any] = {"limit": 3, "seed": 5}
PACKAGES = {"dask": "distributed", "ray": "ray"}

MACHINES: dict[str, dict[str, Any]] = {
    "1 worker": {"workers": 1},
    "2 workers": {"workers": 2},
    "4 workers": {"workers": 4},
    "a process for every network": {"workers": 2, "fresh": True},
    "sequential": {"workers": 1, "backend": "sequential"},
    "loky": {"workers": 2, "backend": "loky"},
    "dask": {"workers": 2, "backend": "dask"},
    "ray": {"workers": 2, "backend": "ray"},
}
CASES = [
    pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.cluster] if name in PACKAGES else [])])
    for name in MACHINES
]


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows that this process computes without workers, one network after the other, as texts."""
    folder = tmp_path_factory.mktemp("module")
    write_predictors(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(folder))
            patch.delitem(sys.modules, "plugged_in", raising=False)
            tables = [
                evaluate(name, "test", data=data, noise=level, **OPTIONS).assign(predictor=label, noise=level)
                for level in NOISE
                for name, label in PREDICTORS.items()
            ]
    finally:
        torch.set_num_threads(threads)
    return pd.concat(tables, ignore_index=True).map(text).drop(columns=VARYING)


def text(value: Any) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


@pytest.mark.parametrize("name", CASES)
def test_rows_are_equal_bit_by_bit(
    data: Path, here: Path, expected: pd.DataFrame, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{here}")  # for the processes of clusters
    if name in PACKAGES:  # in a process of its own, as clusters change the process that starts them
        words = ["run", "--predictors", *PREDICTORS, "--splits", "test", "--noise", *NOISE, "--limit", 3, "--seed", 5]
        words += ["--data", data, "--out", here / "out", "--backend", name, "--workers", 2, "--quiet", "--no-report"]
        process = command(*words, cwd=here)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    else:
        machine = Machine(**MACHINES[name])
        run(list(PREDICTORS), ["test"], data=data, out=here / "out", noise=NOISE, machine=machine, **OPTIONS)
    found = table_of(here / "out")
    assert len(found) == len(PREDICTORS) * len(NOISE) * OPTIONS["limit"]
    assert set(found["status"]) == {"ok"}
    pd.testing.assert_frame_equal(found[expected.columns], expected)
