"""What the sections of a report on single networks and on exports show, as plain values for its templates."""

from __future__ import annotations

from benchmark.report.exports import latex_table, markdown_table
from benchmark.report.networks import as_json
from benchmark.report.sections import ReportInputs, Values
from benchmark.results import comparison_table, leaderboard

__all__ = ["export", "networks", "table_files"]


def networks(inputs: ReportInputs) -> Values:
    """Return the rows of all networks as data, and their drawings."""
    rows, pictures = inputs.rows, inputs.pictures
    return {
        "data": as_json(rows.data),
        "rows": len(rows.data["rows"]),
        "left_out": rows.left_out,
        "pictures": pictures.others,
        "drawn": len(pictures.others) + len(pictures.chosen),
        "networks": len(rows.data["networks"]),
    }


def export(inputs: ReportInputs) -> Values:
    """Return the leaderboard in the formats of papers, READMEs and spreadsheets, and the files beside the page."""
    names = {
        "leaderboard.md": "Markdown",
        "leaderboard.tex": "LaTeX, with the package booktabs",
        "leaderboard.csv": "CSV",
        "comparisons.csv": "Paired comparisons, CSV",
    }
    return {"tables": [{"file": file, "name": names[file], "text": text} for file, text in table_files(inputs).items()]}


def table_files(inputs: ReportInputs) -> dict[str, str]:
    """Return the tables of a report by the names of their files."""
    boards = [*inputs.boards, *inputs.mean_corruption]
    everything = leaderboard(inputs.boards, [*inputs.mean_corruption, *inputs.corrupted])
    return {
        "leaderboard.md": "\n".join(map(markdown_table, boards)),
        "leaderboard.tex": "\n".join(map(latex_table, boards)),
        "leaderboard.csv": everything.to_csv(index=False, lineterminator="\n"),
        "comparisons.csv": comparison_table(inputs.boards).to_csv(index=False, lineterminator="\n"),
    }
