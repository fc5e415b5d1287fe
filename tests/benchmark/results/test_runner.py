"""Runs: their rows, their options, and the command line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark import evaluate
from benchmark.__main__ import main
from benchmark.results import Machine, run
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import ConfigError, DeepNets1M, MissingDataError
from deepnets.data import load_images
from tests.support.benchmark_runs import ROOT, command, lasting, table_of

# --- rows ---


def test_a_run_gives_the_results_of_evaluate(data: Path, here: Path) -> None:
    """Workers compute the accuracies that `evaluate` computes in this process."""
    path = run(
        ["plugged_in:noisy", "random"], ["test"], data=data, out=here / "out", limit=2, machine=Machine(workers=1)
    )
    table = pd.read_csv(path)
    assert tuple(table.columns) == COLUMNS
    assert table["predictor"].tolist() == ["plugged_in:noisy"] * 2 + ["random"] * 2
    assert table["index"].tolist() == [0, 1] * 2
    assert (table["status"] == "ok").all()
    assert (table["num_images"] == 299).all()
    for name in ("plugged_in:noisy", "random"):
        alone = evaluate(name, "test", data=data, limit=2)
        rows = table[table["predictor"] == name].reset_index(drop=True)
        for column in ("top1", "top5", "num_params", "num_nodes", "depth", "batch_size"):
            assert rows[column].tolist() == pytest.approx(alone[column].tolist(), rel=1e-12), column
    nets = DeepNets1M(data, "test")
    assert table["num_params"][:2].tolist() == nets.table["num_params"][:2].tolist()
    assert table["num_nodes"][:2].tolist() == [nets[0].num_nodes, nets[1].num_nodes]


def test_depth_is_the_longest_path(data: Path) -> None:
    import networkx as nx

    table = evaluate("random", "test", data=data, limit=2)
    for graph, depth in zip(DeepNets1M(data, "test"), table["depth"]):
        assert depth == nx.dag_longest_path_length(nx.DiGraph(graph.edges.tolist())) + 1


def test_rows_do_not_depend_on_the_backend(data: Path, here: Path) -> None:
    """Processes of loky, which supervise the workers, give the results of `evaluate`."""
    machine = Machine(workers=2, backend="loky")
    run(["plugged_in:noisy"], ["test"], data=data, out=here / "out", limit=1, machine=machine)
    expected = evaluate("plugged_in:noisy", "test", data=data, limit=1)
    assert table_of(here / "out")["top5"].map(float).tolist() == expected["top5"].tolist()


@pytest.mark.slow
def test_workers_share_devices(data: Path, here: Path) -> None:
    """One device under two names takes the place of two devices."""
    for name, devices in (("one", ("cpu",)), ("two", ("cpu", "cpu:0"))):
        machine = Machine(workers=2, devices=devices)
        run(["plugged_in:noisy"], ["test"], data=data, out=here / name, machine=machine)
    assert lasting(here / "one") == lasting(here / "two")


def test_finished_rows_are_read_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per run, not once per network: splits have up to a million networks."""
    reads: list[str] = []
    monkeypatch.setattr(ResultStore, "finished", lambda self, run: reads.append(run) or {0, 1, 2})
    run(["random"], ["test"], data=data, out=tmp_path, limit=3, machine=Machine(workers=1))
    assert len(reads) == 1


@pytest.mark.slow
def test_splits_limits_images_and_noise(data: Path, here: Path) -> None:
    """Each split can have a limit of its own; networks for model selection are evaluated on validation images."""
    options: dict[str, Any] = {"data": data, "out": here / "out", "machine": Machine(workers=1)}
    run(["random"], ["test", "val"], limit={"test": 1, "val": 2}, noise=[0.0, 0.3], **options)
    rows = table_of(here / "out")[["split", "part", "noise", "index"]]
    assert rows.to_numpy().tolist() == [
        *(["test", "test", noise, "0"] for noise in ("0.0", "0.3")),
        *(["val", "val", noise, index] for noise in ("0.0", "0.3") for index in ("0", "1")),
    ]


