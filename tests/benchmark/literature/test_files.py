"""Reading published files: their defects, files that are missing, and files that are not as they should be."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.literature import WIDTH, defects, leaderboard, load, targets
from benchmark.literature.files import FILES, SPLITS
from benchmark.literature.tables import accuracies, model_statistics, rank_correlations, win_rates
from deepnets.support import ConfigError, FormatError
from tests.support.made_up_published import BASIC, EXTENDED, IMAGE_NET, made_up, made_up_models, write_made_up


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four files, made up."""
    return write_made_up(tmp_path_factory.mktemp("published"))


def test_files_that_differ_from_the_published_ones_are_read_and_noted(folder: Path) -> None:
    found = load(folder)
    assert found.missing == ()
    assert [note.split()[0] for note in found.notes] == [spec.name for spec in FILES.values()]
    assert all("is not the published file (SHA-256" in note for note in found.notes)
    assert found.values("cifar10", "test", "ghn2_test_acc")[7] == BASIC["test"]["7"]["ghn2_test_acc"]
    assert found.values("cifar10_extended", "deep", "sgd20_test_acc")[3] == EXTENDED["deep"]["3"]["test_acc"][3]
    assert found.values("imagenet", "val", "sgd1_val_acc")[499] == IMAGE_NET["val"]["499"]["val_acc"]
    assert found.models is not None
    assert found.models["ghn3-t"].tolist() == [i + 6.5 for i in range(74)]


def test_defects_are_found_in_the_values(folder: Path) -> None:
    found = load(folder)
    assert len(found.unusable) == 5 * 3 * 7 + 3 * 2 * 3
    table = found.networks["cifar10_extended"]
    for bad in found.unusable:
        assert table.loc[table["split"] == bad.split, bad.column].isna().all()
        assert "a copy of " in bad.reason
    val = found.networks["cifar10"][found.networks["cifar10"]["split"] == "val"]
    assert val["ghn2_val_acc"].tolist() == [own["ghn2_test_acc"] for own in BASIC["val"].values()]
    assert val["ghn2_test_acc"].isna().all()


def test_repaired_values_are_used(tmp_path: Path) -> None:
    repaired = copy.deepcopy(EXTENDED)
    own = made_up("imagenet", 5)
    for index, values in repaired["deep"].items():
        values["mlp_val_acc"] = own["deep"][index]["test_acc"]
        values["val_acc"] = [own["deep"][index]["test_acc"]] * 7
    (tmp_path / FILES["cifar10_extended"].name).write_text(json.dumps(repaired))
    found = load(tmp_path)
    expected = [values["test_acc"] for values in own["deep"].values()]
    for column in ("mlp_val_acc", "sgd50_val_acc"):
        assert found.values("cifar10_extended", "deep", column).tolist() == expected
    with pytest.raises(ConfigError, match="a copy"):
        found.values("cifar10_extended", "dense", "mlp_val_acc")


def test_defects_in_words() -> None:
    assert len(defects()) >= 5
    for defect in defects():
        assert defect.file.startswith(tuple(spec.name for spec in FILES.values()))
        assert max(map(len, str(defect).splitlines())) <= WIDTH


def test_accuracies_of_made_up_files(folder: Path) -> None:
    table = accuracies(load(folder)).set_index(["method", "split"]).sort_index()
    values = np.array([own["ghn1_test_acc"] for own in BASIC["deep"].values()])
    row = table.loc[[("GHN-1", "deep")]].iloc[0]
    assert row["mean"] == pytest.approx(values.mean())
    assert row["standard_error"] == pytest.approx(math.sqrt(np.mean((values - values.mean()) ** 2) / 100))
    assert (row["best"], row["best_index"], row["networks"]) == (values.max(), values.argmax(), 100)


# --- missing files ---


def test_missing_files_are_named(tmp_path: Path) -> None:
    found = load(write_made_up(tmp_path, "imagenet"))
    assert found.missing == tuple(spec.name for file, spec in FILES.items() if file != "imagenet")
    assert [note for note in found.notes if "is not in" in note] == [f"{n} is not in {tmp_path}" for n in found.missing]
    assert len(accuracies(found, "imagenet")) == 3 * 8
    for ask in (
        lambda: accuracies(found),
        lambda: targets(found, "cifar10", "val"),
    ):
        with pytest.raises(ConfigError, match=r"results_cifar10\.json"):
            ask()
    assert leaderboard(found, "cifar10").empty
    assert len(leaderboard(found, "imagenet")) == 3 * 7
    with pytest.raises(ConfigError, match=r"ghn3_results\.json is not there"):
        model_statistics(found)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has none of results_cifar10\.json, .*ghn3_results\.json"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="there is no such folder"):
        load(tmp_path / "absent")


