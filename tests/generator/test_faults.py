"""Whatever happens to a build, it says so in one line, keeps its finished shards, and comes to the same end later.

The builds are real processes in sessions of their own.  Their shards are small, so that there are many moments to be
disturbed at.
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
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from deepnets.corpus import CorpusFile, corpus_path, write_corpus
from deepnets.support import ConfigError, DeepNetsError
from generator import SPLITS, BuildPlan, Workers, build_corpus
from generator.selection import shard_folder
from generator.shards import ShardTask
from tests.generator.make_shards import make_shards
from tests.support.processes import (
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

INTERRUPTED = "interrupted; finished shards are kept: run the same command again to resume"
SHARD_SIZE = 64
SMALL = {"splits": "search,train", "shard_size": SHARD_SIZE}


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, time and bytes of every file in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_resumes(out: Path, corpus: Corpus, splits: tuple[str, ...] = ("search", "train")) -> None:
    """Build again, to the end: the same content, and nothing else in the folder."""
    workers = Workers(num_workers=1, shard_size=SHARD_SIZE)
    build_corpus(out, replace(corpus.plan, splits=splits), workers=workers)
    assert digests(out) == {split: corpus.digests[split] for split in splits}
    assert sorted(path.name for path in out.iterdir()) == sorted(f"deepnets1m_{split}.h5" for split in splits)


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(4))
def test_killed_at_any_moment_a_build_resumes(small_corpus: Corpus, tmp_path: Path, chain: int) -> None:
    """Twenty times, with one process and with several, on empty folders and on those that earlier kills left."""
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
        if digests(tmp_path) == small_corpus.digests:  # it was faster than that: begin again
            shutil.rmtree(tmp_path)
    assert_resumes(tmp_path, small_corpus, small_corpus.plan.splits)


def test_shards_that_were_finished_are_kept(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 5)
    before = shards(tmp_path)
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > len(before) or process.poll() is not None)
        after = shards(tmp_path)
    assert {name: after[name] for name in before if name in after} == before or not after
    assert_resumes(tmp_path, small_corpus)


def test_workers_end_when_the_builder_is_killed(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(workers_of(process.pid)) == 2 and len(shards(tmp_path)) > 2)
        process.kill()
        process.wait()
        until(lambda: not members(process.pid), seconds=10)
    assert_resumes(tmp_path, small_corpus)


def test_a_worker_that_is_killed_ends_the_build(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 2)
        workers_of(process.pid)[0].kill()
        output, errors = process.communicate(timeout=30)
        line = one_error(process.returncode, output, errors)
        assert "a loky worker died" in line
        assert "Finished shards are kept: build again to resume" in line
        until(lambda: not members(process.pid), seconds=10)
    assert len(shards(tmp_path)) > 2
    assert_resumes(tmp_path, small_corpus)


def test_what_killed_writers_left_is_removed(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: shards(tmp_path))
    (folder,) = (path for path in tmp_path.joinpath(".partial").iterdir() if path.is_dir())
    for left in (folder / ".search-000000000000-64.h5.123.tmp", tmp_path / ".deepnets1m_train.h5.123.tmp"):
        left.write_bytes(b"half a file")
    assert_resumes(tmp_path, small_corpus)


def test_shards_of_finished_splits_are_removed_and_others_stay(tmp_path: Path) -> None:
    """Those of other seeds and versions, too, go with their split."""
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
def test_a_damaged_shard_is_made_again_and_others_are_not(tmp_path: Path, workers: int) -> None:
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


def test_a_build_with_damaged_shards_comes_to_the_same_end(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: len(shards(tmp_path)) > 5)
    paths = sorted(tmp_path.glob(".partial/*/[!.]*.h5"))
    os.truncate(paths[0], 1_000)
    content = bytearray(paths[2].read_bytes())
    content[-100] ^= 1
    paths[2].write_bytes(content)
    assert_resumes(tmp_path, small_corpus)


# --- two builds, finished builds, other builds ------------------------------------------------------------------------


def test_a_second_build_in_the_folder_is_refused(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: shards(tmp_path))
        os.kill(process.pid, signal.SIGSTOP)
        second = build(tmp_path, workers=1, splits="val")
        os.kill(process.pid, signal.SIGCONT)
        assert one_error(second.returncode, second.stdout, second.stderr) == (
            f"error: {tmp_path}: another build is running in this folder; wait for it or choose another"
        )
        assert process.wait(timeout=60) == 0
    assert digests(tmp_path) == {split: small_corpus.digests[split] for split in ("search", "train")}


def test_the_lock_of_a_killed_build_holds_nobody_up(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes):
        until(lambda: shards(tmp_path))
    assert (tmp_path / ".partial" / ".lock").exists()
    assert_resumes(tmp_path, small_corpus)


def test_a_finished_build_is_left_alone(small_corpus: Corpus) -> None:
    before, times = state(small_corpus.out), small_corpus.out.stat()
    again = build(small_corpus.out, **small_corpus.sizes)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == f"nothing to do: {small_corpus.out} is complete"
    assert again.stdout.count("(was complete)") == len(SPLITS)
    assert again.stderr == ""
    assert state(small_corpus.out) == before
    assert small_corpus.out.stat().st_mtime_ns == times.st_mtime_ns
    (report,) = build_corpus(small_corpus.out, BuildPlan(("val",)))
    assert not report.built
    assert report.content_digest == small_corpus.digests["val"]


def test_finished_files_are_read_once(small_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if other splits are missing, which is found out before the folder is locked."""
    read = []
    monkeypatch.setattr("generator.build.verify_checksum", lambda path: read.append(path.name))
    for split in ("val", "test"):
        shutil.copy(corpus_path(small_corpus.out, split), tmp_path)
    reports = build_corpus(tmp_path, BuildPlan(("val", "test", "bnfree")), workers=Workers(num_workers=1))
    assert {report.split: report.built for report in reports} == {"val": False, "test": False, "bnfree": True}
    assert sorted(read) == ["deepnets1m_test.h5", "deepnets1m_val.h5"]


