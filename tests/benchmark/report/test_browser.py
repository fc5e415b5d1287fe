"""The page in a real browser: Chromium without a window, controlled by Playwright.  Skipped where they are missing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.report import write_report
from tests.benchmark.report.pages import one
from tests.support.made_up_results import row

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.usefixtures("charts"),
]
SCREENS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with charts, and pictures of the predefined networks."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("browser")
    rows = []
    for place, name in enumerate(("high", "low", HOSTILE)):
        for i in range(40):
            value = None if (place, i) == (1, 7) else 60.0 - 20 * place + i * 37 % 11
            rows.append(row(name, name, "test", i, value, num_params=10**6 + 50_000 * i, depth=20 + i))
        for i, network in enumerate(("resnet50", "vit")):
            rows.append(row(name + "p", name, "predefined", i, 30.0 + place, network=network))
        rows += [row(name + "w", name, "wide", i, 30.0 + place + i) for i in range(2)]
    return write_report(one(folder, rows), data=folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # tests run as root, too
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    yield from opened(browser, report)


def opened(browser: Any, report: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Open the page, and check at the end that nothing was requested and no script failed."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append("alert"))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert [url for url in requests if not url.startswith("blob:")] == [report.as_uri()]
    assert not problems


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_page_fits_the_screen(browser: Any, report: Path, width: int, scheme: str) -> None:
    for page in opened(browser, report, width, scheme):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map("
            "text => text.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765)"
        )
        assert (colours[0] > 0.9 and colours[1] < 0.2) if scheme == "light" else (colours[0] < 0.2 and colours[1] > 0.8)
        page.click("#rows tbody button")
        box = page.locator("dialog").bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= width


def test_sorting(page: Any) -> None:
    table = page.locator("#leaderboard ~ .scroll table, section table.board").first

    def first_column() -> list[str]:
        found: list[str] = table.locator("tbody th").all_inner_texts()
        return found

    assert first_column() == ["high", "low", HOSTILE]
    heading = table.locator("thead th").nth(1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert first_column() == ["high", "low", HOSTILE]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert first_column() == [HOSTILE, "low", "high"]
    table.locator("thead th button").first.click()
    assert first_column()[-1] == "low"
    assert heading.get_attribute("aria-sort") is None


def test_search_and_table_of_networks(page: Any) -> None:
    rows, count = page.locator("#rows tbody tr"), page.locator("#rows .search span")
    assert (rows.count(), count.inner_text()) == (50, "50 of 132 rows")
    page.get_by_role("button", name="Show more rows").click()
    assert rows.count() == 132
    page.fill("#rows input", "low failed")
    assert (rows.count(), count.inner_text()) == (1, "1 of 1 rows")
    assert "RuntimeError: no" in rows.inner_text()
    page.fill("#rows input", "nowhere")
    assert rows.count() == 0
    page.fill("#rows input", "high test")
    assert count.inner_text() == "40 of 40 rows"
    value = page.locator("#rows thead th", has_text="top-1")
    value.locator("button").click()
    numbers = [float(text) for text in page.locator("#rows tbody tr td:nth-child(4)").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    value.locator("button").click()
    numbers = [float(text) for text in page.locator("#rows tbody tr td:nth-child(4)").all_inner_texts()]
    assert numbers == sorted(numbers)


def test_saved_rows_are_those_that_were_found(page: Any, tmp_path: Path) -> None:
    page.fill("#rows input", "low")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save these rows as CSV").click()
    download.value.save_as(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 44
    assert {line["predictor"] for line in lines} == {"low"}
    assert [line["failure"] for line in lines if line["failure"]] == ["RuntimeError: no"]


def test_tooltip_and_details_of_a_point(page: Any) -> None:
    point = page.locator('svg.chart:has(title[id="accuracy_size-0-0-t"]) use[data-r]').nth(25)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    text = page.locator("#tip").inner_text()
    assert "Network 25 of test" in text
    assert f"{10**6 + 50_000 * 25:,} parameters, depth 45" in text
    page.mouse.click(*middle)
    details = page.locator("dialog").inner_text()
    assert details.lstrip("\u00d7\n ").startswith("Network 25 of test")
    assert "60.0 %" not in details
    assert f"{60 + 25 * 37 % 11:.2f} %" in details
    assert "--splits test --index 25" in details
    assert "deepnets draw --out network.svg --split test --index 25" in details  # it has no picture
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()


def test_pictures_in_details(page: Any) -> None:
    page.fill("#rows input", "predefined high")
    page.locator("#rows tbody button", has_text="vit").click()
    picture = page.locator("dialog svg.net")
    assert picture.count() == 1
    assert picture.locator("use").count() == 129
    assert "conv " in picture.locator("use title").nth(1).inner_html()
    assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == page.evaluate(
        "document.querySelectorAll('[id]').length"
    )
    page.get_by_role("button", name="Close").click()
    page.locator("#rows tbody button", has_text="vit").click()
    assert page.locator("dialog svg.net use").count() == 129, "also the second time"


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.tex", "leaderboard.csv", "comparisons.csv"])
def test_exports(page: Any, report: Path, tmp_path: Path, name: str) -> None:
    block = page.locator(f'details:has(pre[data-file="{name}"])')
    block.locator("summary").click()
    with page.expect_download() as download:
        block.get_by_role("button", name=f"Save {name}").click()
    download.value.save_as(tmp_path / name)
    assert (tmp_path / name).read_text().rstrip() == (report.parent / name).read_text().rstrip()


def test_search_of_other_tables(page: Any) -> None:
    """Tables with eight rows or more have a field, shorter ones do not."""
    table = page.locator("table.runs")
    field = page.locator(".search:has(+ .scroll table.runs) input")
    assert table.locator("tbody tr:visible").count() == 9
    field.fill("WIDE low")
    assert table.locator("tbody tr:visible").count() == 1
    field.fill("")
    assert table.locator("tbody tr:visible").count() == 9
    assert page.locator(".search:has(+ .scroll table.board)").count() == 0