def test_the_basic_file_alone(tmp_path: Path) -> None:
    found = load(write_made_up(tmp_path, "cifar10"))
    table = accuracies(found)
    assert table["method"].drop_duplicates().tolist() == ["MLP", "GHN-1", "GHN-2", "SGD 50 ep"]
    assert set(table[table["method"] == "GHN-2"]["split"]) == set(SPLITS) - {"val"}
    assert win_rates(found).set_index("split").loc["val"].isna().sum() == 3
    assert rank_correlations(found, split="val")["property"].tolist() == ["params", "time", "converge_time"]
    board = leaderboard(found, "cifar10").set_index(["method", "split"])
    assert board.loc[("GHN-2", "val"), "networks"] == 500
    reasons = targets(found, "cifar10", "deep").attrs["reasons"]
    assert reasons == dict.fromkeys(("val_acc", "val_acc_noise", "converge_time"), "not in the file")


def test_options_are_checked(folder: Path) -> None:
    found = load(folder)
    asks: list[tuple[str, Callable[[], Any]]] = [
        (
            "images: results are published for cifar10 and imagenet, not for 'digits'",
            lambda: accuracies(found, "digits"),
        ),
        ("part: expected val or test, got 'train'", lambda: accuracies(found, part="train")),
        ("split: expected one of val, .*, got 'train'", lambda: targets(found, "cifar10", "train")),
        ("winner: expected one of mlp, .*, got 'ghn3'", lambda: win_rates(found, winner="ghn3")),
        ("column: .* has no 'index'; it has params", lambda: found.values("cifar10", "test", "index")),
        ("file: expected one of cifar10, .*, got 'ghn3'", lambda: found.table("ghn3")),
    ]
    for message, ask in asks:
        with pytest.raises(ConfigError, match=message):
            ask()


# --- hostile files ---


def edited(path: tuple[Any, ...], value: Any, base: dict[str, Any] = BASIC) -> str:
    """A file with one thing changed."""
    made = {**base}
    at: Any = made
    for key in path[:-1]:
        at[key] = copy.copy(at[key])
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(made)


HOSTILE: list[tuple[Sequence[Any], Any, str]] = [
    ((), "", "is not JSON that can be read: Expecting value: line 1 column 1"),
    ((), '{"val": {', "is not JSON that can be read: .* line 1 column 10"),
    ((), "[" * 100_000, "is nested too deeply"),
    ((), "[]", r"expected an object, got \[\]"),
    ((), '{"val": {}, "val": {}}', "the key 'val' is there twice"),
    ((), '{"val": NaN}', "NaN is no number"),
    ((), '{"val": ' + "9" * 5000 + "}", "an integer of 5,000 characters"),
    (("test",), ..., "has no split 'test'"),
    (("train",), {}, "'train' is none of the splits val, test"),
    (("deep",), [], r"split 'deep': expected an object, got \[\]"),
    (("deep", "99"), ..., 'split \'deep\': expected 100 networks, "0" to "99", got 99'),
    (("deep", "100"), {}, "split 'deep': expected 100 networks, .*, got 101"),
    (("deep", "7"), None, "split 'deep', network 7: expected an object, got None"),
    (("deep", "7", "params"), ..., "split 'deep', network 7: has no field 'params'"),
    (("deep", "7", "params"), 3.5, "network 7, field 'params': expected an integer above 0, got 3.5"),
    (("deep", "7", "params"), True, "field 'params': expected an integer above 0, got True"),
    (("deep", "7", "params"), 9_999_999_999_999_999_999, "field 'params': expected an integer above 0"),
    (("deep", "7", "time"), "7", "field 'time': expected a number from 0 on, got '7'"),
    (("deep", "7", "time"), -1, "field 'time': expected a number from 0 on, got -1"),
    (("deep", "7", "test_acc"), 100.5, "field 'test_acc': expected a number from 0 to 100, got 100.5"),
    (("deep", "7", "ghn2_test_acc"), [1.0], r"field 'ghn2_test_acc': expected a number from 0 to 100, got \[1.0\]"),
    (("test", "7", "converge_time"), 2.5, "field 'converge_time': expected a number from 0 to 2, got 2.5"),
]


