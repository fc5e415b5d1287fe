"""Progress bars on terminals, and lines elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from deepnets.support import ProgressBar, progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(file: io.StringIO, **options: Any) -> str:
    with ProgressBar(total=4, desc="work", unit="network", file=file, **options) as bar:
        for _ in range(4):
            bar.update()
            bar.refresh()
    return file.getvalue()


def test_a_terminal_has_a_bar() -> None:
    assert "\rwork: 100%|" in shown(Screen())


def test_short_work_writes_nothing_elsewhere() -> None:
    assert shown(io.StringIO()) == ""


def test_long_work_writes_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    lines = shown(io.StringIO()).splitlines()
    assert [line.partition(" after ")[0] for line in lines] == [f"work: {25 * n}% ({n}/4 networks)" for n in range(5)]
    assert all(re.fullmatch(r".* after 00:00, \S+ left", line) for line in lines)


def test_lines_are_not_more_frequent_than_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    file = io.StringIO()
    bar = ProgressBar(total=1000, unit="step", file=file)
    for _ in range(1000):
        now += 0.1
        bar.update()
        bar.refresh()
    bar.close()
    assert len(file.getvalue().splitlines()) == 4  # after 30, 60 and 90 seconds, and at the end


def test_totals_that_are_not_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    file = io.StringIO()
    bar = ProgressBar(total=600.0, unit=" s", file=file, bar_format="{bar}")
    bar.update(123.456)
    bar.refresh()
    bar.close()
    assert "(123/600 s)" in file.getvalue()


def test_nothing_is_shown_if_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    assert shown(io.StringIO(), show=False) == shown(Screen(), show=False) == ""
    monkeypatch.setattr("sys.stderr", None)  # of a program without a console
    assert list(ProgressBar([1, 2])) == [1, 2]
