"""Builds that fail or are stopped: they print one line, keep finished shards, and resume with the same result.

The builds are separate processes, each in a session of its own, with small shards, so that they can be interrupted at
many points.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepnets.corpus import corpus_path
from deepnets.support import DeepNetsError
from generator import SPLITS, BuildPlan, Workers, build_corpus
from generator.selection import shard_folder
from generator.shards import ShardTask
from tests.generator.builds import INTERRUPTED, SMALL, assert_resumes, make_shards, state
from tests.support.processes import (
    PATIENCE,
    ROOT,
    Corpus,
    Terminal,
    build,
    command,
    digests,
    members,
    one_error,
    shards,
    start,
    until,
    workers_of,
)

# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(4))
def test_a_killed_build_resumes(small_corpus: Corpus, tmp_path: Path, chain: int) -> None:
    """Twenty kills at random times, with one or several processes, in empty folders and in those of killed builds."""
    rng = random.Random(chain)
    options = {**SMALL, **small_corpus.sizes, "splits": "all", "workers": 1 + chain % 2}
    kills = 0
    while kills < 5:
        with start(tmp_path, **options) as process:
            time.sleep(rng.uniform(0.6, 2.0))
            if process.poll() is None:
                kills += 1
            elif not tmp_path.joinpath("deepnets1m_train.h5").exists():
                pytest.fail(process.stderr.read() if process.stderr else "")
        if digests(tmp_path) == small_corpus.digests:  # the build had completed before the kill: start over
            shutil.rmtree(tmp_path)
    assert_resumes(tmp_path, small_corpus, small_corpus.plan.splits)


@pytest.mark.slow
def test_finished_shards_are_kept(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 5)
    before = shards(tmp_path)
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > len(before) or process.poll() is not None)
        after = shards(tmp_path)
    assert {name: after[name] for name in before if name in after} == before or not after
    assert_resumes(tmp_path, small_corpus)


@pytest.mark.slow
def test_workers_end_when_the_builder_is_killed(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(workers_of(process.pid)) == 2 and len(shards(tmp_path)) > 2)
        process.kill()
        process.wait()
        until(lambda: not members(process.pid), seconds=120)
    assert_resumes(tmp_path, small_corpus)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_build(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 2)
        workers_of(process.pid)[0].kill()
        output, errors = process.communicate(timeout=PATIENCE)
        line = one_error(process.returncode, output, errors)
        assert "a loky worker died" in line
        assert "Finished shards are kept: build again to resume" in line
        until(lambda: not members(process.pid), seconds=120)
    assert len(shards(tmp_path)) > 2
    assert_resumes(tmp_path, small_corpus)


@pytest.mark.slow
def test_temporary_files_of_killed_writers_are_removed(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: shards(tmp_path))
    (folder,) = (path for path in tmp_path.joinpath(".partial").iterdir() if path.is_dir())
    for left in (folder / ".search-000000000000-64.h5.123.tmp", tmp_path / ".deepnets1m_train.h5.123.tmp"):
        left.write_bytes(b"half a file")
    assert_resumes(tmp_path, small_corpus)


def test_shards_of_finished_splits_are_removed_and_others_stay(tmp_path: Path) -> None:
    """Also shards of other seeds and versions are removed with their split."""
    for name in ("train-seed7-stream1-0.0.1", "search-seed0-stream0-0.0.1"):
        folder = tmp_path / ".partial" / name
        folder.mkdir(parents=True)
        (folder / "shard.h5").touch()

    def kept() -> list[str]:
        return [path.name for path in tmp_path.joinpath(".partial").glob("*-*")]

    build_corpus(tmp_path, BuildPlan(("search", "val"), search_size=5), workers=Workers(num_workers=1))
    assert kept() == ["train-seed7-stream1-0.0.1"]
    build_corpus(tmp_path, BuildPlan(("train",), train_size=5), workers=Workers(num_workers=1))
    assert not kept()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "deepnets1m_search.h5",
        "deepnets1m_train.h5",
        "deepnets1m_val.h5",
    ]


# --- damaged shards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_shards_are_generated_again_and_others_are_kept(tmp_path: Path, workers: int) -> None:
    tasks = [ShardTask(SPLITS["train"], 0, 50 * i, 50) for i in range(5)]
    make_shards(tasks, tmp_path, Workers(num_workers=workers))
    before = state(tmp_path)
    good, cut, flipped, empty, foreign = (tmp_path / task.name for task in tasks)
    os.truncate(cut, cut.stat().st_size // 2)
    content = bytearray(flipped.read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 4
    flipped.write_bytes(content)
    empty.write_bytes(b"")
    foreign.write_bytes(b"not at all an HDF5 file" * 100)
    make_shards(tasks, tmp_path, Workers(num_workers=workers))
    after = state(tmp_path)
    assert after[good.name] == before[good.name]
    assert {name: content for name, (_, _, content) in after.items()} == {
        name: content for name, (_, _, content) in before.items()
    }


@pytest.mark.slow
def test_a_build_with_damaged_shards_has_the_same_result(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: len(shards(tmp_path)) > 5)
    paths = sorted(tmp_path.glob(".partial/*/[!.]*.h5"))
    os.truncate(paths[0], 1_000)
    content = bytearray(paths[2].read_bytes())
    content[-100] ^= 1
    paths[2].write_bytes(content)
    assert_resumes(tmp_path, small_corpus)


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "workers", "where", "kept"),
    [
        pytest.param(5_000, 2, "search-000000000", False, marks=pytest.mark.slow),
        (50_000, 1, "deepnets1m_search.h5", True),
    ],
)
def test_a_file_that_cannot_grow(
    small_corpus: Corpus, tmp_path: Path, limit: int, workers: int, where: str, kept: bool
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with start(tmp_path, before=limited, workers=workers, **SMALL, **small_corpus.sizes) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    line = one_error(process.returncode, output, errors)
    assert where in line
    assert line.endswith("cannot be written: File too large")
    assert bool(shards(tmp_path)) == kept
    assert_resumes(tmp_path, small_corpus)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk(small_corpus: Corpus, tiny_disk: Path) -> None:
    out = tiny_disk / "data"
    full = build(out, workers=2, **SMALL, **small_corpus.sizes)
    line = one_error(full.returncode, full.stdout, full.stderr)
    assert line.endswith("cannot be written: No space left on device")
    kept = shards(out)
    assert kept
    with pytest.raises(DeepNetsError, match="No space left on device"):
        assert_resumes(out, small_corpus)
    assert kept.items() <= shards(out).items()
    subprocess.run(["mount", "-o", "remount,size=10m", tiny_disk], check=True)
    assert_resumes(out, small_corpus)


def test_folders_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/data"), tmp_path / ("x" * 300)):
        with pytest.raises(DeepNetsError) as raised:
            build_corpus(out, BuildPlan(("val",)))
        assert str(out) in str(raised.value)
        assert "cannot be read or written: " in str(raised.value)
    refused = build(tmp_path / "file" / "data", splits="val")
    one_error(refused.returncode, refused.stdout, refused.stderr)
    (tmp_path / ".partial").write_text("a file where the shards should be")
    with pytest.raises(DeepNetsError, match="File exists"):
        build_corpus(tmp_path, BuildPlan(("val",)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name", ["", ".partial", f".partial/{shard_folder('search', 0)}"], ids=["out", "partial", "shards"]
)
def test_a_folder_without_permission(tmp_path: Path, name: str) -> None:
    words = command(tmp_path, splits="search", search_size=5, workers=1)
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("nothing is forbidden to root")
        override = "-dac_override,-dac_read_search"
        words = ["setpriv", f"--inh-caps={override}", f"--bounding-set={override}", *words]
    folder = tmp_path / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    refused = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    folder.chmod(0o755)
    line = one_error(refused.returncode, refused.stdout, refused.stderr)
    assert line.startswith(f"error: {folder}")
    assert line.endswith("Permission denied")


@pytest.mark.slow
def test_a_read_only_disk(small_corpus: Corpus, val: Path) -> None:
    mount = subprocess.run(["mount", "--bind", "-o", "ro", val, val], capture_output=True)
    if mount.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        refused = build(val, splits="val,test")
        assert one_error(refused.returncode, refused.stdout, refused.stderr).endswith("Read-only file system")
        finished = build(val, splits="val")
        assert (finished.returncode, finished.stderr) == (0, ""), "what is finished needs not be written"
        assert "nothing to do" in finished.stdout
    finally:
        subprocess.run(["umount", val], check=True)


# --- interrupted ------------------------------------------------------------------------------------------------------


def assert_one_line(terminal: Terminal) -> None:
    """Check that the terminal shows only progress bars and one line with the error."""
    assert terminal.lines[-1] == INTERRUPTED, terminal.text
    for line in terminal.lines[:-1]:
        assert set(line) <= set("^C") or "shard" in line or "split" in line, terminal.text


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "presses"), [(2, 3), (1, 1), (1, 2), (2, 1)])
def test_control_c(small_corpus: Corpus, tmp_path: Path, workers: int, presses: int) -> None:
    with Terminal(command(tmp_path, workers=workers, **SMALL, **small_corpus.sizes)) as terminal:
        until(lambda: len(shards(tmp_path)) > 4)
        for _ in range(presses):
            terminal.press(b"\x03")
            time.sleep(0.05)
        assert terminal.wait() == 130
        assert_one_line(terminal)
        until(lambda: not members(terminal.pid), seconds=120)
    kept = shards(tmp_path)
    assert len(kept) > 4
    assert not list(tmp_path.rglob("*.tmp")), "shards in progress are finished, not abandoned"
    assert_resumes(tmp_path, small_corpus)


@pytest.mark.slow
def test_control_c_at_other_times(tmp_path: Path) -> None:
    """Ctrl-C while the evaluation splits are built, while processes start, and while the file is written."""
    options = {"splits": "test,train", "train_size": 20_000, "shard_size": 2_000, "workers": 2}
    for moment in (".partial", "deepnets1m_test.h5", ".deepnets1m_train.h5.*.tmp"):
        shutil.rmtree(tmp_path / ".partial", ignore_errors=True)
        corpus_path(tmp_path, "test").unlink(missing_ok=True)
        with Terminal(command(tmp_path, **options)) as terminal:
            until(lambda: list(tmp_path.glob(moment)))  # noqa: B023
            time.sleep(0.1)
            terminal.press(b"\x03")
            assert terminal.wait() == 130, terminal.text
            assert_one_line(terminal)
        assert not corpus_path(tmp_path, "train").exists()
        assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm(small_corpus: Corpus, tmp_path: Path, whole_group: bool) -> None:
    """SIGTERM to the builder only or, as a service manager sends it, also to its workers."""
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 4)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output, errors) == (130, "", INTERRUPTED + "\n")
        until(lambda: not members(process.pid), seconds=120)
    assert_resumes(tmp_path, small_corpus)


@pytest.mark.slow
def test_finished_progress_bars(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: len(shards(tmp_path)) > 4)
    with Terminal(command(tmp_path, workers=1, **SMALL, **small_corpus.sizes)) as terminal:
        assert terminal.wait() == 0
    search, train = (line for line in terminal.lines if "shard" in line)
    assert search.startswith("search: 100%|")
    assert train.startswith("train: 100%|")
    assert terminal.lines[-1].startswith(
        f"{small_corpus.plan.train_size + small_corpus.plan.search_size:,} networks made in "
    )


# --- in a library ---


def test_other_threads_can_build(tmp_path: Path) -> None:
    reports = []
    plan = BuildPlan(("search",), search_size=20)
    workers = Workers(num_workers=2, shard_size=8)
    thread = threading.Thread(target=lambda: reports.extend(build_corpus(tmp_path, plan, workers=workers)))
    thread.start()
    thread.join(PATIENCE)
    assert [report.networks for report in reports] == [20]


def test_a_build_needs_no_torch() -> None:
    code = "import sys, generator.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