@pytest.fixture
def val(small_corpus: Corpus, tmp_path: Path) -> Path:
    """A folder with a copy of the smallest file, that of `val`."""
    shutil.copy(corpus_path(small_corpus.out, "val"), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": "val", "seed": 1}, "was built with other parameters (seed 0 instead of 1)"),
        ({"splits": "all", "seed": 1}, "was built with other parameters (seed 0 instead of 1)"),
        ({"splits": "test", "seed": 1}, "belongs to another corpus (seed 0, stream 1; not seed 1, stream 1)"),
    ],
)
def test_other_parameters_are_refused_before_anything_is_done(val: Path, options: dict, message: str) -> None:
    before = state(val)
    refused = build(val, **options)
    line = one_error(refused.returncode, refused.stdout, refused.stderr)
    assert line.startswith(f"error: {val}/deepnets1m_val.h5: {message}")
    assert "build into another" in line
    assert state(val) == before
    assert [path.name for path in val.iterdir()] == ["deepnets1m_val.h5"]


def test_other_sizes_are_refused_and_replaced_on_demand(tmp_path: Path) -> None:
    small, large = BuildPlan(("search",), search_size=5), BuildPlan(("search",), search_size=6)
    build_corpus(tmp_path, small, workers=Workers(num_workers=1))
    with pytest.raises(ConfigError, match=r"size 5 instead of 6.*--overwrite"):
        build_corpus(tmp_path, large)
    (report,) = build_corpus(tmp_path, large, workers=Workers(num_workers=1), overwrite=True)
    assert report.built
    assert report.networks == 6
    (report,) = build_corpus(tmp_path, large, overwrite=True)
    assert not report.built, "what is right is not made again"


@pytest.mark.parametrize("kind", ["text", "empty", "other HDF5", "damaged"])
def test_files_in_the_way_are_refused_and_replaced_on_demand(val: Path, small_corpus: Corpus, kind: str) -> None:
    path = val / "deepnets1m_val.h5"
    if kind == "text":
        path.write_text("my notes")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other HDF5":
        with h5py.File(path, "w") as file:
            file["numbers"] = [1, 2, 3]
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    before = state(val)
    with pytest.raises(ConfigError, match="--overwrite"):
        build_corpus(val, BuildPlan(("test", "val")))
    assert state(val) == before
    build_corpus(val, BuildPlan(("test", "val")), workers=Workers(num_workers=1), overwrite=True)
    assert digests(val) == {split: small_corpus.digests[split] for split in ("test", "val")}


