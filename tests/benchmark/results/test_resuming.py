"""Repeated, interrupted and killed runs, and folders with damaged or unrelated files."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark import Metric, evaluate
from benchmark.evaluation import describe_predictor
from benchmark.metrics import METRICS
from benchmark.results import Machine, read_results, run
from benchmark.results.code_texts import describe_code
from benchmark.results.descriptions import sources
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import FormatError
from deepnets.support import BusyError
from ghn_model.tasks import Classification
from tests.support.benchmark_runs import command, lasting, table_of
from tests.support.processes import PATIENCE, family, running, until


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run of `random` on two networks; copy it before changing it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    run(["random"], ["test"], data=data, out=out, limit=2, machine=Machine(workers=1))
    return out


def test_a_finished_run_is_not_repeated(finished: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    content = (out / "networks.csv").read_bytes()
    run(["random"], ["test"], data=data, out=out, limit=2, machine=Machine(workers=1))
    assert (out / "networks.csv").read_bytes() == content
    (about,) = json.loads((out / "runs.json").read_text()).values()
    assert about["finished"]


@pytest.mark.slow
def test_a_changed_predictor_is_another_run(data: Path, here: Path) -> None:
    options: dict[str, Any] = {"data": data, "out": here / "out", "machine": Machine(workers=1)}
    run(["plugged_in:zeros"], ["test"], limit=2, **options)
    content = (here / "out" / "networks.csv").read_bytes()
    with (here / "plugged_in.py").open("a") as file:
        file.write("# another predictor\n")
    run(["plugged_in:zeros"], ["test"], limit=1, **options)
    assert (here / "out" / "networks.csv").read_bytes().startswith(content)
    assert len(table_of(here / "out")) == 3
    assert len(json.loads((here / "out" / "runs.json").read_text())) == 2


def test_the_run_that_was_asked_for_last_is_shown(finished: Path, data: Path, tmp_path: Path) -> None:
    """Also if it was finished before another one; its description stays that of the command which made the rows."""
    out = shutil.copytree(finished, tmp_path / "out")
    options: dict[str, Any] = {"data": data, "out": out, "machine": Machine(workers=1)}
    (before,) = json.loads((out / "runs.json").read_text()).values()
    run(["random"], ["test"], limit=1, seed=1, command="a try", **options)
    assert len(read_results(out).rows) == 1
    run(["random"], ["test"], index=1, command="a part", **options)
    assert len(read_results(out).rows) == 2
    after = json.loads((out / "runs.json").read_text())[read_results(out).rows["run"][0]]
    assert {**after, "asked": ""} == {**before, "asked": ""}
    assert after["asked"] > before["asked"]


def test_a_repeated_part_keeps_the_command_of_the_whole(finished: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    path = out / "networks.csv"
    path.write_text(path.read_text().replace(",ok,", ",failed,", 1))
    (before,) = json.loads((out / "runs.json").read_text()).values()
    options: dict[str, Any] = {"data": data, "out": out, "machine": Machine(workers=1)}
    run(["random"], ["test"], index=0, command="a part", retry_failed=True, **options)
    (after,) = json.loads((out / "runs.json").read_text()).values()
    assert table_of(out)["status"].tolist() == ["ok", "ok"]
    assert (after["command"], after["networks"], after["limit"]) == (before["command"], 2, 2)
    run(["random"], ["test"], limit=3, command="more", **options)
    (after,) = json.loads((out / "runs.json").read_text()).values()
    assert (after["command"], after["networks"]) == ("more", 3)


def test_changed_code_of_users_is_another_run(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = {
        "judged": "from benchmark import Metric\n"
        "loss = Metric('mine', 'mine', '', lambda logits, labels: logits.sum(1) * 0 + 1.0, higher_is_better=False)\n",
        "shown": "from deepnets.data import load_images\n"
        "def digits(split, **options):\n    return load_images('digits', split)\n",
        "drawn": "from torch import nn\nfrom deepnets.families import Family, FamilySplit\n"
        "class Net(nn.Sequential):\n    def __init__(self, width, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(3072, width), nn.Linear(width, num_classes))\n"
        "SPLIT = FamilySplit(1, configs=[{'width': 4}])\n"
        "FAMILY = Family('drawn', Net, {'width': [4, 8]}, sizes=['width'], splits={'test': SPLIT})\n",
    }
    options: dict[str, Any] = {"data": data, "out": here / "out", "machine": Machine(workers=1), "limit": 1}
    same, new, registered = "", "# changed\n", METRICS._entries
    changes = [("judged", same), ("judged", same), ("judged", new), ("shown", new), ("drawn", new), ("drawn", same)]
    for expected, (module, change) in zip((1, 1, 2, 3, 4, 4), changes, strict=True):
        code[module] += change
        for name, text in code.items():
            (here / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(METRICS, "_entries", {**registered})
        run(["random"], ["family:drawn:FAMILY"], "shown:digits", metrics=["judged:loss"], **options)
        assert len(table_of(here / "out")) == expected


@pytest.mark.parametrize("part", ["__init__", "model", "layers.parts"])
def test_the_digest_of_a_predictor_covers_the_modules_that_it_imports(here: Path, part: str) -> None:
    texts = {
        "__init__": "from .model import predict\n",
        "model": "import numpy, benchmark\nfrom .layers.parts import VALUE\ndef predict(model, graph): ...\n",
        "layers.__init__": "",
        "layers.parts": "VALUE = 1\n",
        "unrelated": "",
    }
    package = f"of_user_{part.replace('.', '_')}"
    (here / package / "layers").mkdir(parents=True)
    for name, text in texts.items():
        (here / package / f"{name.replace('.', '/')}.py").write_text(text)
    before = describe_predictor(f"{package}:predict").digest
    (here / package / "unrelated.py").write_text("# changed\n")
    assert describe_predictor(f"{package}:predict").digest == before
    with (here / package / f"{part.replace('.', '/')}.py").open("a") as file:
        file.write("# changed\n")
    assert describe_predictor(f"{package}:predict").digest != before
    alone = describe_predictor("plugged_in:zeros").digest
    assert alone == hashlib.sha256((here / "plugged_in.py").read_bytes()).hexdigest()


def test_metrics_and_tasks_that_are_objects_have_digests(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "of_user.py").write_text(
        "from benchmark import Metric\nfrom ghn_model.tasks import Classification\n"
        "def score(logits, labels): ...\nclass Mine(Classification): ...\n"
    )
    monkeypatch.syspath_prepend(str(here))
    of_user = importlib.import_module("of_user")
    digest = hashlib.sha256((here / "of_user.py").read_bytes()).hexdigest()
    for found in (Metric("a", "", "", of_user.score), of_user.Mine()):
        assert sources("digits", "test", [found, METRICS["perplexity"], Classification()]) == {"of_user": digest}
    partials = [sources("digits", "test", [Metric("a", "", "", partial(of_user.score, k=k))]) for k in (1, 1, 2)]
    assert partials[0] == partials[1] != partials[2]
    assert [each["of_user"] for each in partials] == [digest] * 3

    def in_notebook(text: str, lines_before: int = 0) -> dict[str, str]:
        names: dict[str, Any] = {"__name__": "__main__", "Classification": Classification, "Metric": Metric}
        exec("\n" * lines_before + text, names)
        return sources("digits", "test", [names["found"]])

    for text in (
        "found = Metric('a', '', '', lambda logits, labels: 1.0)",
        "def outer(x):\n    return lambda logits, labels: x\nfound = Metric('a', '', '', outer(1.0))",
        "class Mine(Classification):\n    def inputs(self, images, labels):\n        return 1.0\nfound = Mine()",
        "def one(x):\n    return 1.0\ndef score(a, b):\n    return one(score)\nfound = Metric('a', '', '', score)",
        "GAIN = [1.0]\nfound = Metric('a', '', '', lambda logits, labels: [GAIN for _ in labels])",
        "class Base(Classification):\n    gain = 1.0\nclass Mine(Base): ...\nfound = Mine()",
        "class Mine(Classification): ...\nfound = Mine()\nfound.gain = 1.0",
        "import torch\ndef outer(x):\n    return lambda a, b: x\nfound = Metric('a', '', '', outer(torch.tensor(1.0)))",
        "def outer():\n    f = lambda a, b: x * 1.0\n    return f\n    x = 1\nfound = Metric('a', '', '', outer())",
    ):
        (digest,) = in_notebook(text).values()
        assert digest in in_notebook(text, lines_before=3).values()
        assert digest not in in_notebook(text.replace("1.0", "5.0")).values()


def test_code_that_is_used_in_many_places_is_described_once() -> None:
    """Each of forty functions calls the next two: there are a hundred million ways through them."""
    texts = []
    for value in ("1.0", "1.0", "2.0"):
        names: dict[str, Any] = {"__name__": "__main__"}
        calls = "".join(f"def f{i}():\n    return f{i + 1}, f{i + 2}\n" for i in range(40))
        exec(f"{calls}def f40():\n    return {value}\nf41 = f40", names)
        texts.append(describe_code(names["f0"]))
    assert texts[0] == texts[1] != texts[2]


def test_failed_networks_are_evaluated_again_on_request(finished: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    path = out / "networks.csv"
    assert path.read_text().count(",ok,") == 2
    path.write_text(path.read_text().replace(",ok,", ",failed,", 1))
    options: dict[str, Any] = {"data": data, "out": out, "limit": 2, "machine": Machine(workers=1)}
    run(["random"], ["test"], **options)
    assert table_of(out)["status"].tolist() == ["failed", "ok"]
    run(["random"], ["test"], **options, retry_failed=True)
    assert lasting(out) == lasting(finished)


@pytest.mark.slow
def test_an_interrupted_run_resumes(data: Path, here: Path) -> None:
    """Ctrl-C keeps the finished rows and prints one line; a resumed run evaluates the others."""
    (here / "waiting.py").write_text(
        "import time\nfrom pathlib import Path\nimport plugged_in\n"
        "def predict(model, graph):\n"
        f"    while graph.index == 2 and not Path({str(here / 'resumed')!r}).exists():\n        time.sleep(0.05)\n"
        "    return plugged_in.noisy(model, graph)\n"
    )
    words = ["run", "--predictors", "waiting:predict", "--splits", "test", "--data", data, "--workers", "1", "--quiet"]
    process = command(*words, "--no-report", "--out", here / "out", cwd=here, start_new_session=True)
    rows = here / "out" / "networks.csv"
    until(lambda: rows.exists() and rows.read_bytes().count(b"\n") >= 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip() == "interrupted; completed evaluations are kept; run the same command to resume"
    before = rows.read_bytes()
    assert before.count(b"\n") == 3
    (here / "resumed").touch()
    run(["waiting:predict"], ["test"], data=data, out=here / "out", machine=Machine(workers=1))
    assert rows.read_bytes().startswith(before)  # finished networks are not evaluated again
    expected = evaluate("waiting:predict", "test", data=data)
    for column in ("index", "top1", "top5", "status"):
        assert table_of(here / "out")[column].tolist() == [str(value) for value in expected[column]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_of_several_jobs_resumes(data: Path, here: Path, number: signal.Signals) -> None:
    """Two predictors, two splits and two workers; the resumed run has the rows of an uninterrupted one."""
    words = ["run", "--predictors", "plugged_in:slow", "random", "--splits", "test,val", "--data", data]
    words += ["--workers", "2", "--quiet", "--no-report"]
    whole = command(*words, "--out", here / "whole", cwd=here)
    process = command(*words, "--out", here / "killed", cwd=here, start_new_session=True)
    rows = here / "killed" / "networks.csv"
    until(lambda: rows.exists() and rows.read_bytes().count(b"\n") >= 3)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=300)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "interrupted; completed evaluations are kept; run the same command to resume"
    assert whole.wait(300) == 0
    assert 2 <= rows.read_bytes().count(b"\n") < 17
    _, errors = (again := command(*words, "--out", here / "killed", cwd=here)).communicate(timeout=300)
    assert again.returncode == 0, errors
    assert lasting(here / "killed") == lasting(here / "whole")


@pytest.mark.slow
def test_workers_end_when_the_main_process_is_killed(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a predictor is running; their temporary files are removed."""
    (here / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(here / "temporary"))
    (here / "hanging.py").write_text(
        "import time\nfrom pathlib import Path\n"
        f"def predict(model, graph):\n    Path({str(here / 'running')!r}).touch()\n    time.sleep(3600)\n"
    )
    words = ["run", "--predictors", "hanging:predict", "--splits", "test", "--data", data, "--workers", "1"]
    process = command(*words, "--out", here / "out", "--quiet", cwd=here)
    until(lambda: (here / "running").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    workers = family(process.pid).values()
    assert len(workers) >= 3  # the process server, a guard, a predictor
    assert list((here / "temporary").glob("benchmark-*"))
    process.kill()
    process.communicate(timeout=300)
    try:
        until(lambda: not any(map(running, workers)), seconds=120)
        assert not list((here / "temporary").glob("benchmark-*"))
    finally:
        for worker in filter(running, workers):
            worker.kill()


@pytest.mark.slow
def test_incomplete_lines_are_removed(finished: Path, tmp_path: Path) -> None:
    """A file that is cut at any byte keeps its complete rows, and nothing else."""
    out = shutil.copytree(finished, tmp_path / "out")
    path = out / "networks.csv"
    content = path.read_bytes()
    (name,) = json.loads((out / "runs.json").read_text())
    for kept in range(len(content) + 1):
        path.write_bytes(content[:kept])
        complete = content[:kept].count(b"\n")  # with the header
        with ResultStore(out).opened() as store:
            assert store.finished(name) == set(range(complete - 1))
        assert (path.read_bytes() if path.exists() else b"") == b"".join(content.splitlines(keepends=True)[:complete])


@pytest.mark.slow
@pytest.mark.parametrize("kept", [250, *(pytest.param(kept, marks=pytest.mark.slow) for kept in (0, 1, 5, 40, -1, -7))])
def test_missing_rows_are_evaluated(finished: Path, data: Path, tmp_path: Path, kept: int) -> None:
    """Rows that are missing because the file was truncated, and because the limit is larger."""
    out = shutil.copytree(finished, tmp_path / "out")
    (out / "networks.csv").write_bytes((out / "networks.csv").read_bytes()[:kept])
    run(["random"], ["test"], data=data, out=out, limit=3, machine=Machine(workers=1))
    table = lasting(out)
    assert table.startswith(lasting(finished))
    assert table.count("\n") == 4


def test_a_folder_in_use(data: Path, here: Path) -> None:
    with ResultStore(here / "out").opened(), pytest.raises(BusyError, match="in use by another process"):
        run(["random"], ["test"], data=data, out=here / "out", machine=Machine(workers=1))


@pytest.mark.slow
def test_two_runs_into_one_folder(finished: Path, data: Path, here: Path) -> None:
    """The second one ends with one line, and changes nothing; afterwards it adds its rows to those of the first."""
    (here / "waiting.py").write_text(
        "import time\nfrom pathlib import Path\nfrom plugged_in import zeros\n"
        f"here = Path({str(here)!r})\n"
        "def predict(model, graph):\n"
        "    (here / f'{graph.index}').touch()\n"
        "    while graph.index == 1 and not (here / 'go').exists():\n        time.sleep(0.1)\n"
        "    return zeros(model, graph)\n"
    )
    out = here / "out"
    words = ["--splits", "test", "--limit", 2, "--data", data, "--out", out, "--workers", 1, "--quiet", "--no-report"]
    first = command("run", "--predictors", "waiting:predict", *words, cwd=here)
    until(lambda: (here / "1").exists() or first.poll() is not None)
    assert first.poll() is None, first.communicate()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert before["networks.csv"].count(b"\n") == 2  # the header and the first row
    second = command("run", "--predictors", "random", *words, cwd=here)
    printed, errors = second.communicate(timeout=PATIENCE)
    assert (second.returncode, printed) == (1, "")
    assert errors == f"error: {out}: is in use by another process; wait until it has ended, or choose another folder\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (here / "go").touch()
    assert first.communicate(timeout=PATIENCE) == ("", "")
    rows = (out / "networks.csv").read_text()
    assert rows.startswith(before["networks.csv"].decode())
    assert rows.count(",ok,") == 2
    again = command("run", "--predictors", "random", *words, cwd=here)
    assert again.communicate(timeout=PATIENCE) == ("", "")
    assert (out / "networks.csv").read_text().startswith(rows)
    assert len(json.loads((out / "runs.json").read_text())) == 2
    assert lasting(out).splitlines()[3:] == lasting(finished).splitlines()[1:]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "run\n", ",".join(COLUMNS) + "\nx,y\n"])
def test_an_unrelated_file_is_not_changed(data: Path, here: Path, content: str) -> None:
    (here / "networks.csv").write_text(content)
    with pytest.raises(FormatError, match="is no table of this version"):
        run(["random"], ["test"], data=data, out=here, machine=Machine(workers=1))
    assert (here / "networks.csv").read_text() == content
