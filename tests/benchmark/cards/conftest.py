"""A small training, a bundle made from it, and results of this bundle."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from benchmark.__main__ import main as benchmark
from benchmark.cards import bundle
from tests.support.bundles import STEPS, Made
from tests.support.shared import make_once
from tests.support.small_corpus import write_small_corpus
from tests.support.training_runs import command, run


@pytest.fixture(scope="package")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by the command line, of the smallest hypernetwork with a preset; do not change it."""

    def make(out: Path) -> None:
        done = run(command(corpus, out, images="digits", preset="ghn1", steps=STEPS, log_steps=1))
        assert done.returncode == 0, done.stderr  # in a process of its own, whose command is recorded

    return make_once(tmp_path_factory, "card-training", make)[0]


@pytest.fixture(scope="package")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle and its results; do not change them, use `copied`."""

    def make(folder: Path) -> Made:
        given = {"limits": "a test", "corpus_command": "make corpus"}
        path, results = bundle(trained, "ghn1-digits", folder / "bundles", given=given), folder / "results"
        (folder / "small").mkdir()
        data = write_small_corpus(folder / "small", "test", "wide")
        predictors = [str(path), f"raw={trained / 'ghn.safetensors'}"]
        words = ["--splits", "test,wide", "--limit", "3,wide=4", "--data", str(data), "--out", str(results), "--quiet"]
        words = ["run", "--predictors", *predictors, *words, "--no-report", "--workers", "1"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "benchmark.results.runner.started_by", lambda: shlex.join(["python", "-m", "benchmark", *words])
            )
            benchmark(words)
        return Made(path, results)

    return make_once(tmp_path_factory, "card-bundle", make)[1]


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """A copy of `made` that tests may change."""
    shutil.copytree(made.path.parent, tmp_path / "bundles")
    shutil.copytree(made.results, tmp_path / "results")
    return Made(tmp_path / "bundles" / made.path.name, tmp_path / "results")
