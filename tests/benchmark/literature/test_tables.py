"""The published results: the literature's tables from its own files, to the last digit.

These tests need the published files: a folder in the environment variable DEEPNETS_PUBLISHED.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.literature import Published, accuracy_text, leaderboard, load, statistics_text, targets
from benchmark.literature.files import FILES, SPLITS
from benchmark.literature.tables import (
    accuracies,
    at_chance,
    model_statistics,
    parameter_counts,
    rank_correlations,
    win_rates,
)
from benchmark.literature.text import decimal

METHODS = ("mlp", "ghn1", "ghn2")
OUT = ("wide", "deep", "dense", "bnfree")


def cells(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return {row[0]: row[1:] for row in rows}


# --- accuracies, as published ---

# Rounded once: 1.6346 (SGD 5 ep, deep) and 0.5545 (ImageNet, SGD 1 ep, test) would be 1.64 and 0.56 by way of 3 digits.
CIFAR10 = """
MLP | 42.23±0.62 | 60.24 | 22.29±0.88 | 37.92±1.23 | 44.79±1.06 | 23.89±0.75 | 17.69 / 10.00
GHN-1 | 51.35±0.43 | 59.90 | 43.10±1.67 | 48.33±0.78 | 51.83±0.93 | 13.71±0.27 | 19.20 / 18.23
GHN-2 | 66.88±0.35 | 77.12 | 63.97±1.13 | 60.54±1.17 | 65.84±0.68 | 36.80±1.51 | 58.62 / 11.41
SGD 1 ep | 46.94±0.40 | 65.05 | 47.19±1.08 | 34.22±1.08 | 45.33±0.71 | 18.02±1.06 | 51.50 / 34.49
SGD 5 ep | 69.58±0.43 | 83.24 | 71.19±1.34 | 56.67±1.63 | 67.75±0.91 | 29.01±2.02 | 78.19 / 52.52
SGD 10 ep | 77.13±0.38 | 86.36 | 78.45±1.40 | 67.07±1.72 | 76.04±0.86 | 35.09±2.58 | 84.46 / 59.03
SGD 20 ep | 82.75±0.32 | 89.92 | 83.24±1.38 | 76.07±1.45 | 81.68±0.82 | 40.87±3.12 | 87.32 / 65.26
SGD 30 ep | 85.70±0.30 | 91.80 | 85.93±1.36 | 80.41±1.45 | 84.65±0.82 | 43.45±3.36 | 90.63 / 71.92
SGD 40 ep | 87.90±0.28 | 93.08 | 88.23±1.29 | 83.05±1.49 | 86.68±0.84 | 45.04±3.52 | 92.79 / 74.37
SGD 50 ep | 88.53±0.27 | 93.11 | 88.90±1.23 | 84.50±1.23 | 87.27±0.84 | 45.55±3.57 | 93.46 / 75.66
"""
IMAGENET = """
GHN-1 | 17.22±0.37 | 32.14 | 15.79±0.90 | 15.88±0.80 | 15.15±0.75 | 0.51±0.00 | 6.94 / 0.90
GHN-2 | 27.23±0.62 | 48.33 | 19.37±1.40 | 24.70±1.40 | 26.42±1.21 | 7.17±0.56 | 5.22 / 4.42
SGD 1 ep | 37.66±0.55 | 61.95 | 38.74±1.59 | 22.05±1.45 | 36.28±1.23 | 7.99±1.20 | 57.70 / 33.40
"""


def laid_out(table: pd.DataFrame) -> dict[str, list[str]]:
    """Means and errors of a table of accuracies, as the constants above have them, by plain formatting."""
    made = {}
    for method, rows in table.groupby("method", sort=False):
        by_split = {row.split: row for row in rows[rows["network"] == ""].itertuples()}
        values = {split: f"{row.mean + 1e-9:.2f}±{row.standard_error:.2f}" for split, row in by_split.items()}
        pair = [f"{mean:.2f}" for mean in rows[rows["split"] == "predefined"]["mean"]]
        made[method] = [
            values["test"],
            f"{by_split['test'].best:.2f}",
            *(values[split] for split in OUT),
            " / ".join(pair),
        ]
    return made


@pytest.mark.parametrize(("images", "expected"), [("cifar10", CIFAR10), ("imagenet", IMAGENET)])
def test_accuracies_are_the_published_ones(published: Published, images: str, expected: str) -> None:
    table = accuracies(published, images)
    assert laid_out(table) == cells(expected)
    lines = accuracy_text(published, None, images).splitlines()[2:]
    assert {line[:9].strip(): line[9:].split() for line in lines} == {
        method: " ".join(row).split() for method, row in cells(expected).items()
    }


def test_the_formula_of_the_error(published: Published) -> None:
    """Of the population: that of a sample would be 0.34826."""
    row = accuracies(published).set_index(["method", "split"]).loc[("GHN-2", "test")]
    assert (f"{row['mean']:.4f}", f"{row['standard_error']:.5f}", row["networks"]) == ("66.8780", "0.34792", 500)


def test_best_networks(published: Published) -> None:
    best = accuracies(published).set_index(["method", "split"])["best"]
    found = {
        method: "/".join(f"{best[method, split]:.2f}" for split in OUT)
        for method in ("MLP", "GHN-1", "GHN-2", "SGD 50 ep")
    }
    assert found == {
        "MLP": "45.29/56.53/58.45/43.96",
        "GHN-1": "58.62/59.03/59.26/18.42",
        "GHN-2": "76.04/76.53/76.59/58.73",
        "SGD 50 ep": "94.79/92.45/92.98/89.09",
    }
    index = accuracies(published).set_index(["method", "split"])["best_index"]
    assert [index[method, "test"] for method in ("MLP", "GHN-1", "GHN-2", "SGD 50 ep")] == [167, 179, 210, 489]
    table = accuracies(published, "imagenet").set_index(["method", "split"])
    found_there = [(table.loc[(m, "test"), "best_index"], table.loc[(m, "test"), "best"]) for m in ("GHN-1", "GHN-2")]
    assert found_there == [(295, 32.14), (85, 48.33)]


def test_the_extended_file_alone(published: Published, tmp_path: Path) -> None:
    name = FILES["cifar10_extended"].name
    (tmp_path / name).symlink_to(published.folder.resolve() / name)
    alone = load(tmp_path)
    table = accuracies(alone)
    expected = cells(CIFAR10)
    expected["GHN-1"][2] = "43.09" + expected["GHN-1"][2][5:]
    expected["GHN-2"][2] = "63.95" + expected["GHN-2"][2][5:]
    assert laid_out(table) == expected
    assert set(table["source"]) == {name}


def of_split(
    published: Published, split: str, part: str, noise: bool = False, images: str = "cifar10"
) -> dict[str, str]:
    table = accuracies(published, images, part=part, noise=noise)
    table = table[table["split"] == split]
    return {row.method: f"{row.mean + 1e-9:.2f}±{row.standard_error:.2f}" for row in table.itertuples()}


MAIN = ("MLP", "GHN-1", "GHN-2", "SGD 50 ep")


def test_networks_of_val(published: Published) -> None:
    found = of_split(published, "val", "test")
    assert [found[m] for m in (*MAIN[:3], "SGD 1 ep", "SGD 5 ep", "SGD 50 ep")] == [
        *("43.25±0.61", "50.85±0.48", "66.70±0.39", "46.14±0.38", "69.19±0.42", "88.55±0.27")
    ]
    table = accuracies(published)
    best = table[table["split"] == "val"].set_index("method")["best"]
    assert [best[m] for m in (*MAIN[:3], "SGD 1 ep", "SGD 5 ep", "SGD 50 ep")] == [
        *(61.01, 59.37, 77.44, 66.46, 82.43, 93.52)
    ]
    found = of_split(published, "val", "val")
    assert [found[method] for method in MAIN] == ["43.83±0.63", "51.49±0.49", "67.52±0.40", "89.17±0.28"]


def test_noisy_images(published: Published) -> None:
    cases = {
        ("test", "test"): ["36.67±0.51", "42.07±0.33", "48.62±0.32", "59.22±0.59"],
        ("test", "val"): ["37.07±0.52", "42.37±0.34", "49.44±0.33", "59.75±0.60"],
        ("val", "test"): ["37.48±0.51", "41.52±0.36", "48.49±0.35", "58.43±0.57"],
    }
    for (split, part), expected in cases.items():
        found = of_split(published, split, part, noise=True)
        assert [found[method] for method in MAIN] == expected, (split, part)
    assert of_split(published, "wide", "test", noise=True)["GHN-2"] == "45.90±0.88"


def test_imagenet_networks_of_val_and_validation_images(published: Published) -> None:
    def of(split: str, part: str, noise: bool = False) -> dict[str, str]:
        return of_split(published, split, part, noise, "imagenet")

    assert of("val", "test") == {"GHN-1": "17.56±0.39", "GHN-2": "28.54±0.66", "SGD 1 ep": "36.43±0.57"}
    assert (of("val", "val"), of("test", "val")) == ({"SGD 1 ep": "38.07±0.59"}, {"SGD 1 ep": "39.37±0.58"})
    assert of("val", "val", noise=True) == {"SGD 1 ep": "10.25±0.41"}
    assert of("test", "val", noise=True) == {"SGD 1 ep": "11.42±0.47"}
    assert of("test", "test", noise=True) == {}


# --- what else they say ---


def test_networks_that_sgd_does_not_train(published: Published) -> None:
    assert at_chance(published)["at_chance"].tolist() == [2, 2, 2, 1, 1, 50, 0]
    assert at_chance(published, "imagenet")["at_chance"].tolist() == [12, 14, 6, 13, 2, 67, 0]


def test_parameters(published: Published) -> None:
    expected = {
        "cifar10": "2.50/3.28/7.28 2.50/3.34/34.79 38.77/51.56/101.38 2.52/3.99/15.30 2.53/3.76/8.82 2.50/3.19/7.73",
        "imagenet": "2.16/3.70/22.80 2.22/3.67/35.06 9.33/13.37/25.71 2.46/4.48/28.54 2.56/4.11/9.10 2.33/3.71/21.98",
    }
    for images, text in expected.items():
        rows = parameter_counts(published, images).iloc[:-1]
        assert " ".join(f"{row.min:.2f}/{row.mean:.2f}/{row.max:.2f}" for row in rows.itertuples()) == text
        lines = statistics_text(published, images, "parameters").splitlines()[2:-1]
        assert [line.split()[0] for line in lines] == list(SPLITS[:-1])
        assert " ".join("/".join(line.split()[1:]) for line in lines) == text


def test_rank_correlations(published: Published) -> None:
    found = {row.property: f"{row.tau:.3f}" for row in rank_correlations(published).itertuples()}
    assert found == {
        "MLP": "0.100",
        "GHN-1": "0.280",
        "GHN-2": "0.264",
        "params": "-0.021",
        "time": "-0.108",
        "converge_time": "-0.595",
    }
    found = {row.property: f"{row.tau:.3f}" for row in rank_correlations(published, "imagenet").itertuples()}
    assert found == {"GHN-1": "0.163", "GHN-2": "0.026", "params": "0.009", "time": "-0.096", "converge_time": "-0.792"}


WINS = """
test | 0.99 | 1.00 | 0.97 | 0.34 | 0.82 | 0.32
wide | 0.99 | 1.00 | 0.93 | 0.12 | 0.62 | 0.22
deep | 0.94 | 0.99 | 0.96 | 0.63 | 0.85 | 0.62
dense | 0.99 | 1.00 | 0.99 | 0.41 | 0.96 | 0.25
bnfree | 0.93 | 0.76 | 0.91 | 0.70 | 0.91 | 0.62
"""


def test_win_rates(published: Published) -> None:
    cifar10 = win_rates(published).set_index("split")[["GHN-1", "MLP", "SGD 1 ep", "SGD 5 ep"]]
    imagenet = win_rates(published, "imagenet").set_index("split")[["GHN-1", "SGD 1 ep"]]
    assert {
        split: [f"{value:.2f}" for value in (*cifar10.loc[split], *imagenet.loc[split])] for split in SPLITS[1:-1]
    } == cells(WINS)


MODELS = """
ghn2 | 0.190 | 0.251 | 0.115 | 1.460 | resnet101 | 0.072
ghn3-t | 0.685 | 1.974 | 0.121 | 10.768 | wide_resnet50_2 | 0.058
ghn3 | 1.660 | 4.966 | 0.119 | 22.640 | wide_resnet50_2 | 0.064
randinit-sgd1ep | 17.364 | 7.185 | 19.975 | 28.340 | regnet_y_8gf | 2.000
ghn3-sgd1ep | 25.421 | 12.310 | 27.430 | 44.020 | wide_resnet50_2 | 3.330
ghn3-sgd10ep | 51.789 | 11.260 | 54.960 | 68.050 | regnet_y_32gf | 25.660
randinit-sota | 76.325 | 6.325 | 77.216 | 85.808 | efficientnet_v2_l | 56.522
"""
SOME_MODELS = """
resnet50 | 1.080 | 10.442 | 19.996 | 43.69 | 18.19 | 59.23 | 76.130
resnet152 | 1.206 | 3.218 | 17.074 | 43.27 | 16.89 | 60.02 | 78.312
densenet121 | 0.196 | 0.164 | 0.138 | 31.91 | 25.13 | 59.26 | 74.434
efficientnet_b0 | 0.136 | 0.114 | 0.124 | 22.83 | 24.64 | 53.84 | 77.692
vit_b_16 | 0.100 | 0.156 | 0.116 | 8.50 | 11.06 | 34.91 | 81.072
swin_t | 0.092 | 0.120 | 0.100 | 19.20 | 10.25 | 45.49 | 81.474
convnext_base | 0.098 | 0.128 | 0.118 | 5.08 | 2.67 | 28.20 | 84.062
squeezenet1_0 | 0.100 | 0.100 | 0.112 | 4.06 | 5.04 | 35.12 | 58.092
"""


def test_models_of_torchvision(published: Published) -> None:
    table = model_statistics(published)
    rows = table.set_index("key")
    assert {
        key: [*(decimal(row[name], 3) for name in ("mean", "std", "median", "max")), row["best"], f"{row['min']:.3f}"]
        for key, row in rows.loc[list(cells(MODELS))].iterrows()
    } == cells(MODELS)
    norms = [f"{rows.loc[f'{key}-paramnorm', 'mean']:.2f}" for key in ("ghn2", "ghn3-t", "ghn3", "randinit")]
    assert norms == ["267.87", "106.89", "148.32", "280.16"]
    assert (table.attrs["wins"], f"{rows.loc['gain', 'mean']:.2f}") == (55, "8.06")

    assert published.models is not None
    models = published.models.set_index("model")
    assert len(models) == 74
    assert models["randinit-sota"].is_monotonic_increasing
    fields = ["ghn2", "ghn3-t", "ghn3", "ghn3-sgd1ep", "randinit-sgd1ep", "ghn3-sgd10ep", "randinit-sota"]
    for model, values in cells(SOME_MODELS).items():
        assert models.loc[model, fields].tolist() == [float(value) for value in values], model
    best = models["ghn3"].sort_values(ascending=False)
    assert [(name, round(value, 3)) for name, value in best[:7].items()] == [
        *(("wide_resnet50_2", 22.64), ("resnet50", 19.996), ("resnet101", 18.854), ("wide_resnet101_2", 18.594)),
        *(("resnet152", 17.074), ("regnet_x_16gf", 10.46), ("resnet18", 2.21)),
    ]


# --- targets and leaderboard ---


def test_targets(published: Published) -> None:
    columns = ["index", "val_acc", "val_acc_noise", "time", "converge_time", "test_acc", "params"]
    table = targets(published, "cifar10", "test")
    assert list(table.columns) == columns
    assert len(table) == 500
    assert table.iloc[0].tolist() == [0, 85.18, 72.14, 6.852, 0.62, 83.82, 2_816_266]
    assert (table["index"].dtype, table["params"].dtype) == (np.int64, np.int64)
    assert targets(published, "imagenet", "test").iloc[0].tolist()[1:4] == [27.92, 18.24, 104]
    wide = targets(published.folder, "cifar10", "wide")
    assert wide[["val_acc", "val_acc_noise"]].isna().all(axis=None)
    assert wide[["time", "converge_time", "test_acc", "params"]].notna().all(axis=None)
    assert wide.attrs["reasons"]["val_acc"] == "a copy of the val_acc of the first networks of test"
    assert set(wide.attrs["sources"].values()) == {FILES["cifar10_extended"].name}


def test_leaderboard(published: Published) -> None:
    table = leaderboard(published, "cifar10")
    assert list(table.columns) == ["method", "split", "mean", "standard_error", "best", "best_index", "networks"]
    rows = table.set_index(["method", "split"]).sort_index()
    assert round(rows.loc[("GHN-2", "test"), "mean"].item(), 2) == 66.88
    assert round(rows.loc[("GHN-2", "val"), "mean"].item(), 2) == 67.52, "networks of val are for validation images"
    pair = rows.loc[("GHN-2", "predefined")]
    assert (pair["best"], pair["best_index"], pair["networks"]) == (58.62, 0, 2)
    assert 2 * pair["mean"] - pair["best"] == pytest.approx(11.41)
    assert table["method"].drop_duplicates().tolist()[:4] == ["MLP", "GHN-1", "GHN-2", "SGD 1 ep"]
    assert table["split"].tolist()[:14] == [*SPLITS, *SPLITS]
    assert len(table) == 10 * 7
