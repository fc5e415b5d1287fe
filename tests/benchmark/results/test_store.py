"""CSV tables: values, incomplete lines of killed processes, added columns, files of others, and spreadsheets."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.results import CsvTable, read_results, read_rows
from benchmark.results.spreadsheets import escape_formula, unescape_formula
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import FormatError
from tests.support import made_up_results as made


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


def test_results_that_are_cut_at_any_byte_keep_their_complete_rows(tmp_path: Path) -> None:
    with ResultStore(tmp_path).opened() as store:
        store.begin("r", {})
        for index in range(3):
            store.append({**made.row("a", "random", "test", index, 50.0), "run": "r"})
    path = tmp_path / "networks.csv"
    content = path.read_bytes()
    for kept in range(0, len(content), 5):
        path.write_bytes(content[:kept])
        complete = content[:kept].count(b"\n")  # with the header
        with ResultStore(tmp_path).opened() as store:
            assert store.finished("r") == set(range(complete - 1))
        assert (path.read_bytes() if path.exists() else b"") == b"".join(content.splitlines(keepends=True)[:complete])


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


# --- files of others ---

FOREIGN = {
    "no-line-break": b"mine,value",
    "torn": b"mine,value\n1,2\n3,",
    "similar": b"name,value_of_mine\na,1\nb",
    "binary": b"\x00\xff\xfe no table",
    "sheet": b"\xef\xbb\xbfname,value\r\na,1\r\nb",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_are_not_repaired(tmp_path: Path, name: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(FormatError, match="is no table of this version"):
        table(tmp_path).repair()
    assert path.read_bytes() == FOREIGN[name]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_a_file_of_others_is_refused_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / "networks.csv").write_bytes(FOREIGN[name])
    with (
        pytest.raises(FormatError, match=r"networks\.csv: is no table of this version.*; choose another folder"),
        ResultStore(tmp_path).opened(),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["networks.csv"]
    assert (tmp_path / "networks.csv").read_bytes() == FOREIGN[name]


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": {"b": 1}}', "no JSON"])
def test_runs_of_others_are_refused_untouched(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs.json").write_text(content)
    with pytest.raises(FormatError, match=r"runs\.json: .* another folder"), ResultStore(tmp_path).opened():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]
    assert (tmp_path / "runs.json").read_text() == content


def test_files_of_earlier_versions_get_the_new_column(tmp_path: Path) -> None:
    """They lack `nonfinite_images`, and are read as they are until the next row."""
    rows = [made.row("a", "p", "test", 0, 50.0), made.row("a", "p", "test", 1, None)]
    made.write(tmp_path, rows, {"a": made.run("p", "test", 3)})
    assert read_rows(tmp_path)["nonfinite_images"].tolist() == [0, 0]
    before = (tmp_path / "networks.csv").read_text()
    with ResultStore(tmp_path).opened() as store:
        assert store.finished("a") == {0, 1}
        assert (tmp_path / "networks.csv").read_text() == before
        store.append({**made.row("a", "p", "test", 2, 0.0), "nonfinite_images": 7})
    assert read_rows(tmp_path)["nonfinite_images"].tolist() == [0, 0, 7]
    assert (tmp_path / "networks.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


# --- spreadsheets ---


@pytest.mark.slow
@given(st.text(max_size=12) | st.from_regex(r"'{0,2}[=+\-@][a-zA-Z0-9(). ]{0,6}", fullmatch=True))
def test_texts_come_back_and_no_cell_is_executed(text: str) -> None:
    cell = escape_formula(text)
    assert unescape_formula(cell) == text
    if cell[:1] in set("=+-@\t\r"):
        float(cell)  # a number, which is not executed


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "'=x", "''-y", "-", "it's", "+5"])
def test_labels_and_reasons_that_spreadsheets_would_execute(tmp_path: Path, text: str) -> None:
    with ResultStore(tmp_path).opened() as store:
        store.begin("a", made.run(text, "test", 2))
        store.append(made.row("a", text, "test", 0, None, reason=text))
        store.append(made.row("a", text, "test", 1, None, reason=text))
        store.sort()
        store.remove_failed("another run", range(2))
    for values in (read_rows(tmp_path), pd.DataFrame(CsvTable(tmp_path / "networks.csv", COLUMNS).rows())):
        assert values["predictor"].tolist() == values["reason"].tolist() == [text] * 2
    with (tmp_path / "networks.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            assert line["predictor"][0] not in "=@"
            assert line["predictor"][0] not in "+-" or line["predictor"] == text == "+5"


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    table(tmp_path).append([{"name": "a", "value": -0.5}, {"name": "b", "value": -1e-20}])
    table(tmp_path).rewrite(table(tmp_path).rows())
    assert table(tmp_path).path.read_text() == "name,value\na,-0.5\nb,-1e-20\n"


def test_metrics_that_are_not_registered_are_numbers(tmp_path: Path) -> None:
    """In the process that reads them, the metric of a user's module is not known."""
    rows = [made.row("r", "p", "test", index, 50.0) for index in range(3)]
    folder = made.write(tmp_path, rows, {"r": made.run("p", "test", 3)})
    lines = (folder / "networks.csv").read_text().splitlines()
    values = ["", "9.5", "10.25"]
    for name, column in (("unheard", values), ("note", ["a", "9", ""])):
        lines = [lines[0] + f",{name}", *(f"{line},{value}" for line, value in zip(lines[1:], column))]
    (folder / "networks.csv").write_text("\n".join(lines) + "\n")
    found = read_results(folder).rows
    assert found["unheard"].tolist()[1:] == [9.5, 10.25]
    assert math.isnan(found["unheard"][0])
    assert found["note"].tolist() == ["a", "9", ""]
