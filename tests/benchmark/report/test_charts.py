"""Charts: complete, accessible and deterministic, inside the page and as PNG files."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.report import style, write_report
from benchmark.report.charts import CHARTS, _draw_chance, spread
from benchmark.results import read_results
from deepnets.data import IMAGE_SETS, ImageSetInfo, register_image_set
from tests.benchmark.report.pages import Page, one
from tests.support import made_up_results as made
from tests.support.made_up_results import row

pytestmark = pytest.mark.usefixtures("charts")

LABELS = ("ghn2", '$x$ </text><script>alert(1)</script> url(#a) id="b" #0072b2')


def small(folder: Path, networks: int = 6) -> Path:
    """Two predictors on two splits; the second one fails on `wide`."""
    rows = [row("a", LABELS[0], "test", i, 40.0 + i) for i in range(networks)]
    rows += [row("b", LABELS[1], "test", i, 20.0 + i, num_params=10**5 * (i + 1)) for i in range(networks)]
    rows += [row("c", LABELS[0], "wide", 0, 50.0), row("d", LABELS[1], "wide", 0, None)]
    return one(folder, rows)


@pytest.fixture(scope="module")
def charted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib")
    folder = small(tmp_path_factory.mktemp("charted"))
    write_report(folder)
    return folder


@pytest.mark.parametrize(
    ("images", "metric", "level"),
    [
        *(("digits", "top1", 10.0), ("imagenet", "top1", 0.1), ("imagenet", "top5", 0.5)),
        *(("four kinds", "top1", 25.0), ("mine:load", "top1", None)),
    ],
)
def test_random_guesses(images: str, metric: str, level: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is at the accuracy of random guesses on any image set whose number of classes is known."""
    monkeypatch.setattr(IMAGE_SETS, "_entries", dict(IMAGE_SETS._entries))
    register_image_set("four kinds", IMAGE_SETS["digits"], ImageSetInfo("four kinds", 4))
    board: Any = SimpleNamespace(images=images, metric=lambda column: metric)
    drawn: list[float] = []
    _draw_chance(lambda at, **look: drawn.append(at), board, None)  # type: ignore[arg-type]
    assert drawn == ([] if level is None else [level])


@pytest.mark.slow
def test_page_with_charts(charted: Path) -> None:
    text = (charted / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    page.check()
    charts = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("class") == "chart"]
    assert len(charts) == (len(CHARTS) - 1) * 2  # every chart but that of means, for two splits
    assert all(len(str(chart["aria-labelledby"]).split()) == 2 for chart in charts)
    assert "alert" not in "".join(tag for tag, _ in page.elements)
    assert "2 networks" not in page.text
    svg = "".join(re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL))
    assert not re.search(r"<text[^>]*#[0-9a-f]{6}", svg), "colours are variables of the style sheet"
    assert "all failed" in svg
    assert "clip-path=" not in svg


def test_every_network_is_a_point(charted: Path) -> None:
    text = (charted / "report.html").read_text(encoding="utf-8")
    first = text[text.index('id="accuracy_size-0-0-t"') :].partition("</svg>")[0]
    assert first.count("<use ") == 12


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_files_do_not_depend_on_the_settings_of_the_user(charted: Path, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        write_report(small(tmp_path))
        assert dict(mpl.rcParams) == before
    names = ["report.html", *(f"{name}.png" for name in CHARTS)]
    for name in names:
        content = (tmp_path / name).read_bytes()
        assert name == "report.html" or content.startswith(b"\x89PNG")
        if name != "report.html":  # which names its folder
            assert content == (charted / name).read_bytes()
    pages = [(folder / "report.html").read_text(encoding="utf-8") for folder in (charted, tmp_path)]
    assert pages[0].replace(charted.name, "FOLDER") == pages[1].replace(tmp_path.name, "FOLDER")


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.1), (2e5, 3e6), (0.003, 5e7), (9.0, 9.01)])
def test_log_axes_have_few_ticks(low: float, high: float) -> None:
    with style.styled():
        axes = style.new_figure(3, 2).subplots()
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        style.set_log_ticks(axes.xaxis, low, high)
        ticks = axes.get_xticks()
        labels = [label.get_text() for label in axes.get_xticklabels()]
    assert 3 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)
    assert len(set(labels)) == len(ticks), "labels tell ticks apart"


@pytest.mark.parametrize("networks", [1, 6])
def test_every_panel_has_ticks(networks: int, tmp_path: Path) -> None:
    (board,) = read_results(small(tmp_path, networks)).boards()
    for name, chart in CHARTS.items():
        for column in board.columns:
            with style.styled():
                axes = style.panels(style.new_figure(3.3, 2.5, layout=None), 1, 1)[0]
                chart.draw(axes, board, column, {label: place for place, label in enumerate(LABELS)})
                for axis in (axes.xaxis, axes.yaxis):
                    low, high = sorted(axis.get_view_interval())
                    labels = [
                        label.get_text()
                        for tick, label in zip(axis.get_ticklocs(), axis.get_ticklabels())
                        if low <= tick <= high and label.get_text()
                    ]
                    rows_of_predictors = axis is axes.yaxis and name in ("leaderboard", "distribution")
                    assert rows_of_predictors or len(set(labels)) >= 3, (name, str(column), labels)


def test_points_with_similar_values_are_spread() -> None:
    offsets = spread(np.array([50.0] * 100 + [90.0]))
    assert len(set(offsets.tolist())) == 101
    assert offsets[-1] == 0
    assert math.isclose(np.abs(offsets).max(), 1, abs_tol=0.05)


def test_files_of_several_levels_of_noise(tmp_path: Path, charts: None) -> None:
    rows, runs = [], {}
    for level in (0.1, 0.2, 0.3):
        rows += [made.row(str(level), "p", "test", index, 50.0, noise=level) for index in range(2)]
        runs[str(level)] = made.run("p", "test", 2, noise=level)
    write_report(made.write(tmp_path, rows, runs))
    assert len(list(tmp_path.glob("leaderboard*.png"))) == 3
