"""Runs: honest rows whatever a predictor does, and the same rows however they came about."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import evaluate, summarize
from benchmark.commands.run import _bundled
from benchmark.results import Machine, run
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import ConfigError, DeepNets1M, FormatError
from deepnets.support import BusyError, import_torchvision
from ghn_model import GHN, save_checkpoint
from tests.support.small_corpus import write_predictors, write_small_corpus

ROOT = Path(__file__).resolve().parents[3]
VARYING = ["graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds", "memory_mb"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("small"), "test", "val")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of predictors."""
    write_predictors(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugged_in", raising=False)
    return tmp_path


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "networks.csv", keep_default_na=False, dtype=str)


def lasting(folder: Path) -> str:
    """The rows, without what is never the same twice."""
    return str(table_of(folder).drop(columns=VARYING).to_csv(index=False))


def reasons(folder: Path, predictor: str) -> list[str]:
    table = table_of(folder)
    return list(table.loc[table["predictor"] == predictor, "reason"])


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


# --- rows ---


def test_a_run_is_an_evaluation(data: Path, here: Path) -> None:
    """In other processes, by name: the accuracies that `evaluate` finds in this one."""
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
    """Of a machine with one device, by two of its names."""
    for name, devices in (("one", ("cpu",)), ("two", ("cpu", "cpu:0"))):
        machine = Machine(workers=2, devices=devices)
        run(["plugged_in:noisy"], ["test"], data=data, out=here / name, machine=machine)
    assert lasting(here / "one") == lasting(here / "two")


def test_what_is_there_is_looked_up_once(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once per network: splits have a hundred thousand of them."""
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


# --- what a predictor may do ---


def test_whatever_a_predictor_does(data: Path, here: Path) -> None:
    names = ["raises", "nan", "lacks", "adds", "wrong_shape", "dies", "exits", "leaves", "talks", "zeros", "Counts"]
    specs = [f"plugged_in:{name}" for name in names]
    run(specs, ["test"], data=data, out=here / "out", limit=2, machine=Machine(workers=2))
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
        assert len(found) == 2, name
        assert all(text in reason for reason in found), found
    for name in ("talks", "zeros", "Counts"):
        assert reasons(here / "out", f"plugged_in:{name}") == ["", ""]
    table = pd.read_csv(here / "out" / "networks.csv")
    rows = table[table["predictor"] == "plugged_in:dies"]
    assert rows["top1"].isna().all()
    assert (rows["num_params"] > 0).all()  # what was known before is kept
    summary = summarize(rows)
    assert (summary.networks, summary.failures) == (2, 2)
    assert np.isnan(summary.mean)


def test_a_predictor_that_hangs(data: Path, here: Path) -> None:
    started = time.monotonic()
    table = evaluate("plugged_in:hangs_on_the_second", "test", data=data, workers=2, timeout=5)
    assert time.monotonic() - started < 120
    assert table["status"].tolist() == ["ok", "failed", "ok", "ok"]
    assert table["reason"][1] == "took more than 5 seconds; stopped in the phase 'predict'"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_predictor_that_eats_memory(data: Path, here: Path) -> None:
    table = evaluate("plugged_in:eats", "test", data=data, limit=2, memory=700_000_000)
    assert table["status"].tolist() == ["failed", "failed"]
    assert all("not enough memory" in reason for reason in table["reason"])


def test_functions_and_hypernetworks_in_other_processes(data: Path) -> None:
    factor = torch.tensor(0.5)

    def halved(model: Any, graph: Any) -> Any:
        return {name: factor * tensor for name, tensor in model.named_parameters()}

    torch.manual_seed(0)
    for predictor in (halved, GHN("mlp")):
        here, there = evaluate(predictor, "test", data=data), evaluate(predictor, "test", data=data, workers=2)
        assert here["top5"].tolist() == there["top5"].tolist()


def test_less_memory_means_smaller_batches(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As published: 32, 16, ... where 64 do not fit, which the row says."""
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


# --- going on ---


def test_the_same_again_does_nothing(data: Path, here: Path) -> None:
    out = here / "out"
    for _ in range(2):
        run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=2, machine=Machine(workers=1))
        content = (out / "networks.csv").read_bytes()
    begun = json.loads((out / "runs.json").read_text())
    assert len(begun) == 1
    assert next(iter(begun.values()))["finished"]
    run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=3, machine=Machine(workers=1))
    assert (out / "networks.csv").read_bytes().startswith(content)
    assert len(table_of(out)) == 3
    with (here / "plugged_in.py").open("a") as file:
        file.write("# another predictor\n")
    del sys.modules["plugged_in"]
    run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=1, machine=Machine(workers=1))
    assert len(table_of(out)) == 4
    assert len(json.loads((out / "runs.json").read_text())) == 2


