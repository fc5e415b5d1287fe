"""Builds in folders that contain files, or that another build uses."""

import os
import shutil
import signal
from pathlib import Path

import h5py
import pytest

from deepnets.corpus import CorpusFile, check_one_corpus, corpus_path, write_corpus
from deepnets.support import ConfigError, exclusive
from generator import SPLITS, BuildPlan, Workers, build_corpus
from generator import build as build_module
from tests.generator.builds import SMALL, assert_resumes, state
from tests.support.processes import (
    PATIENCE,
    Corpus,
    build,
    digests,
    one_error,
    shards,
    start,
    until,
)


@pytest.mark.slow
def test_a_second_build_in_the_folder_is_refused(small_corpus: Corpus, tmp_path: Path) -> None:
    with start(tmp_path, workers=1, **SMALL, **small_corpus.sizes) as process:
        until(lambda: shards(tmp_path))
        os.kill(process.pid, signal.SIGSTOP)
        second = build(tmp_path, workers=1, splits="val")
        os.kill(process.pid, signal.SIGCONT)
        assert one_error(second.returncode, second.stdout, second.stderr) == (
            f"error: {tmp_path}: another build is running in this folder; wait for it or choose another"
        )
        assert process.wait(timeout=PATIENCE) == 0
    assert digests(tmp_path) == {split: small_corpus.digests[split] for split in ("search", "train")}


@pytest.mark.slow
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
    """Also if other splits are missing, which is checked before the folder is locked."""
    read = []
    monkeypatch.setattr("generator.build.verify_checksum", lambda path: read.append(path.name))
    for split in ("val", "test"):
        shutil.copy(corpus_path(small_corpus.out, split), tmp_path)
    reports = build_corpus(tmp_path, BuildPlan(("val", "test", "bnfree")), workers=Workers(num_workers=1))
    assert {report.split: report.built for report in reports} == {"val": False, "test": False, "bnfree": True}
    assert sorted(read) == ["deepnets1m_test.h5", "deepnets1m_val.h5"]


@pytest.mark.sampled(3)
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


@pytest.mark.sampled(3)
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


def test_what_a_build_that_was_killed_at_its_end_has_left_is_removed(tmp_path: Path) -> None:
    """Killed between the last rename and the removal of the shards, a build is complete."""
    plan = BuildPlan(splits=("search",), search_size=5)
    (report,) = build_corpus(tmp_path, plan, workers=Workers(num_workers=1))
    partial = tmp_path / ".partial"
    (partial / "search-seed0").mkdir(parents=True)
    (partial / "search-seed0" / "search-000000000000-64.h5").write_bytes(b"a shard")
    (tmp_path / ".deepnets1m_search.h5.123-0123abcd.tmp").write_bytes(b"a part")
    with exclusive(partial):  # another build is running: its files are left alone
        (again,) = build_corpus(tmp_path, plan)
        assert not again.built
        assert (partial / "search-seed0").is_dir()
    (again,) = build_corpus(tmp_path, plan)
    assert (again.built, again.content_digest) == (False, report.content_digest)
    assert [path.name for path in tmp_path.iterdir()] == [report.path.name]
    (partial / "train-seed0").mkdir(parents=True)  # shards of an unfinished split
    build_corpus(tmp_path, plan)
    assert (partial / "train-seed0").is_dir()


def replace_until_deep(out: Path, plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace a corpus, and interrupt it when the split `deep` is written."""
    write = build_module._write

    def interrupted(path: Path, *arguments: object) -> object:
        if path.name == "deepnets1m_deep.h5":
            raise KeyboardInterrupt
        return write(path, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(out, plan, workers=Workers(num_workers=1), overwrite=True)


def test_a_replacement_that_is_interrupted_leaves_no_two_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise networks of the old `train` could be in the new `test`."""
    old, new = (BuildPlan(("search", "deep", "wide"), search_size=5, seed=seed) for seed in (0, 1))
    one = Workers(num_workers=1)
    before = {report.path.name: report.path.read_bytes() for report in build_corpus(tmp_path, old, workers=one)}
    replace_until_deep(tmp_path, new, monkeypatch)
    for path in tmp_path.glob("*.h5"):
        with CorpusFile(path) as file:
            assert file.attributes["seed"] == 1
    kept = {path.name: path.read_bytes() for path in (tmp_path / ".partial" / "replaced").iterdir()}
    assert kept == before
    build_corpus(tmp_path, new, workers=one, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)
    check_one_corpus(tmp_path)


def test_a_replacement_that_is_given_up_brings_the_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted that no file has replaced, and complete files are not made again."""
    old, new = (BuildPlan(("search", "deep", "wide"), search_size=5, seed=seed) for seed in (0, 1))
    one = Workers(num_workers=1)
    before = {report.path.name: report.path.read_bytes() for report in build_corpus(tmp_path, old, workers=one)}
    replace_until_deep(tmp_path, new, monkeypatch)
    new_files = {path.name for path in tmp_path.glob("*.h5")}
    assert "deepnets1m_search.h5" in new_files
    replaced = tmp_path / ".partial" / "replaced"
    (report,) = build_corpus(tmp_path, BuildPlan(("search",), search_size=5, seed=1))  # a part of the new corpus
    assert not report.built
    assert {path.name for path in replaced.iterdir()} == set(before) - new_files
    for name in new_files:  # these had been replaced, so their old files were deleted; put them back
        (replaced / name).write_bytes(before[name])
    reports = build_corpus(tmp_path, old, overwrite=True)
    assert not any(report.built for report in reports)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.h5")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)
