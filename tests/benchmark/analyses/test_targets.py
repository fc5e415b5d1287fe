"""Targets of property prediction, from our own results and from the published ones."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.analyses import (
    PROPERTIES,
    choose_rows,
    own_targets,
    published_targets,
)
from benchmark.analyses.targets import converge_times
from benchmark.results import read_results
from deepnets import ConfigError, DeepNets1M
from tests.support.made_up_results import row, write
from tests.support.results_of_corpus import results

PUBLISHED_FILES = Path(
    os.environ.get("DEEPNETS_PUBLISHED", Path(__file__).parents[4] / "shared" / "data" / "published")
)


def test_targets_from_our_own_runs(corpus: Path, tmp_path: Path) -> None:
    found = read_results(results(tmp_path, corpus))
    rows = choose_rows(found, ("val", "test"))
    curves = pd.DataFrame(
        {
            "split": "val",
            "index": [0, 0, 0, 0, 2, 2, 3],
            "epoch": [1, 2, 3, 4, 1, 2, 1],
            "train_top1": [50, 91.9, 92.0, 91, 60, 70, 99],
            "status": ["ok"] * 6 + ["failed"],
        }
    )
    table = own_targets(rows, DeepNets1M(corpus, "val"), runs=found.runs, curves=curves)
    assert list(table) == ["index", *PROPERTIES]
    assert len(table) == 500
    assert table.attrs["about"] == "top1 on val images, noise 0.08"
    here = found.rows[(found.rows["split"] == "val") & (found.rows["part"] == "val")]
    clean, noisy = (here[here["noise"] == noise].set_index("index")["top1"] for noise in (0, 0.08))
    assert table["val_acc"][:24].tolist() == pytest.approx(clean.tolist(), nan_ok=True)
    assert table["val_acc_noise"][:24].tolist() == pytest.approx(noisy.tolist(), nan_ok=True)
    assert table["time"][0] == pytest.approx(1.5 * 10_000 / 360)
    assert table.loc[[1, *range(24, 500)], ["val_acc", "val_acc_noise", "time"]].isna().all(axis=None)
    assert table["converge_time"][:4].tolist() == pytest.approx([0.75, math.nan, 2, math.nan], nan_ok=True)
    test = own_targets(rows, DeepNets1M(corpus, "test"), runs=found.runs)
    assert test.attrs["part"] == "test"
    assert test["converge_time"].isna().all()


def test_a_metric_without_values(corpus: Path, tmp_path: Path) -> None:
    found = read_results(results(tmp_path, corpus))
    with pytest.raises(ConfigError, match="no values of perplexity"):
        own_targets(choose_rows(found, ("val",)), DeepNets1M(corpus, "val"), runs=found.runs, metric="perplexity")
    with pytest.raises(ConfigError, match="no values of perplexity"):
        found.metric_name("perplexity")


def test_noise_is_of_one_level(corpus: Path) -> None:
    """A failure on one split does not change the images of the other, and a level that one split lacks is not used."""
    levels = {"val": (0.08, 0.18, 0.3, 0.3), "test": (0.08, 0.18)}
    rows = pd.DataFrame(
        [
            row("a", "mine", split, i, top1, part="test", noise=level, evaluate_seconds=1.5)
            for split in levels
            for i in range(3)
            for level in (0.0, *levels[split])
            for top1 in (None if (split, level, i) == ("test", 0.08, 0) else 50.0,)
        ]
    )
    for split in levels:
        assert own_targets(rows, DeepNets1M(corpus, split)).attrs["about"] == "top1 on test images, noise 0.08"


def test_convergence() -> None:
    curves = pd.DataFrame({"index": [4] * 50, "epoch": range(1, 51), "train_top1": np.arange(50, 100), "status": "ok"})
    assert converge_times(curves).to_dict() == {4: 43 / 50}


def test_results_of_other_networks_are_refused(corpus: Path, tmp_path: Path) -> None:
    found = read_results(results(tmp_path, corpus, corpus="0" * 64))
    with pytest.raises(ConfigError, match=r"deepnets1m_val.h5: contains other networks than run val-"):
        own_targets(choose_rows(found, ("val", "test")), DeepNets1M(corpus, "val"), runs=found.runs)


def test_choice_of_results(tmp_path: Path) -> None:
    rows = [row("a", name, split, 0, 50.0) for name in ("one", "two") for split in ("val", "test")]
    rows += [row("a", "three", "val", 0, 50.0)]
    found = read_results(write(tmp_path, rows, {}))
    assert set(choose_rows(found, ("val", "test"), "two", "digits")["predictor"]) == {"two"}
    with pytest.raises(ConfigError, match=r"--predictor: .* has results of val and test for one, two; choose one"):
        choose_rows(found, ("val", "test"))
    with pytest.raises(ConfigError, match=r"--predictor: .* has no results of val and test for 'three'; there are"):
        choose_rows(found, ("val", "test"), "three")
    with pytest.raises(ConfigError, match=r"--images: .* has no results of val and test for 'cifar10'"):
        choose_rows(found, ("val", "test"), "two", "cifar10")
    with pytest.raises(ConfigError, match="no images has results of wide"):
        choose_rows(found, ("wide",))


def test_published_properties_are_of_the_published_networks(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmark.literature

    nets = DeepNets1M(corpus, "val", num_nets=20)
    table = pd.DataFrame({"index": range(500), **dict.fromkeys(PROPERTIES, 3.0)})
    table["params"] = DeepNets1M(corpus, "val").table["num_params"].astype(float)
    monkeypatch.setattr(benchmark.literature, "targets", lambda *_: table)
    found = published_targets("folder", "cifar10", nets)
    assert list(found) == ["index", *PROPERTIES]
    assert (len(found), found["time"].unique().tolist()) == (20, [3.0])
    table["params"] = table["params"].to_numpy()[::-1]
    with pytest.raises(ConfigError, match=r"deepnets1m_val.h5: contains other networks than the published ones \(.*%"):
        published_targets("folder", "cifar10", nets)


@pytest.mark.skipif(not PUBLISHED_FILES.is_dir(), reason="the published files are not here")
def test_published_properties_of_other_networks_are_an_error(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"contains other networks than the published ones"):
        published_targets(PUBLISHED_FILES, "cifar10", DeepNets1M(corpus, "val"))