def test_failed_networks_are_tried_again_if_wished(data: Path, here: Path) -> None:
    out = here / "out"
    flaky = here / "flaky.py"
    flaky.write_text(
        "from pathlib import Path\nimport plugged_in\n"
        f"def predict(model, graph):\n    assert graph.index or Path({str(here / 'repaired')!r}).exists()\n"
        "    return plugged_in.zeros(model, graph)\n"
    )
    options: dict[str, Any] = {"data": data, "out": out, "limit": 2, "machine": Machine(workers=1)}
    run(["flaky:predict"], ["test"], **options)
    assert table_of(out)["status"].tolist() == ["failed", "ok"]
    (here / "repaired").touch()
    run(["flaky:predict"], ["test"], **options)
    assert table_of(out)["status"].tolist() == ["failed", "ok"]
    run(["flaky:predict"], ["test"], **options, retry_failed=True)
    assert table_of(out)["status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_to_the_same_rows(data: Path, here: Path, number: signal.Signals) -> None:
    words = [
        "run",
        "--predictors",
        "plugged_in:slow",
        "random",
        "--splits",
        "test,val",
        "--data",
        data,
        "--workers",
        "2",
    ]
    words += ["--quiet", "--no-report"]
    whole = command(*words, "--out", here / "whole", cwd=here)
    process = command(*words, "--out", here / "killed", cwd=here, start_new_session=True)
    rows = here / "killed" / "networks.csv"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "interrupted; completed evaluations are kept; run the same command to resume"
    assert whole.wait(120) == 0
    assert 2 <= rows.read_bytes().count(b"\n") < 17
    _, errors = (again := command(*words, "--out", here / "killed", cwd=here)).communicate(timeout=120)
    assert again.returncode == 0, errors
    assert lasting(here / "killed") == lasting(here / "whole")


def test_processes_end_with_the_one_that_asks(data: Path, here: Path) -> None:
    words = ["run", "--predictors", "plugged_in:hangs", "--splits", "test", "--data", data, "--workers", "1"]
    process = command(*words, "--out", here / "out", "--quiet", cwd=here)
    until = time.monotonic() + 120
    while time.monotonic() < until and not workers_of(process.pid):
        time.sleep(0.05)
    workers = workers_of(process.pid)
    assert workers
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 60
    while time.monotonic() < until and any(alive(worker) for worker in workers):
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def workers_of(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    fields = [line.split(None, 2) for line in listing.splitlines()[1:]]
    return [
        int(own)
        for own, parent, words in fields
        if int(parent) == pid and "benchmark.evaluation.worker_process" in words
    ]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kept", [0, 1, 5, 40, 250, -1, -7])
def test_a_torn_file_of_rows_is_mended(data: Path, here: Path, kept: int) -> None:
    out = here / "out"
    options: dict[str, Any] = {"data": data, "out": out, "limit": 2, "machine": Machine(workers=1)}
    run(["plugged_in:zeros"], ["test"], **options)
    before = lasting(out)
    content = (out / "networks.csv").read_bytes()
    (out / "networks.csv").write_bytes(content[:kept])
    run(["plugged_in:zeros"], ["test"], **options)
    assert lasting(out) == before


def test_a_folder_in_use(data: Path, here: Path) -> None:
    with ResultStore(here / "out").opened(), pytest.raises(BusyError, match="in use by another process"):
        run(["random"], ["test"], data=data, out=here / "out", machine=Machine(workers=1))


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "run\n", ",".join(COLUMNS) + "\nx,y\n"])
def test_a_foreign_file_is_left_alone(data: Path, here: Path, content: str) -> None:
    (here / "networks.csv").write_text(content)
    with pytest.raises(FormatError, match="is no table of this version"):
        run(["random"], ["test"], data=data, out=here, machine=Machine(workers=1))
    assert (here / "networks.csv").read_text() == content


# --- kinds of predictors ---