@pytest.mark.slow
def test_all_predictors_see_the_same_noise(data: Path, here: Path) -> None:
    clean, noisy = (load_images("digits", "test", noise=noise) for noise in (0.0, 0.3))
    names = ("random", "plugged_in:initial")
    first, second = (evaluate(name, "test", noisy, data=data, limit=2) for name in names)
    assert first["top5"].tolist() == second["top5"].tolist()
    assert first["top5"].tolist() != evaluate("random", "test", clean, data=data, limit=2)["top5"].tolist()


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
        ({"networks": ["deep"]}, "deepnets build --splits deep"),
        ({"networks": ["keras:resnet"]}, "expected torchvision or timm"),
        ({"images": "mnist"}, "mnist"),
        ({"images": "cifar10"}, "cifar10"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"noise": [-1.0]}, "noise"),
    ],
)
def test_invalid_options(data: Path, here: Path, options: dict[str, Any], message: str) -> None:
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
def test_invalid_machines(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Machine(**options)


# --- the command ---


WORDS = ["run", "--predictors", "zero=plugged_in:zeros", "plugged_in:raises", "--splits", "test", "--limit", "1"]


@pytest.mark.slow
def test_a_run_ends_with_a_report(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*WORDS, "--data", str(data), "--out", str(here / "out"), "--workers", "1"])
    output = capsys.readouterr().out
    assert "zero" in output
    assert str(here / "out" / "report.html") in output
    assert (here / "out" / "report.html").stat().st_size > 1000
    assert len(table_of(here / "out")) == 2


@pytest.mark.slow
def test_the_command(data: Path, here: Path) -> None:
    words = WORDS
    process = command(*words, "--data", data, "--out", here / "out", "--workers", "1", cwd=here)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "zero" in output
    assert str(here / "out" / "report.html") in output
    assert (here / "out" / "report.html").stat().st_size > 1000
    assert len(table_of(here / "out")) == 2
    process = command(*words[:2], "zeros", cwd=here)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors.startswith("error: predictor: 'zeros': expected")
    assert errors.count("\n") == 1


def test_the_predictor_of_the_readme(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (source,) = re.findall(r"```python\n([^`]*def predict[^`]*)```", (ROOT / "README.md").read_text())
    (here / "mine.py").write_text(source.partition("\n\ntable = ")[0])  # the function
    table = evaluate("mine:predict", "test", data=data, limit=2)
    assert table["status"].tolist() == ["ok"] * 2
    assert table.attrs["predictor"] == "mine:predict"
    sys.modules.pop("mine", None)


@pytest.mark.slow
def test_a_disk_that_is_almost_full(data: Path, here: Path) -> None:
    """One error before networks are evaluated, and nothing on the disk that would prevent a later run."""
    out = here / "out"
    out.mkdir()
    own = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=20k none "$0" && exec "$@"', str(out))
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    words = [sys.executable, "-m", "benchmark", "run", "--predictors", "random", "--splits", "test", "--limit", "1"]
    words += ["--data", str(data), "--out", str(out), "--workers", "1", "--quiet"]
    done = subprocess.run([*own, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    expected = rf"error: out: {out}: its disk has \d+ kB left; the results of 1 networks need about 2,000 kB\n"
    assert re.fullmatch(expected, done.stderr), done.stderr


@pytest.mark.slow
def test_a_finished_run_needs_no_space(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"data": data, "out": here / "out", "machine": Machine(workers=1)}
    run(["random"], ["test"], **options, limit=1)
    full = shutil.disk_usage(here)._replace(free=1000)
    monkeypatch.setattr("benchmark.results.runner.shutil.disk_usage", lambda folder: full)
    run(["random"], ["test"], **options, limit=1)
    with pytest.raises(ConfigError, match="its disk has 1 kB left; the results of 1 networks need about 2,000 kB"):
        run(["random"], ["test"], **options, limit=2)
    monkeypatch.setattr("benchmark.results.runner.shutil.disk_usage", lambda folder: full._replace(total=0))
    run(["random"], ["test"], **options, limit=2)  # the file system does not know
