"""Write the report of a folder of results: tables, charts and a page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmark.choices import MAX_PICTURES
from benchmark.metrics import Metric
from benchmark.report.charts import draw_png_files
from benchmark.report.details import table_files
from benchmark.report.page import render_page
from benchmark.report.sections import ReportInputs
from benchmark.report.style import has_matplotlib
from benchmark.results import corruption_boards, mean_corruption_boards, read_results
from deepnets.support import ConfigError, replace_file

__all__ = ["write_report"]

TITLE = "DeepNets-1M benchmark"
PUBLISHED_IMAGES = ("cifar10", "imagenet")


def write_report(
    results: Path | str,
    *,
    metric: str | Metric | None = None,
    published: Path | str | None = None,
    data: Path | str | None = None,
    title: str = TITLE,
    max_pictures: int = MAX_PICTURES,
) -> Path:
    """Write `report.html`, PNG charts, and tables as CSV, Markdown and LaTeX into a folder of results.

    Parameters
    ----------
    results
        The folder with `networks.csv` and `runs.json`, as `python -m benchmark run` writes it.  The run may be
        unfinished.
    metric
        A metric or its name, such as "top1".  Default: top-5 accuracy for the networks of DeepNets-1M on ImageNet, as
        published, and top-1 accuracy otherwise.
    published
        A folder of published result files, to show next to the results.
    data
        The folder of the corpus, to draw architectures.  Default: none are drawn.
    title
        Title of the page.
    max_pictures
        Most networks that are drawn for the details of single networks, besides the best, median and worst ones.  Each
        takes about 30 KB of the page and 0.2 seconds.

    Returns
    -------
    The path of `report.html`.  Beside it are `leaderboard.csv`, `leaderboard.md`, `leaderboard.tex` and
    `comparisons.csv`, the paired comparisons of all predictors (`benchmark.results.comparison_table`).  The same files
    give the same bytes.  Without matplotlib, the page says how to install it in place of charts, and there are no PNG
    files.

    Raises
    ------
    MissingDataError
        If there are no results.
    ConfigError
        If the metric or the folder of published files does not exist.
    FormatError
        If a file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from benchmark.results.store import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, 1) | {"split": "test", "images": "digits", "part": "test", "status": "ok"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame([row]).to_csv(Path(folder) / "networks.csv", index=False)
    ...     write_report(folder).name
    'report.html'
    """
    found = read_results(results)
    boards = found.boards(metric)
    corrupted = corruption_boards(found, metric)
    means = mean_corruption_boards(corrupted)
    corpus = None if data is None else Path(data)
    inputs = ReportInputs(found, boards, read_published(published), corpus, corrupted, means, max_pictures)
    path = found.folder / "report.html"
    for name, text in table_files(inputs).items():
        replace_file(found.folder / name, text)
    replace_file(path, render_page(inputs, title))
    if has_matplotlib():
        draw_png_files(boards, found.folder)
    return path


def read_published(folder: Path | str | None) -> dict[str, pd.DataFrame]:
    """Return the published leaderboards by image set."""
    if folder is None:
        return {}
    from benchmark import literature

    if not Path(folder).is_dir():
        raise ConfigError(f"--published: there is no folder {folder}; give the folder of the published result files")
    return {images: literature.leaderboard(Path(folder), images) for images in PUBLISHED_IMAGES}