def test_saved_states(data: Path, here: Path) -> None:
    """Parameters alone are evaluated with batch statistics, whole states with their own."""
    from benchmark.training import evaluate_trained, track_statistics
    from deepnets.data import load_images
    from ghn_model.checkpoints import write_tensors

    nets = DeepNets1M(data, "test")
    folder = here / "saved"
    folder.mkdir()
    torch.manual_seed(1)
    networks = [nets.network(index) for index in range(2)]
    write_tensors(folder / "test-0.safetensors", dict(networks[0].named_parameters()), {})
    trained = track_statistics(networks[1])
    with torch.no_grad():
        trained(torch.randn(20, 3, 32, 32))
    torch.save(trained.state_dict(), folder / "test-1.pt")
    table = evaluate(str(folder), "test", data=data, limit=3)
    assert table["status"].tolist() == ["ok", "ok", "failed"]
    assert table["batch_norm"].tolist()[:1] == ["batch"]
    assert "has no test-2.safetensors" in table["reason"][2]
    images = load_images("digits", "test")
    assert table["top5"][1] == evaluate_trained(networks[1], trained.state_dict(), images).top5


def test_training_as_a_predictor(data: Path, here: Path) -> None:
    run(["sgd:1", "random"], ["test"], data=data, out=here / "out", limit=1, machine=Machine(workers=1))
    table = pd.read_csv(here / "out" / "networks.csv")
    assert table["batch_norm"].tolist() == ["running", "batch"]
    assert table["predictor"].tolist() == ["sgd-1", "random"]
    assert table["top1"][0] > table["top1"][1]


def test_a_file_of_a_hypernetwork(data: Path, here: Path) -> None:
    torch.manual_seed(0)
    ghn = GHN("mlp")
    (here / "mine").mkdir()
    save_checkpoint(ghn, here / "mine" / "ghn.safetensors", {"about": "just made"})
    run(["mine/ghn.safetensors"], ["test"], data=data, out=here / "out", limit=2, machine=Machine(workers=1))
    about = next(iter(json.loads((here / "out" / "runs.json").read_text()).values()))
    assert about["predictor"]["label"] == "mine"
    assert about["predictor"]["about"] == "just made"
    assert (
        table_of(here / "out")["top1"].map(float).tolist() == evaluate(ghn, "test", data=data, limit=2)["top1"].tolist()
    )


def test_an_official_checkpoint(data: Path, here: Path) -> None:
    torch.manual_seed(0)
    ghn = GHN("ghn2")
    torch.save({"state_dict": ghn.state_dict()}, here / "ghn2_cifar10.pt")
    table, expected = (evaluate(each, "test", data=data, limit=2) for each in (str(here / "ghn2_cifar10.pt"), ghn))
    assert table["top5"].tolist() == expected["top5"].tolist()
    assert table.attrs["predictor"] == "ghn2_cifar10"


@pytest.mark.parametrize(("images", "names"), [("digits", 3), ("imagenet", 0)])
def test_what_is_evaluated_unless_said_otherwise(images: str, names: int) -> None:
    """What comes with the package for these images: predictions for others mean nothing."""
    found = _bundled(images)
    assert len(found) == names
    assert all(name.endswith(images) for name in found)


def test_models_of_timm(here: Path) -> None:
    table = evaluate("random", "timm:resnet10t", data=here)
    assert (table["network"][0], table["status"][0]) == ("resnet10t", "ok")
    with pytest.raises(ConfigError, match="timm has no classifier 'resnet10'; did you mean"):
        evaluate("random", "timm:resnet10", data=here)


def test_models_of_a_library(here: Path) -> None:
    import_torchvision()
    table = evaluate("random", "torchvision:squeezenet1_1,shufflenet_v2_x0_5", data=here)
    assert table["network"].tolist() == ["squeezenet1_1", "shufflenet_v2_x0_5"]
    assert table["status"].tolist() == ["ok", "ok"]
    swapped = evaluate("random", "torchvision:shufflenet_v2_x0_5", data=here)
    assert swapped["top5"][0] == table["top5"][1]  # its place in the list does not matter


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictors": ["nothing"]}, "expected a bundled hypernetwork"),
        ({"predictors": ["plugged_in:zero"]}, "did you mean zeros"),
        ({"predictors": ["plugged_in:number"]}, "is a int; expected a callable"),
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
    with pytest.raises(ConfigError, match=message):
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
