"""Predictors that misbehave in one run: the rows of all others are those of a run without them, bit for bit."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmark.evaluation import Machine, close_workers, describe_all
from benchmark.evaluation.workers import describe_in_worker
from deepnets import ConfigError
from tests.support.benchmark_runs import VARYING, command, table_of
from tests.support.misbehaving import ANY, EXPECTED, SAME, evaluation, processes, settings, values
from tests.support.shared import make_once
from tests.support.small_corpus import write_small_corpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are isolated completely on Linux only")

MODULES = (evaluation, processes, settings, values)
LABELS = {spec: f"{spec.rpartition('.')[2].replace(':', ' ')}" for spec in EXPECTED}
OWN = ["run", "predictor"]

IMAGES = '''
"""Few images, so that the networks are quick to evaluate."""

from dataclasses import replace

import torch

from deepnets.data import load_images


def few(split="train", **options):
    digits = load_images("digits", split, device=options.get("device", "cpu"))
    return replace(digits, name="few", images=digits.images[:16], labels=digits.labels[:16])


def noisy(model, graph):
    """Draws random numbers of all kinds."""
    import random

    import numpy

    return {
        name: tensor.detach() + 0.1 * torch.rand(tensor.shape) + 0.1 * random.random() + 0.1 * numpy.random.rand()
        for name, tensor in model.named_parameters()
    }
'''


def witness_of(label: str) -> str:
    """Return the next predictor that behaves; there is one after every four that misbehave."""
    labels = list(LABELS.values())
    place = labels.index(label)
    return f"after {labels[min(place - place % 4 + 3, len(labels) - 1)]}"


def is_noisy(label: str) -> bool:
    return list(LABELS.values()).index(label) % 8 == 3


def evaluated(
    folder: Path, data: Path, predictors: list[str], *options: str, networks: int = 2
) -> tuple[pd.DataFrame, str]:
    """Evaluate predictors on networks in a folder; return the rows that do not vary, and what was printed."""
    folder.mkdir()
    (folder / "images_of_user.py").write_text(IMAGES)
    words = ["run", "--predictors", *predictors, "--splits", "test", "--images", "images_of_user:few"]
    words += ["--limit", str(networks)]
    words += ["--data", str(data), "--out", "out", "--workers", "1", "--quiet", "--no-report", *options]
    process = command(*words, cwd=folder)
    try:
        _, printed = process.communicate(timeout=1500)
    finally:
        process.kill()
    assert process.returncode == 0, printed[-3000:]
    return table_of(folder / "out").drop(columns=VARYING), printed


def rows_of(table: pd.DataFrame, label: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = table[table["predictor"] == label].drop(columns=OWN).to_dict("records")
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("small"), "test")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A run without predictors that misbehave."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    table, printed = evaluated(folder, data, ["random", "noisy=images_of_user:noisy"])
    assert not printed
    return table


@pytest.fixture(scope="module")
def disturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path, str]:
    """A run in which predictors that behave follow those that misbehave."""
    predictors = ["random"]
    for spec, label in LABELS.items():
        predictors.append(f"{label}={spec}")
        if witness_of(label) == f"after {label}":
            predictors.append(f"after {label}={'images_of_user:noisy' if is_noisy(label) else 'random'}")
    folder, (table, printed) = make_once(
        tmp_path_factory, "disturbed", lambda folder: evaluated(folder / "run", data, predictors)
    )
    return table, folder / "run", printed


def test_a_few_of_them(data: Path, tmp_path: Path) -> None:
    """One that would gain, and one that changes PyTorch's settings; the slow tests have all of them."""
    names = ["evaluation:patches_the_evaluation", "settings:sets_default_dtype"]
    specs = [f"tests.support.misbehaving.{name}" for name in names]
    labels = [LABELS[spec] for spec in specs]
    predictors = [f"{label}={spec}" for label, spec in zip(labels, specs)]
    table, _ = evaluated(tmp_path / "run", data, ["before=random", *predictors, "random"], networks=1)
    expected = rows_of(table, "before")
    assert [row["status"] for row in expected] == ["ok"]
    assert rows_of(table, "random") == expected
    for spec, label in zip(specs, labels):
        if EXPECTED[spec] == SAME:
            assert rows_of(table, label) == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", LABELS.values())
