"""Runs: their rows, their options, and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark import evaluate
from benchmark.results import Machine, run
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import ConfigError, DeepNets1M, MissingDataError
from tests.support.benchmark_runs import ROOT, command, lasting, table_of

# --- rows ---


def test_a_run_is_an_evaluation(data: Path, here: Path) -> None:
    """A run in other processes gives the accuracies of `evaluate` in this process."""
    path = run(["plugged_in:noisy", "random"], ["test"], data=data, out=here / "out", machine=Machine(workers=2))
    table = pd.read_csv(path)
    assert tuple(table.columns) == COLUMNS
    assert table["predictor"].tolist() == ["plugged_in:noisy"] * 4 + ["random"] * 4
    assert table["index"].tolist() == [0, 1, 2, 3] * 2
    assert (table["status"] == "ok").all()
    assert (table["num_images"] == 299).all()
    for name in ("plugged_in:noisy", "random"):
        alone = evaluate(name, "test", data=data)
        rows = table[table["predictor"] == name].reset_index(drop=True)
        for column in ("top1", "top5", "num_params", "num_nodes", "depth", "batch_size"):
            assert rows[column].tolist() == pytest.approx(alone[column].tolist(), rel=1e-12), column
    nets = DeepNets1M(data, "test")
    assert table["num_params"][:4].tolist() == nets.table["num_params"].tolist()
    assert table["num_nodes"][:4].tolist() == [graph.num_nodes for graph in nets]


def test_depth_is_the_longest_path(data: Path) -> None:
    import networkx as nx

    table = evaluate("random", "test", data=data, limit=2)
    for graph, depth in zip(DeepNets1M(data, "test"), table["depth"]):
        assert depth == nx.dag_longest_path_length(nx.DiGraph(graph.edges.tolist())) + 1


def test_validation_images_for_networks_by_which_something_is_chosen(data: Path, here: Path) -> None:
    run(["random"], ["val", "test"], data=data, out=here / "out", limit=1, machine=Machine(workers=1))
    assert table_of(here / "out")["part"].tolist() == ["val", "test"]


def test_order_and_number_of_workers_do_not_matter(data: Path, here: Path) -> None:
    for name, machine in (
        ("one", Machine(workers=1)),
        ("three", Machine(workers=3)),
        ("loky", Machine(workers=2, backend="loky")),
    ):
        run(
            ["plugged_in:noisy", "untrained:ghn1"],
            ["test"],
            data=data,
            out=here / name,
            noise=[0.0, 0.08],
            machine=machine,
        )
    assert lasting(here / "one") == lasting(here / "three") == lasting(here / "loky")
    assert len(table_of(here / "one")) == 16


def test_workers_share_devices(data: Path, here: Path) -> None:
    """Tested with one device under two of its names."""
    for name, devices in (("one", ("cpu",)), ("two", ("cpu", "cpu:0"))):
        machine = Machine(workers=2, devices=devices)
        run(["plugged_in:noisy"], ["test"], data=data, out=here / name, machine=machine)
    assert lasting(here / "one") == lasting(here / "two")


def test_what_is_there_is_looked_up_once(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished rows are read once per run, not once per network: splits have up to a million networks."""
    asked: list[str] = []
    finished = ResultStore.finished
    monkeypatch.setattr(ResultStore, "finished", lambda self, run: asked.append(run) or finished(self, run))
    run(["plugged_in:zeros"], ["test"], data=data, out=here / "out", machine=Machine(workers=1))
    assert len(asked) == 1


def test_limits_by_split(data: Path, here: Path) -> None:
    run(
        ["random"],
        ["test", "val"],
        data=data,
        out=here / "out",
        limit={"test": 1, "val": 2},
        machine=Machine(workers=1),
    )
    assert table_of(here / "out")["split"].tolist() == ["test", "val", "val"]


def test_noise_is_the_same_for_all(data: Path, here: Path) -> None:
    run(["random", "same=random"], ["test"], data=data, out=here / "out", noise=[0.0, 0.3], machine=Machine(workers=2))
    table = table_of(here / "out")
    clean, noisy = (table[table["noise"] == level] for level in ("0.0", "0.3"))
    for rows in (clean, noisy):
        first, second = (rows.loc[rows["predictor"] == name, "top5"].tolist() for name in ("random", "same"))
        assert first == second
    assert clean["top5"].tolist() != noisy["top5"].tolist()


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictors": ["nothing"]}, "expected a bundled hypernetwork"),
        ({"predictors": ["plugged_in:zero"]}, "did you mean zeros"),
        ({"predictors": ["plugged_in:number"]}, "is of type int; expected a callable"),
        ({"predictors": ["no_such_module:f"]}, "cannot be imported"),
        ({"predictors": ["sgd:0"]}, "number of epochs"),
        ({"predictors": ["untrained:ghn9"]}, "expected one of"),
        ({"predictors": ["."]}, "no saved state"),
        ({"predictors": []}, "at least one predictor"),
        ({"predictors": ["random", "random"]}, "two are called 'random'"),
        ({"networks": ["best"]}, "unknown 'best'; use one of train"),
        ({"networks": ["deep"]}, "make dataset SPLITS=deep"),
        ({"networks": ["keras:resnet"]}, "expected torchvision or timm"),
        ({"images": "mnist"}, "mnist"),
        ({"images": "cifar10"}, "cifar10"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"noise": [-1.0]}, "noise"),
    ],
)
def test_wrong_options(data: Path, here: Path, options: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "predictors": ["random"],
        "networks": ["test"],
        "data": data,
        "out": here / "out",
        **options,
    }
    with pytest.raises((ConfigError, MissingDataError), match=message):
        run(**values)
    assert not (here / "out" / "networks.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers"),
        ({"timeout": 0.0}, "timeout"),
        ({"devices": ("tpu9",)}, "device: cannot use 'tpu9'"),
        ({"devices": ()}, "expected at least one"),
    ],
)
def test_wrong_machines(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Machine(**options)


# --- the command ---


def test_the_command(data: Path, here: Path) -> None:
    words = ["run", "--predictors", "zero=plugged_in:zeros", "plugged_in:raises", "--splits", "test", "--limit", "2"]
    process = command(*words, "--data", data, "--out", here / "out", "--workers", "2", cwd=here)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert "zero" in output
    assert str(here / "out" / "report.html") in output
    assert (here / "out" / "report.html").stat().st_size > 1000
    assert len(table_of(here / "out")) == 4
    process = command(*words[:2], "zeros", cwd=here)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: predictor: 'zeros': expected")
    assert errors.count("\n") == 1


def test_the_predictor_of_the_readme(data: Path, here: Path) -> None:
    (source,) = re.findall(r"```python\n([^`]*def predict[^`]*)```", (ROOT / "README.md").read_text())
    (here / "mine.py").write_text(source)
    run(["mine:predict", "random"], ["test"], data=data, out=here / "out", limit=2, machine=Machine(workers=1))
    assert table_of(here / "out")["status"].tolist() == ["ok"] * 4
    about = json.loads((here / "out" / "runs.json").read_text()).values()
    assert {run["predictor"]["label"] for run in about} == {"mine:predict", "random"}
