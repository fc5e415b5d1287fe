"""Boards of corrupted images: one for each corruption, and the mean over all of them (mean corruption accuracy)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.evaluation import FAILED, OK
from benchmark.metrics import Metric, get_metric
from benchmark.results.boards import Board, Cell, Column, build_board
from benchmark.results.reading import CORRUPTION, KEY
from benchmark.results.tables import Results, has_metric
from deepnets.data import CORRUPTIONS

__all__ = ["MEAN", "all_boards", "corruption_boards", "mean_corruption_boards"]

MEAN = "mean"
"""What the column `corruption` of tables holds for means over corruptions."""


def all_boards(results: Results, metric: str | Metric | None = None) -> list[Board]:
    """Return the boards of clean and of noisy images, followed by those of means over corruptions.

    Parameters
    ----------
    results
        The results.
    metric
        As for `Results.boards`.
    """
    return [*results.boards(metric), *mean_corruption_boards(corruption_boards(results, metric))]


def corruption_boards(results: Results, metric: str | Metric | None = None) -> list[Board]:
    """Return one board for each image set, setting and corruption, in the order of `deepnets.data.CORRUPTIONS`.

    Parameters
    ----------
    results
        The results.
    metric
        A metric or its name; by default `usual_metric`.  Values are means over severities.

    Returns
    -------
    The boards; none if no corrupted images were evaluated.
    """
    if not len(results.corrupted):
        return []
    metric = None if metric is None else get_metric(metric).name
    grouped: dict[tuple[str, str, str], dict[tuple[str, Column], Cell]] = {}
    for key, rows in results.corrupted.groupby([*KEY, CORRUPTION], sort=True):
        predictor, split, images, part, _, corruption = key
        if metric is not None and not has_metric(rows, metric):
            continue
        setting = results.settings[rows["run"].iloc[0]]
        cells = grouped.setdefault((images, setting, corruption), {})
        cells[predictor, Column(split, part)] = results.cell(rows, metric or results.metric_of(rows))
    order = sorted(grouped, key=lambda key: (*key[:2], _rank(key[2])))
    return [build_board(key[0], 0.0, grouped[key], key[2], setting=key[1]) for key in order]


def mean_corruption_boards(boards: list[Board]) -> list[Board]:
    """Return one board for each image set with means over its corruptions, network by network.

    Parameters
    ----------
    boards
        The result of `corruption_boards`.

    Returns
    -------
    The boards.  All corruptions have the same weight.  A corruption that was evaluated with all severities counts once,
    and its single severities are left out.  A predictor has a cell only if it was evaluated on all corruptions of the
    image set in the same column, and only its networks with a row for each of them are in the cell.  A network that
    failed with one of them counts as failed.
    """
    means = []
    for images, setting in dict.fromkeys((board.images, board.setting) for board in boards):
        own = [board for board in boards if (board.images, board.setting) == (images, setting)]
        whole = {board.corruption for board in own if ":" not in board.corruption}
        own = [board for board in own if board.corruption in whole or board.corruption.partition(":")[0] not in whole]
        cells: dict[tuple[str, Column], Cell] = {}
        for place in dict.fromkeys(place for board in own for place in board.cells):
            found = [board.cells[place] for board in own if place in board.cells]
            if len(found) == len(own) and (mean := _mean(found)) is not None:
                cells[place] = mean
        if cells:
            means.append(build_board(images, 0.0, cells, MEAN, len(own), setting))
    return means


def _mean(cells: list[Cell]) -> Cell | None:
    """Return the mean of cells over corruptions; None if they have no networks in common."""
    metric = cells[0].metric
    tables = [cell.rows.set_index("index") for cell in cells]
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    if not len(common):
        return None
    tables = [table.loc[common] for table in tables]
    failed = np.any([table["status"].to_numpy() == FAILED for table in tables], axis=0)
    rows = tables[0].copy()
    rows[metric] = np.where(failed, np.nan, np.mean([table[metric].to_numpy(float) for table in tables], axis=0))
    rows["status"] = np.where(failed, FAILED, OK)
    rows["nonfinite_images"] = sum(table["nonfinite_images"] for table in tables)
    first = cells[0]
    return Cell(
        pd.DataFrame(rows).reset_index(),
        metric,
        first.run,
        min(cell.run_size for cell in cells),
        first.batch_size,
        first.split_size,
        first.corpus,
        first.data,
    )


def _rank(corruption: str) -> tuple[int, str]:
    names = list(CORRUPTIONS)
    name = corruption.partition(":")[0]
    return names.index(name) if name in names else len(names), corruption
