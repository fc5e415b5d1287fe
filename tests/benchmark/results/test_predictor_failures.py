"""Predictors that fail, hang or need too much memory, and the rows of results that record it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import evaluate, summarize
from benchmark.results import Machine, run
from ghn_model import GHN
from tests.support.benchmark_runs import reasons


def test_failures_are_recorded(data: Path, here: Path) -> None:
    """A worker that dies is replaced for the next network."""
    names = ["raises", "nan", "lacks", "adds", "wrong_shape", "exits", "talks", "zeros", "Counts", "leaves"]
    options: dict[str, Any] = {"data": data, "out": here / "out", "machine": Machine(workers=1)}
    run([f"plugged_in:{name}" for name in names], ["test"], limit=1, **options)
    run(["plugged_in:dies"], ["test"], limit=2, **options)
    expected = {
        "raises": "RuntimeError: no idea, <b>really</b>",
        "nan": "are not finite",
        "lacks": "parameters: 1 of",
        "adds": "the network has no parameter named more",
        "wrong_shape": "expected floating-point numbers of shape",
        "dies": "its process ended by SIGKILL",
        "exits": "SystemExit: 3",
        "leaves": "its process ended with status 7",
    }
    for name, text in expected.items():
        found = reasons(here / "out", f"plugged_in:{name}")
        assert len(found) == (2 if name == "dies" else 1), name
        assert all(text in reason for reason in found), found
    for name in ("talks", "zeros", "Counts"):
        assert reasons(here / "out", f"plugged_in:{name}") == [""]
    table = pd.read_csv(here / "out" / "networks.csv")
    rows = table[table["predictor"] == "plugged_in:dies"]
    assert rows["top1"].isna().all()
    assert (rows["num_params"] > 0).all()  # values known before the failure are kept
    summary = summarize(rows)
    assert (summary.networks, summary.failures) == (2, 2)
    assert summary.mean == 0
    assert np.isnan(summary.successful_mean)


def test_a_predictor_that_hangs(data: Path, here: Path) -> None:
    started = time.monotonic()
    table = evaluate("plugged_in:hangs_on_the_second", "test", data=data, limit=2, timeout=15)
    assert time.monotonic() - started < 300
    assert table["status"].tolist() == ["ok", "failed"]
    assert table["reason"][1] == "took more than 15 seconds; stopped in the phase 'predict'"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_predictor_that_needs_too_much_memory(data: Path, here: Path) -> None:
    table = evaluate("plugged_in:eats", "test", data=data, limit=1, memory=700_000_000)
    assert table["status"].tolist() == ["failed"]
    assert all("not enough memory" in reason for reason in table["reason"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["function", pytest.param("hypernetwork", marks=pytest.mark.slow)])
def test_objects_are_sent_to_workers(data: Path, kind: str) -> None:
    torch.manual_seed(0)
    factor = torch.tensor(0.5)

    def halved(model: Any, graph: Any) -> Any:
        return {name: factor * tensor for name, tensor in model.named_parameters()}

    predictor = halved if kind == "function" else GHN("mlp")
    here = evaluate(predictor, "test", data=data, limit=2)
    there = evaluate(predictor, "test", data=data, limit=2, timeout=300)  # a time limit requires a worker
    assert here["top5"].tolist() == there["top5"].tolist()


def test_less_memory_means_smaller_batches(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As published: batches of 32, 16, ... if 64 images do not fit; the row records the size."""
    from benchmark.accuracy import evaluate_network
    from benchmark.evaluation import rows

    sizes: list[int] = []

    def scarce(*arguments: Any, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        if batch_size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate_network(*arguments, batch_size=batch_size, **options)

    monkeypatch.setattr(rows, "evaluate_network", scarce)
    table = evaluate("random", "test", data=data, limit=1)
    assert sizes == [64, 32, 16]
    assert (table["status"][0], table["batch_size"][0]) == ("ok", 16)
    monkeypatch.undo()
    assert table["top5"][0] == evaluate("random", "test", data=data, limit=1, batch_size=16)["top5"][0]


def test_not_even_two_images_fit(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.evaluation import rows

    def none_left(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(rows, "evaluate_network", none_left)
    table = evaluate("random", "test", data=data, limit=1)
    assert table["reason"][0].startswith("not enough memory")
    assert table["batch_size"][0] == 2
