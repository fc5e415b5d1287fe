"""Shared fixtures of the report tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.report import write_report
from tests.benchmark.report.pages import Page
from tests.support.made_up_results import realistic


@pytest.fixture(scope="package")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results of four predictors, without a report; do not change it."""
    return realistic(tmp_path_factory.mktemp("results") / "results", scale=0.1)


@pytest.fixture(scope="package")
def folder(results: Path) -> Path:
    """The same folder with a report without charts; do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        write_report(results)
    return results


@pytest.fixture(scope="package")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def charts() -> None:
    """For tests that need charts; all others run without matplotlib, which is faster."""
    pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _without_charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "charts" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
