"""CSV tables: values, incomplete lines of killed processes, and added columns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmark.results import CsvTable
from deepnets import FormatError


def table(folder: Path, *optional: str) -> CsvTable:
    return CsvTable(folder / "table.csv", ("name", "value"), optional)


def test_texts_and_numbers(tmp_path: Path) -> None:
    rows = [
        *({"name": "a,b", "value": 1 / 3}, {"name": 'two\nlines "quoted"', "value": math.nan}),
        {"name": "", "value": 12345678901},
    ]
    for row in rows:
        table(tmp_path).append([row])
    found = table(tmp_path).rows()
    assert [row["name"] for row in found] == ["a,b", 'two\nlines "quoted"', ""]
    assert [row["value"] for row in found] == [repr(1 / 3), "", "12345678901"]
    assert table(tmp_path).path.read_text().startswith("name,value\n")


@pytest.mark.parametrize("kept", [0, 3, 10, 11, 14, 19])
def test_an_incomplete_line_is_removed(tmp_path: Path, kept: int) -> None:
    """The header has 11 bytes, each row 6."""
    content = b"name,value\na,1.0\nb,2.0\n"
    path = tmp_path / "table.csv"
    path.write_bytes(content[:kept])
    table(tmp_path).repair()
    table(tmp_path).append([{"name": "c", "value": 3.0}])
    assert path.read_bytes() == (content[:kept].rpartition(b"\n")[0] or b"name,value") + b"\nc,3.0\n"


def test_a_column_is_added(tmp_path: Path) -> None:
    table(tmp_path).append([{"name": "a", "value": 1}])
    table(tmp_path, "loss").append([{"name": "b", "value": 2, "loss": 0.5}])
    table(tmp_path).append([{"name": "c", "value": 3}])
    assert table(tmp_path).path.read_text() == "name,value,loss\na,1,\nb,2,0.5\nc,3,\n"


@pytest.mark.parametrize("content", ["other,value\n", "name\n", "name,value\na\n", ""])
def test_other_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(FormatError, match="is no table of this version; expected the columns name, value"):
        table(tmp_path).rows()