def test_an_imported_split_is_another_corpus(val: Path, small_corpus: Corpus) -> None:
    with CorpusFile(corpus_path(small_corpus.out, "bnfree")) as file:
        about = {"split": "test", "size": 100, "origin": "original release (nets.hdf5)"}
        write_corpus(corpus_path(val, "test"), about, file.columns, [file.wiring(0, 100)])
    with pytest.raises(ConfigError, match=r"another corpus \(original release \(nets.hdf5\); not seed 0"):
        build_corpus(val, BuildPlan(("deep",)))


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    corpus_path(tmp_path, "val").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"deepnets1m_val.h5: is a folder"):
            build_corpus(tmp_path, BuildPlan(("test", "val")), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["deepnets1m_val.h5"]


def test_foreign_files_that_are_not_in_the_way_do_not_matter(val: Path) -> None:
    (val / "deepnets1m_test.h5").write_text("my notes")
    (val / "notes.txt").write_text("more of them")
    build_corpus(val, BuildPlan(("bnfree",)), workers=Workers(num_workers=1))
    assert (val / "deepnets1m_test.h5").read_text() == "my notes"
    assert (val / "notes.txt").exists()


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "workers", "where", "kept"),
    [
        (5_000, 2, "search-000000000", False),
        (50_000, 1, "deepnets1m_search.h5", True),
    ],
)
def test_a_file_that_cannot_grow(
    small_corpus: Corpus, tmp_path: Path, limit: int, workers: int, where: str, kept: bool
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with start(tmp_path, before=limited, workers=workers, **SMALL, **small_corpus.sizes) as process:
        output, errors = process.communicate(timeout=60)
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


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
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
    refused = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    folder.chmod(0o755)
    line = one_error(refused.returncode, refused.stdout, refused.stderr)
    assert line.startswith(f"error: {folder}")
    assert line.endswith("Permission denied")


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
    """On the screen are progress bars, at most, and the line that says what happened."""
    assert terminal.lines[-1] == INTERRUPTED, terminal.text
    for line in terminal.lines[:-1]:
        assert set(line) <= set("^C") or "shard" in line or "split" in line, terminal.text


@pytest.mark.parametrize(("workers", "presses"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_control_c(small_corpus: Corpus, tmp_path: Path, workers: int, presses: int) -> None:
    with Terminal(command(tmp_path, workers=workers, **SMALL, **small_corpus.sizes)) as terminal:
        until(lambda: len(shards(tmp_path)) > 4)
        for _ in range(presses):
            terminal.press(b"\x03")
            time.sleep(0.05)
        assert terminal.wait() == 130
        assert_one_line(terminal)
        until(lambda: not members(terminal.pid), seconds=10)
    kept = shards(tmp_path)
    assert len(kept) > 4
    assert not list(tmp_path.rglob("*.tmp")), "shards in progress are finished, not abandoned"
    assert_resumes(tmp_path, small_corpus)


def test_control_c_at_other_moments(tmp_path: Path) -> None:
    """While the evaluation splits are made, while processes start, while the file is written."""
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


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_polite_kill(small_corpus: Corpus, tmp_path: Path, whole_group: bool) -> None:
    """SIGTERM, to the builder alone or, as a service manager sends it, to its workers, too."""
    with start(tmp_path, workers=2, **SMALL, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 4)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output, errors) == (130, "", INTERRUPTED + "\n")
        until(lambda: not members(process.pid), seconds=10)
    assert_resumes(tmp_path, small_corpus)


def test_a_finished_bar_says_so(small_corpus: Corpus, tmp_path: Path) -> None:
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


def test_other_threads_can_build_too(tmp_path: Path) -> None:
    reports = []
    plan = BuildPlan(("search",), search_size=20)
    workers = Workers(num_workers=2, shard_size=8)
    thread = threading.Thread(target=lambda: reports.extend(build_corpus(tmp_path, plan, workers=workers)))
    thread.start()
    thread.join(60)
    assert [report.networks for report in reports] == [20]


def test_a_build_needs_no_torch() -> None:
    code = "import sys, generator.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
