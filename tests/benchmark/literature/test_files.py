"""Published files: their values and known issues, missing files, and files that are not the published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.literature import WIDTH, leaderboard, list_known_issues, load, targets
from benchmark.literature.files import FILES, SPLITS
from benchmark.literature.tables import accuracies, model_statistics, rank_correlations, win_rates
from deepnets.support import ConfigError, FormatError
from tests.support.made_up_published import BASIC, EXTENDED, IMAGE_NET, write_made_up


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four files, made up."""
    return write_made_up(tmp_path_factory.mktemp("published"))


def test_values_are_read(folder: Path) -> None:
    found = load(folder)
    assert found.missing == ()
    assert found.values("cifar10", "test", "ghn2_test_acc")[7] == BASIC["test"]["7"]["ghn2_test_acc"]
    assert found.values("cifar10_extended", "deep", "sgd20_test_acc")[3] == EXTENDED["deep"]["3"]["test_acc"][3]
    assert found.values("imagenet", "val", "sgd1_val_acc")[499] == IMAGE_NET["val"]["499"]["val_acc"]
    assert found.models is not None
    assert found.models["ghn3-t"].tolist() == [i + 6.5 for i in range(74)]


def test_copied_values_are_unusable(folder: Path) -> None:
    found = load(folder)
    assert len(found.unusable) == 5 * 3 * 7 + 3 * 2 * 3
    table = found.networks["cifar10_extended"]
    for bad in found.unusable:
        assert table.loc[table["split"] == bad.split, bad.column].isna().all()
        assert "a copy of " in bad.reason
    val = found.networks["cifar10"][found.networks["cifar10"]["split"] == "val"]
    assert val["ghn2_val_acc"].tolist() == [own["ghn2_test_acc"] for own in BASIC["val"].values()]
    assert val["ghn2_test_acc"].isna().all()


def test_known_issues_in_words() -> None:
    assert len(list_known_issues()) >= 5
    for issue in list_known_issues():
        assert issue.file.startswith(tuple(spec.name for spec in FILES.values()))
        assert max(map(len, str(issue).splitlines())) <= WIDTH


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
    assert len(accuracies(found, "imagenet")) == 3 * 8
    for ask in (
        lambda: accuracies(found),
        lambda: targets(found, "cifar10", "val"),
    ):
        with pytest.raises(ConfigError, match=r"results_cifar10\.json"):
            ask()
    assert leaderboard(found, "cifar10").empty
    assert len(leaderboard(found, "imagenet")) == 3 * 7
    with pytest.raises(ConfigError, match=r"ghn3_results\.json is missing"):
        model_statistics(found)


def test_folders_without_published_files(tmp_path: Path) -> None:
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


# --- files that are not the published ones ---


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"val": "\xff"}', json.dumps(BASIC).encode()])
def test_unknown_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILES["cifar10"].name
    path.write_bytes(content)
    with pytest.raises(FormatError, match="is not the published file") as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_published_file_under_another_name_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / FILES["cifar10"].name
    path.write_bytes((folder / FILES["imagenet"].name).read_bytes())
    with pytest.raises(FormatError, match="is not the published file"):
        load(tmp_path)


def test_folders_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / FILES["cifar10"].name
    path.mkdir()
    with pytest.raises(FormatError, match="is not the published file"):
        load(tmp_path)
    path.rmdir()
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # it is not read
    with pytest.raises(FormatError, match="is not the published file"):
        load(tmp_path)
