"""Reference corpora for the tests of builds.  Building them also compiles the code that builds use."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deepnets.corpus import corpus_path
from generator import BuildPlan, Workers, build_corpus
from tests.support.processes import Corpus
from tests.support.shared import make_once


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A reference corpus of all splits, built in one process without interruption; do not change it."""
    return _made(BuildPlan(train_size=6_000, search_size=1_500), tmp_path_factory, "reference-corpus")


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A smaller reference corpus, for tests that repeat its build with failures and interruptions."""
    return _made(BuildPlan(train_size=2_500, search_size=400), tmp_path_factory, "small-corpus")


@pytest.fixture
def val(small_corpus: Corpus, tmp_path: Path) -> Path:
    """A folder with a copy of the file of `val`, the smallest one."""
    shutil.copy(corpus_path(small_corpus.out, "val"), tmp_path)
    return tmp_path


def _made(plan: BuildPlan, factory: pytest.TempPathFactory, name: str) -> Corpus:
    out, reports = make_once(factory, name, lambda out: build_corpus(out, plan, workers=Workers(num_workers=1)))
    return Corpus(out, plan, {report.split: report for report in reports})
