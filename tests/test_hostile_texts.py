"""Files of CSV and JSON of 5 MB that are made to take time and memory, for every reader of such files.

Every reader must return, or refuse the file with one short message, within 10 seconds of processor time and 1 GB.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.baselines.store import COLUMNS as CURVES
from benchmark.baselines.store import Curves
from benchmark.cards.files import _card_beside
from benchmark.cards.training_run import read_training
from benchmark.literature import load
from benchmark.results import read_results
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import GENOTYPES, NetworkConfig
from deepnets.__main__ import main as deepnets
from deepnets.architecture import parse_genotype
from deepnets.original_format.metadata import index_metadata
from deepnets.support import parse_csv, parse_json
from deepnets.support.untrusted_files import MOST_COLUMNS
from ghn_model import GHN, GHNConfig
from ghn_model.checkpoints import save_checkpoint
from ghn_model.training import COLUMNS as LOG
from ghn_model.training import Recipe
from ghn_model.training.log import truncate_csv
from tests.support.limits import limited
from tests.support.made_up_results import row as result

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits are set as Linux does")

SIZE = 5_000_000
ERRORS = {"CheckpointError", "ConfigError", "FormatError", "MissingDataError"}


def filled(unit: str, start: str = "", end: str = "") -> str:
    return start + unit * ((SIZE - len(start) - len(end)) // len(unit)) + end


# --- contents ---

ANY: dict[str, Callable[[], str]] = {
    "line breaks": lambda: filled("\n"),
    "line breaks of Windows": lambda: filled("\r\n"),
    "carriage returns": lambda: filled("\r"),
    "commas": lambda: filled(","),
    "one cell": lambda: filled("a"),
    "quotes": lambda: filled('"'),
    "quoted commas": lambda: filled('",'),
    "zeros": lambda: filled("\0"),
    "spaces": lambda: filled(" "),
    "digits": lambda: filled("9"),
    "minus signs": lambda: filled("-"),
    "brackets": lambda: filled("["),
    "rows of one digit": lambda: filled("1\n"),
    "wide characters": lambda: filled("\U0001f600,"),
    "columns": lambda: ",".join(map(str, range(SIZE // 7))),
}

JSON: dict[str, Callable[[], str]] = {
    "lists": lambda: filled("[],", "[", "0]"),
    "objects": lambda: filled("{},", "[", "0]"),
    "objects with a key": lambda: filled('{"":0},', "[", "0]"),
    "keys": lambda: "{" + ",".join(f'"{i}":{{}}' for i in range(SIZE // 12)) + "}",
    "the same key": lambda: filled('"a":{},', "{", '"a":{}}'),
    "deep lists": lambda: "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "deep objects": lambda: filled('{"a":'),
    "levels that are still parsed": lambda: '{"a":' * 900 + "1" + "}" * 900,
    "many times levels": lambda: filled("[" * 90 + "]" * 90 + ",", '{"a":{"started":[', "0]}}"),
    "integer": lambda: filled("9", '{"a":{"started":', "}}"),
    "integers": lambda: filled("9" * 4000 + ",", '{"a":{"started":[', "0]}}"),
    "numbers": lambda: filled("1e999,", '{"a":{"started":[', "0]}}"),
    "text": lambda: filled("\\u0000", '{"a":{"started":"', '"}}'),
    "surrogates": lambda: filled("\\ud800", '{"a":{"epochs":"', '"}}'),
    "entries": lambda: filled('{"num_nodes":1},', '{"val":{"nets":[', '{}],"meta":{}}}'),
}


def table(columns: tuple[str, ...], row: dict[str, Any]) -> dict[str, Callable[[], str]]:
    """Return contents that begin like a table with these columns; `row` is a valid row."""
    header, valid = ",".join(columns) + "\n", ",".join(str(row.get(name, "")) for name in columns)
    named = header.replace("\n", "," + ",".join(f"m{i}" for i in range(100_000)) + "\n")
    return {
        "header, line breaks": lambda: filled("\n", header),
        "header, commas": lambda: filled(",", header),
        "header, empty rows": lambda: filled("," * (len(columns) - 1) + "\n", header),
        "header, one cell": lambda: filled("a", header),
        "header, quotes": lambda: filled('"', header),
        "header, quoted line breaks": lambda: filled('"\n"\n', header),
        "header, rows of one digit": lambda: filled("1\n", header),
        "header, integers": lambda: filled(("9" * 4200 + ",") * (len(columns) - 1) + "9\n", header),
        "header with many columns": lambda: filled("1\n", named),
        "header twice": lambda: filled("1\n", header.replace("\n", "," + header)),
        "valid rows": lambda: filled(valid + "\n", header),
        "valid rows, then line breaks": lambda: filled("\n", header + f"{valid}\n" * 1000),
        "rows of ones": lambda: filled(",".join("1" * len(columns)) + "\n", header),
    }


ROW = result("a", "p", "test", 0, 50.0)
RESULTS = table(COLUMNS, ROW | {"nonfinite_images": 0})
RESULTS["other predictors"] = lambda: "\n".join(
    [
        ",".join(COLUMNS),
        *(",".join(str((ROW | {"predictor": i}).get(name, "")) for name in COLUMNS) for i in range(SIZE // 140)),
    ]
)
CURVE = {"index": 0, "epoch": 1, "status": "ok", "num_params": 1, "split": "test", "predictor": "p", "images": "digits"}
STEP = dict.fromkeys(LOG, 1)


# --- readers ---


def opened(path: Path) -> None:
    with ResultStore(path.parent).opened() as store:
        store.finished("a")
        store.sort()


def curves(path: Path) -> None:
    with Curves(path.parent).opened() as found:
        found.table()
        found.check_settings("a", {"epochs": 1})


@functools.cache
def checkpoint() -> bytes:
    metadata = {"recipe": Recipe().to_dict(), "images": "digits", "steps": 1, "seconds": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        return save_checkpoint(GHN(GHNConfig(hidden=8)), Path(folder) / "ghn.safetensors", metadata).read_bytes()


def training(path: Path) -> None:
    path.with_name("ghn.safetensors").write_bytes(checkpoint())
    read_training(path.parent)


def report(path: Path) -> None:
    path.with_name("networks.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(str(ROW.get(c, "")) for c in COLUMNS))
    read_results(path.parent)


def draw(path: Path) -> None:
    deepnets(["draw", str(path.with_name("picture.svg")), "--config", str(path)])


READERS: dict[str, tuple[str, Callable[[Path], Any], dict[str, Callable[[], str]]]] = {
    "parse_csv": ("table.csv", lambda path: sum(map(len, parse_csv(path.read_text("utf-8", "replace")))), ANY),
    "parse_json": ("value.json", lambda path: parse_json(path.read_bytes()), ANY | JSON),
    "report: networks.csv": ("networks.csv", lambda path: read_results(path.parent), ANY | RESULTS),
    "report: runs.json": ("runs.json", report, ANY | JSON),
    "run: networks.csv": ("networks.csv", opened, ANY | RESULTS),
    "run: runs.json": ("runs.json", opened, ANY | JSON),
    "sgd: curves.csv": ("curves.csv", curves, ANY | table(CURVES, CURVE)),
    "sgd: settings.json": ("settings.json", curves, ANY | JSON),
    "train: log.csv": ("log.csv", lambda path: truncate_csv(path, LOG, 10**9), ANY | table(LOG, STEP)),
    "card: log.csv": ("log.csv", training, ANY | table(LOG, STEP)),
    "card: card": ("card.json", lambda path: _card_beside(path.with_suffix(".safetensors"), "a"), ANY | JSON),
    "draw: config": ("config.json", draw, ANY | JSON),
    "genotype": ("genotype.txt", lambda path: parse_genotype(path.read_text("utf-8", "replace")), ANY | JSON),
    "import: metadata": ("deepnets1m_eval_meta.json", lambda path: index_metadata(path, "val"), ANY | JSON),
    "published": ("results_cifar10.json", lambda path: load(path.parent), ANY | JSON),
}


def check(function: Callable[[], Any], content: str) -> None:
    outcome = limited(function, megabytes=1000)
    assert outcome.kind in ERRORS | {"returned", "ValueError", "JSONDecodeError"}, (content, outcome)
    assert len(outcome.text) < 1000, content
    if outcome.kind in ERRORS:
        assert len(outcome.text.splitlines()) == 1, (content, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_contents_that_take_time_or_memory(tmp_path: Path, reader: str) -> None:
    name, read, contents = READERS[reader]
    checkpoint()
    for number, (content, make) in enumerate(contents.items()):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_text(make(), encoding="utf-8", newline="")
        check(lambda path=path: read(path), content)  # type: ignore[misc]
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("reader", [name for name in READERS if not name.startswith(("parse", "genotype"))])
def test_named_pipes(tmp_path: Path, reader: str) -> None:
    """Opening one to read it would wait for a writer."""
    name, read, _ = READERS[reader]
    checkpoint()
    os.mkfifo(tmp_path / name)
    check(lambda: read(tmp_path / name), "a named pipe")


def test_tables_with_too_many_columns() -> None:
    header = [f"c{i}" for i in range(MOST_COLUMNS)]
    assert list(parse_csv(",".join(header) + "\n\n1")) == [header, [], ["1"]]
    for text, message in (
        (",".join(header) + ",one more", "line 1: has 1,001 columns, more than 1,000"),
        ("a,b\n" + "," * MOST_COLUMNS, "line 2: has 1,001 columns"),
        ("a,b,a\n1,2,3\n", "line 1: the column 'a' occurs twice"),
        ("a\n" + "x" * 200_000, r"line 2: field larger than field limit \(131072\)"),
    ):
        with pytest.raises(ValueError, match=message):
            list(parse_csv(text))


def test_rows_are_parsed_one_by_one() -> None:
    """The first wrong row ends the reading, however many rows follow."""
    rows = parse_csv("a,b\n1,2\n3,4\n" + "x" * 200_000)
    assert [next(rows) for _ in range(3)] == [["a", "b"], ["1", "2"], ["3", "4"]]


def test_levels_of_json() -> None:
    for depth in (1, 99, 100):
        assert isinstance(parse_json("[" * depth + "]" * depth), list)
    for text in ("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[" * 900 + "]" * 900):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)


def test_a_configuration_is_still_read() -> None:
    config = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=2)
    text = str(config.to_dict()).replace("'", '"').replace("True", "true").replace("False", "false")
    assert NetworkConfig.from_dict(parse_json(text.replace("None", "null"))) == config