def test_others_are_not_affected(
    label: str, disturbed: tuple[pd.DataFrame, Path, str], undisturbed: pd.DataFrame
) -> None:
    table, _, _ = disturbed
    witness = witness_of(label)
    expected = rows_of(undisturbed, "noisy" if is_noisy(witness.removeprefix("after ")) else "random")
    assert [row["status"] for row in expected] == ["ok", "ok"]
    assert rows_of(table, witness) == expected
    assert rows_of(table, "random") == rows_of(undisturbed, "random")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("spec", EXPECTED)
def test_its_own_rows(spec: str, disturbed: tuple[pd.DataFrame, Path, str], undisturbed: pd.DataFrame) -> None:
    """They are as if each network were predicted in a process of its own, or state the reason of a failure."""
    rows = rows_of(disturbed[0], LABELS[spec])
    assert [row["index"] for row in rows] == ["0", "1"]
    if EXPECTED[spec] == SAME:
        assert rows == rows_of(undisturbed, "random")
    elif EXPECTED[spec] != ANY:
        assert [row["status"] for row in rows] == ["failed", "failed"]
        for row in rows:
            assert any(text in row["reason"] for text in EXPECTED[spec].split("|")), row["reason"]
            assert row["reason"].isprintable()
            assert row["top1"] == ""
    assert all(row["top1"] != "100.0" for row in rows)


