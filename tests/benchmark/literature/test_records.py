"""Records of the published files, and that their known issues are as described; these tests need the files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.literature import Published
from benchmark.literature.files import FILES, SIZES, SPLITS
from deepnets.support import ConfigError

METHODS = ("mlp", "ghn1", "ghn2")
OUT = ("wide", "deep", "dense", "bnfree")


# --- records ---


def record(published: Published, file: str, split: str, index: int) -> pd.Series:
    table = published.networks[file]
    return table[(table["split"] == split) & (table["index"] == index)].iloc[0]


def test_records_of_the_basic_file(published: Published) -> None:
    row = record(published, "cifar10", "test", 0)
    fields = ["sgd50_test_acc", "params", "time", "sgd50_val_acc", "sgd50_val_acc_noise", "sgd50_test_acc_noise"]
    fields += ["converge_time", "ghn1_test_acc", "ghn2_test_acc", "mlp_test_acc"]
    assert row[fields].tolist() == [83.82, 2_816_266, 6.852, 85.18, 72.14, 71.99, 0.62, 53.35, 65.90, 48.04]
    row = record(published, "cifar10", "wide", 0)
    fields = ["sgd50_test_acc", "params", "time", "ghn1_test_acc", "ghn2_test_acc", "mlp_test_acc"]
    assert row[fields].tolist() == [86.78, 42_744_586, 20.484, 50.47, 64.70, 18.44]
    assert published.networks["cifar10"]["params"].dtype == np.int64


def test_records_of_the_extended_file(published: Published) -> None:
    row = record(published, "cifar10_extended", "test", 0)
    epochs = (1, 5, 10, 20, 30, 40, 50)
    test = [43.57, 61.92, 71.19, 76.81, 81.91, 82.76, 83.82]
    assert row[[f"sgd{epoch}_test_acc" for epoch in epochs]].tolist() == test
    val = [43.84, 62.90, 73.56, 77.28, 83.24, 83.94, 85.18]
    assert row[[f"sgd{epoch}_val_acc" for epoch in epochs]].tolist() == val
    assert published.training is not None
    curve = published.training
    curve = curve[(curve["split"] == "test") & (curve["index"] == 0)]
    assert curve["epoch"].tolist() == list(range(1, 51))
    assert curve["acc"].iloc[[0, -1]].tolist() == [34.49, 97.50]
    assert curve["loss"].iloc[[0, -1]].tolist() == [1.409, 0.029]

    row = record(published, "cifar10_extended", "predefined", 0)
    assert row[["sgd1_test_acc", "sgd50_test_acc", "converge_time"]].tolist() == [51.50, 93.46, 0.36]
    assert row[["ghn2_val_acc", "ghn2_test_acc"]].tolist() == [60.74, 58.62]
    assert row[["ghn2_val_acc_noise", "ghn2_test_acc_noise"]].tolist() == [43.96, 41.75]
    assert row[[f"sgd{epoch}_val_acc" for epoch in epochs]].isna().all(), "those of network 0 of test are not its own"


def test_records_of_the_imagenet_file(published: Published) -> None:
    row = record(published, "imagenet", "test", 0)
    fields = ["sgd1_test_acc", "params", "time", "sgd1_val_acc", "sgd1_val_acc_noise", "ghn1_test_acc", "ghn2_test_acc"]
    assert row[fields].tolist() == [26.87, 3_135_976, 104, 27.92, 18.24, 19.72, 3.10]
    assert f"{row['converge_time']:.5f}" == "0.66327"


# --- known issues: what `list_known_issues()` claims holds ---


@pytest.fixture(scope="session")
def raw(published: Published) -> dict[str, Any]:
    return {
        file: json.loads((published.folder / FILES[file].name).read_text()) for file in ("cifar10", "cifar10_extended")
    }


def test_copied_curves_are_not_used(published: Published, raw: dict[str, Any]) -> None:
    extended = raw["cifar10_extended"]
    table = published.networks["cifar10_extended"]
    for split in (*OUT, "predefined"):
        rows = table[table["split"] == split]
        for field in ("val_acc", "val_acc_noise", "test_acc_noise"):
            for index in range(SIZES[split]):
                assert extended[split][str(index)][field] == extended["test"][str(index)][field]
            assert rows[[f"sgd{epoch}_{field}" for epoch in (1, 5, 50)]].isna().all(axis=None)
        assert rows[["sgd50_test_acc", "time", "params", "converge_time"]].notna().all(axis=None)
    for split in OUT[1:]:
        rows = table[table["split"] == split]
        for method in ("ghn1", "mlp"):
            for field in ("val_acc", "val_acc_noise", "test_acc_noise"):
                for own in extended[split].values():
                    assert own[f"{method}_{field}"] == own[f"ghn2_{field}"]
                assert rows[f"{method}_{field}"].isna().all()
            assert rows[f"{method}_test_acc"].notna().all()
    # 5 splits x 3 fields x 7 epochs, and 3 splits x 2 methods x 3 fields: nothing else has become NaN
    assert len(published.unusable) == 5 * 3 * 7 + 3 * 2 * 3
    usable = table[table["split"].isin(["val", "test"])]
    assert usable.notna().all(axis=None)


def test_predicted_accuracies_of_val_in_the_basic_file_are_of_validation_images(published: Published) -> None:
    basic, extended = (published.networks[file] for file in ("cifar10", "cifar10_extended"))
    basic, extended = (table[table["split"] == "val"] for table in (basic, extended))
    for method in METHODS:
        own = basic[f"{method}_val_acc"].to_numpy()
        away = np.abs(own - extended[f"{method}_val_acc"].to_numpy())
        assert 0.925 < (away == 0).mean() < 0.975
        assert away.max() < 0.1001
        assert basic[f"{method}_test_acc"].isna().all()
    most = max(np.abs(basic[f"{m}_val_acc"].to_numpy() - extended[f"{m}_test_acc"].to_numpy()).max() for m in METHODS)
    assert 2 < most < 2.65


def test_differences_between_the_two_files(published: Published) -> None:
    most = {"ghn1": 1.63, "ghn2": 1.20, "mlp": 0.57}
    for split in SPLITS[1:]:
        for method in METHODS:
            first, second = (published.values(f, split, f"{method}_test_acc") for f in ("cifar10", "cifar10_extended"))
            away = np.abs(first - second)
            outliers = int((away > 0.0301).sum())
            assert outliers == (2 if split == "wide" else 0), (split, method)
            if outliers:
                assert round(away.max(), 2) == most[method]
    noisy = [published.values(f, "test", "sgd50_val_acc_noise")[414] for f in ("cifar10", "cifar10_extended")]
    assert sorted(noisy) == [38.54, 46.16]
    assert published.values("cifar10", "predefined", "sgd50_test_acc").tolist() == [93.5, 75.7]


def test_unusable_values_have_a_reason(published: Published) -> None:
    with pytest.raises(
        ConfigError, match=r"extended\.json: sgd50_val_acc of wide: a copy of the val_acc of the first net"
    ):
        published.values("cifar10_extended", "wide", "sgd50_val_acc")
    with pytest.raises(ConfigError, match="mlp_val_acc of deep: a copy of ghn2_val_acc"):
        published.values("cifar10_extended", "deep", "mlp_val_acc")
    with pytest.raises(ConfigError, match="sgd50_val_acc of wide: the file has none"):
        published.values("cifar10", "wide", "sgd50_val_acc")