@pytest.mark.parametrize(("path", "value", "message"), HOSTILE, ids=[message[:40] for *_, message in HOSTILE])
def test_broken_files_are_refused(path: tuple[Any, ...], value: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / FILES["cifar10"].name
    file.write_text(edited(path, value) if path else value)
    with pytest.raises(FormatError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).replace(str(file), "")) < 300
    assert "\n" not in str(caught.value)


def test_numbers_too_large_for_a_float(tmp_path: Path) -> None:
    text = edited(("deep", "7", "time"), 123.25).replace("123.25", "1e999")
    (tmp_path / FILES["cifar10"].name).write_text(text)
    with pytest.raises(FormatError, match="network 7, field 'time': expected a number from 0 on, got inf"):
        load(tmp_path)


def test_broken_curves_are_refused(tmp_path: Path) -> None:
    cases = [
        (("test", "3", "test_acc"), [1.0] * 6, r"network 3, field 'test_acc': expected a list of 7 numbers, got 6"),
        (
            ("test", "3", "training_loss"),
            [1.0] * 49 + ["x"],
            r"field 'training_loss\[49\]': expected a number from 0 on",
        ),
        (("test", "3", "training_acc"), 4.0, "field 'training_acc': expected a list of 50 numbers, got 4.0"),
    ]
    for path, value, message in cases:
        (tmp_path / FILES["cifar10_extended"].name).write_text(edited(path, value, EXTENDED))
        with pytest.raises(FormatError, match=message):
            load(tmp_path)


def test_files_that_are_no_texts(tmp_path: Path) -> None:
    path = tmp_path / FILES["cifar10"].name
    path.write_bytes(b'{"val": "\xff"}')
    with pytest.raises(FormatError, match=r"results_cifar10\.json: byte 9 is not part of a text in UTF-8"):
        load(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FormatError, match="expected a file"):
        load(tmp_path)
    path.rmdir()
    with path.open("wb") as stream:
        stream.truncate(65 << 20)
    with pytest.raises(FormatError, match="has more than 64 MB"):
        load(tmp_path)


def test_fields_that_are_not_known_are_noted(tmp_path: Path) -> None:
    (tmp_path / FILES["cifar10"].name).write_text(edited(("deep", "7", "colour"), 3))
    assert any("has fields that are not known, which are not read: 'colour'" in note for note in load(tmp_path).notes)


def test_broken_models_are_refused(tmp_path: Path) -> None:
    good = made_up_models()
    lines = [json.dumps(model) for model in good]
    fields = good[5]["model5"]
    cases = [
        (lines[:-1], "expected 74 models, got 73"),
        ([*lines, lines[3]], "line 75, model 'model3': the model is there twice"),
        ([*lines[:5], "{", *lines[6:]], "line 6: is not JSON"),
        ([*lines[:5], r'{"model\u001b[2J": 3}'], "line 6, model 'model.*: expected a name of letters, digits and _"),
        ([*lines[:5], '{"model5": 3}', *lines[6:]], "line 6, model 'model5': expected an object, got 3"),
        (
            [*lines[:5], json.dumps({"model5": {**fields, "ghn2": 0.5}})],
            "field 'ghn2': expected a decimal number as a text",
        ),
        ([*lines[:5], json.dumps({"model5": {**fields, "ghn2": "nan"}})], "field 'ghn2': expected a decimal number"),
        (
            [*lines[:5], json.dumps({"model5": {**fields, "ghn2": "100.5"}})],
            "expected a number from 0 to 100, got 100.5",
        ),
        ([*lines[:5], json.dumps({"model5": {"ghn2": "0.5"}})], "model 'model5': has no field 'ghn3-t'"),
    ]
    for text, message in cases:
        (tmp_path / FILES["ghn3"].name).write_text("\n".join(text))
        with pytest.raises(FormatError, match=message):
            load(tmp_path)