@pytest.mark.slow
def test_a_new_process_for_every_network(data: Path, tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    """With the option --fresh, nothing that a predictor does affects its next network."""
    names = ["settings:draws_in_a_thread", "settings:patches_numpy_and_random", "settings:clears_modules"]
    labels = [name.replace(":", " ") for name in names]
    specs = [f"{label}=tests.support.misbehaving.{name}" for label, name in zip(labels, names)]
    table, _ = evaluated(tmp_path / "run", data, specs, "--fresh")
    for label in labels[:1]:
        assert rows_of(table, label) == rows_of(undisturbed, "random")
    for label in labels[1:]:
        first, second = rows_of(table, label)
        assert (first["status"], first["reason"]) == (second["status"], second["reason"])


@pytest.mark.slow
def test_limits(data: Path, tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    """Limits of time and memory hold for everything that a predictor starts, and for everything that it prints."""
    from tests.support.misbehaving.limits import LIMITS

    predictors = []
    for number, spec in enumerate(LIMITS):
        predictors += [f"limit {number}={spec}", f"after {number}=random"]
    options = ("--timeout", "15", "--memory", "700")
    table, printed = evaluated(tmp_path / "run", data, predictors, *options, networks=1)
    expected = rows_of(undisturbed, "random")[:1]
    for number, (spec, outcome) in enumerate(LIMITS.items()):
        assert rows_of(table, f"after {number}") == expected, spec
        (row,) = rows_of(table, f"limit {number}")
        if outcome != ANY:
            assert row["status"] == "failed", spec
            assert any(text in row["reason"] for text in outcome.split("|")), (spec, row["reason"])
    assert len(printed) < 1_000_000
    assert "\x1b" not in printed
    assert_ended(tmp_path / "run")


@pytest.mark.slow
def test_modules_that_misbehave_when_they_are_imported(tmp_path: Path) -> None:
    """They are imported in a process with limits, and one line says what is wrong."""
    codes = {
        "forges": "import json, os\n"
        "info = dict(label='random', spec='random', kind='random')\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, json.dumps({'request': 0, 'done': True, 'info': info}).encode() + b'\\n')\n"
        "    except OSError: pass\n"
        "def predict(model, graph): return {}\n",
        "leaves": "import os\nos._exit(3)\n",
        "hangs": "import time\ntime.sleep(3600)\n",
        "raises": "raise ValueError('two\\nlines')\n",
        "talks": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[1]\\n')\n    except OSError: pass\n",
        "declares": "class Predict:\n    training_data = 'digits,\\n\\x1b[2J training images'\n"
        "    def __call__(self, model, graph): return {}\n    def __init__(self): pass\n",
    }
    for name, code in codes.items():
        (tmp_path / f"imported_{name}.py").write_text(code)
    machine = Machine(workers=1, timeout=120, working_directory=str(tmp_path)).resolved()
    try:
        (info,) = describe_all(["imported_forges:predict"], machine)
        assert (info.label, info.spec, info.kind) == ("imported_forges:predict", "imported_forges:predict", "python")
        (info,) = describe_all(["mine=imported_declares:Predict"], machine)
        assert (info.label, info.data) == ("mine", "digits, [2J training images")
        for name, reason in {
            "leaves": "its process ended with status 3 while it was imported",
            "raises": "ValueError: two lines",
            "talks": "its process sent an invalid answer while it was imported",
        }.items():
            with pytest.raises(ConfigError, match=reason):
                describe_in_worker(f"imported_{name}:predict", machine)
        with pytest.raises(ConfigError, match="took more than 2 seconds to be imported and created"):
            describe_in_worker("imported_hangs:predict", replace(machine, timeout=2))
    finally:
        close_workers()


@pytest.mark.slow
def test_modules_that_take_memory_when_they_are_imported_or_created(tmp_path: Path) -> None:
    """One line says so.  Each notes how much it has got, in blocks: never more than the limit."""
    limit, block, most = 700_000_000, 50_000_000, 40
    own = f"taken.append(bytearray({block}))"  # of the process, which the system limits
    shared = f"taken.append(mmap.mmap(-1, {block})); taken[-1].write(bytes({block})); time.sleep(0.5)"  # by the guard
    for name, take in {"own": own, "shared": shared}.items():
        loop = f"for _ in range({most}):\n    {take}\n    note('x')\n"
        begin = f"import mmap, time\ntaken = []\ndef note(text):\n    open('notes_{name}.txt', 'a').write(text)\n"
        (tmp_path / f"imports_{name}.py").write_text(f"{begin}{loop}def predict(model, graph): return {{}}\n")
        created = "".join(f"        {line}\n" for line in loop.splitlines())
        (tmp_path / f"creates_{name}.py").write_text(
            f"{begin}class Predict:\n    def __init__(self):\n{created}"
            "    def __call__(self, model, graph): return {}\n"
        )
    machine = Machine(workers=1, timeout=120, memory=limit, working_directory=str(tmp_path)).resolved()
    reasons = {"own": "not enough memory", "shared": "took more memory than allowed while it was imported and created"}
    try:
        for spec in ("imports_own:predict", "creates_own:Predict", "imports_shared:predict", "creates_shared:Predict"):
            way = spec.partition(":")[0].partition("_")[2]
            notes = tmp_path / f"notes_{way}.txt"
            notes.unlink(missing_ok=True)
            with pytest.raises(ConfigError, match=reasons[way]) as caught:
                describe_in_worker(spec, machine)
            assert spec.partition(":")[0] in str(caught.value)
            assert "\n" not in str(caught.value)
            assert block < len(notes.read_text()) * block < limit + 8 * block  # the guard looks twice a block, if idle
    finally:
        close_workers()


@pytest.mark.slow
def test_temporary_files_of_predictors_are_removed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, an open one, and a folder with a file, which it leaves for each network."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "leaving.py").write_text(
        "import os, tempfile\nfrom pathlib import Path\n"
        "kept = []\n"
        "def predict(model, graph):\n"
        "    descriptor, file = tempfile.mkstemp()\n"
        "    os.write(descriptor, bytes(1000))\n"
        "    folder = tempfile.mkdtemp()\n"
        "    (Path(folder) / 'deep').mkdir()\n"
        "    (Path(folder) / 'deep' / 'file').write_bytes(bytes(1000))\n"
        "    kept.append(tempfile.NamedTemporaryFile(delete=False))\n"
        "    with open('left.txt', 'a') as notes:\n"
        "        notes.write(f'{file}\\n{folder}\\n{kept[-1].name}\\n')\n"
        "    return {name: tensor.detach() for name, tensor in model.named_parameters()}\n"
    )
    words = ["run", "--predictors", "leaving:predict", "random", "--splits", "test", "--limit", 2, "--data", data]
    process = command(*words, "--out", "out", "--workers", 2, "--quiet", "--no-report", cwd=tmp_path / "run")
    assert process.communicate(timeout=300) == ("", "")
    assert table_of(tmp_path / "run" / "out")["status"].tolist() == ["ok"] * 4
    left = [Path(line) for line in (tmp_path / "run" / "left.txt").read_text().split()]
    assert len(set(left)) == 6
    assert all(path.is_relative_to(temporary) for path in left)
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_left(disturbed: tuple[pd.DataFrame, Path, str]) -> None:
    """Neither processes, detached or not, nor control characters in the output, nor megabytes of it."""
    _, folder, printed = disturbed
    assert_ended(folder)
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "cleared" in printed
    assert len(printed) < 1_000_000


def assert_ended(folder: Path) -> None:
    """Check that no process is alive that predictors have written down."""
    pids = [int(line) for line in (folder / "survivors.txt").read_text().split()]
    assert pids
    until = time.monotonic() + 30
    while (alive := [pid for pid in pids if _runs_in(pid, folder)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive


def _runs_in(pid: int, folder: Path) -> bool:
    """Whether a process is alive, and not another one that has got the same number since."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
