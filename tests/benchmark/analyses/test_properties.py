"""Property prediction, against scikit-learn's own search, and the commands of the analyses."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.analyses import (
    ORDERS,
    PROPERTIES,
    STATISTICS,
    choose_rows,
    draw_correlations,
    draw_map,
    draw_predictions,
    draw_scores,
    own_targets,
    predict_property,
    properties,
)
from benchmark.analyses.embeddings import embed_networks
from benchmark.analyses.properties import GRID, best_parameters, fit_regressor, kendall
from benchmark.commands import properties as properties_command
from benchmark.metrics import METRICS, Metric, register_metric
from benchmark.results import read_results
from deepnets import ConfigError, DeepNets1M
from deepnets.support import MissingDataError, Parser
from ghn_model import GHN, GHNConfig
from tests.oracles.naive_tau import naive_tau_b
from tests.support.results_of_corpus import results


def small_ghn(seed: int = 0, preset: str = "ghn2") -> GHN:
    torch.manual_seed(seed)
    return GHN(GHNConfig.preset(preset, hidden=16, heads=4, layers=2, max_shape=(16, 16, 11, 11))).eval()


@pytest.fixture(scope="module")
def ghn() -> GHN:
    return small_ghn()


def data(n: int, seed: int, features: int = 4) -> tuple[Any, Any]:
    """Features, and targets of the size of accuracies that depend on them."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, features))
    return vectors, 70 + 8 * np.sin(vectors[:, 0]) + 5 * vectors[:, 1] + rng.normal(size=n)


# --- the regressor ---


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small grid, for tests of other properties."""
    monkeypatch.setattr(properties, "GRID", {"C": (1, 10), "epsilon": (0.1,), "gamma": ("auto", 0.5)})


def searched(vectors: Any, targets: Any, seed: int | None) -> Any:
    """The published procedure with scikit-learn's grid search."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVR

    order = np.arange(len(targets)) if seed is None else np.random.RandomState(seed).permutation(len(targets))
    grid = {name: list(values) for name, values in properties.GRID.items()}
    search = GridSearchCV(SVR(kernel="rbf"), grid, cv=5, scoring="r2").fit(vectors[order], targets[order])
    return search.best_params_


@pytest.mark.parametrize(("n", "seed"), [pytest.param(23, None, marks=pytest.mark.slow), (30, 0)])
def test_parameters_are_those_of_the_plain_search(n: int, seed: int | None) -> None:
    vectors, targets = data(n, n)
    assert best_parameters(vectors, targets, seed) == searched(vectors, targets, seed)


@pytest.mark.slow
def test_ties_between_parameters_are_resolved_as_in_scikit_learn() -> None:
    """Targets within the tube: every candidate predicts a constant."""
    vectors, _ = data(20, 0)
    targets = np.where(np.arange(20) % 2, 0.01, 0.02)
    assert best_parameters(vectors, targets) == searched(vectors, targets, None)


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("name", ["val_acc", "converge_time"])
def test_scores_are_those_of_the_plain_procedure(name: str) -> None:
    from scipy.stats import kendalltau
    from sklearn.svm import SVR

    (vectors, targets), (others, true) = data(25, 1), data(30, 2)
    scale = 1 if name == "val_acc" else 0.01
    targets, true = targets * scale, true * scale
    taus = []
    for seed in ORDERS:
        predicted = SVR(**searched(vectors, targets, seed)).fit(vectors, targets).predict(others)
        taus.append(kendalltau(true, predicted.round() if name == "val_acc" else predicted).statistic)
    found = predict_property(name, vectors, targets, others, true)
    assert found.taus == pytest.approx(taus, abs=1e-12)
    assert found.tau == pytest.approx(sum(taus) / 5)
    assert found.tau_std == pytest.approx(math.sqrt(sum((tau - found.tau) ** 2 for tau in taus) / 5))
    assert (found.num_train, found.num_test, found.without_train, found.without_test) == (25, 30, 0, 0)
    assert found.predictions == pytest.approx(predicted, abs=1e-9)


@pytest.mark.usefixtures("few_candidates")
def test_metrics_that_are_not_in_percent_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", {**METRICS._entries})
    register_metric(Metric("share_of_test", "share", "", METRICS["top1"].score))
    vectors, targets = {}, {}
    for split, n, seed in (("val", 25, 1), ("test", 30, 2)):
        vectors[split], values = data(n, seed)
        targets[split] = pd.DataFrame(dict.fromkeys(("val_acc", "val_acc_noise", "time"), values / 100))
        targets[split].attrs["metric"] = "share_of_test"
    options = SimpleNamespace(workers=1, quiet=True)
    found = properties_command._scores(vectors, targets, ["val_acc", "val_acc_noise", "time"], options)  # type: ignore[arg-type]
    expected = naive_tau_b(targets["test"]["val_acc"].tolist(), found[0].predictions.tolist())
    assert [score.taus[-1] for score in found[:2]] == pytest.approx([expected] * 2)
    assert set(found[2].predictions.round()) == {1.0}  # values between 0.5 and 1.5
    assert math.isnan(found[2].tau)


def test_the_published_procedure() -> None:
    assert PROPERTIES == ("val_acc", "val_acc_noise", "time", "converge_time")
    assert set(ORDERS) == {None, 0, 1, 2, 3}
    assert math.prod(len(values) for values in GRID.values()) == 105


@pytest.mark.usefixtures("few_candidates")
def test_networks_without_a_target_are_left_out_and_counted() -> None:
    (vectors, targets), (others, true) = data(20, 1), data(12, 2)
    expected = predict_property("time", vectors[2:], targets[2:], others[1:], true[1:], orders=(None,))
    targets[:2], true[0] = math.nan, math.inf
    found = predict_property("time", vectors, targets, others, true, orders=(None,))
    assert (found.num_train, found.num_test, found.without_train, found.without_test) == (18, 11, 2, 1)
    assert found.tau == expected.tau
    assert np.isnan(found.predictions[0])
    assert np.array_equal(found.predictions[1:], expected.predictions)


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.slow
def test_parameters_do_not_depend_on_the_number_of_jobs() -> None:
    vectors, targets = data(12, 1)
    assert best_parameters(vectors, targets, 1, workers=2) == best_parameters(vectors, targets, 1)


@pytest.mark.usefixtures("few_candidates")
def test_constant_targets_have_no_tau() -> None:
    vectors, targets = data(12, 0)
    found = predict_property("val_acc", vectors, np.full(12, 10.0), vectors, targets)
    assert math.isnan(found.tau)
    assert found.note == "all training networks have the value 10"
    assert (found.predictions == 10).all()
    found = predict_property("val_acc", vectors, targets, vectors, np.full(12, 10.0), orders=(None,))
    assert math.isnan(found.tau)
    assert found.note == "all test networks have the value 10"
    found = predict_property("val_acc", vectors, targets / 1000, vectors, targets, orders=(None,))
    assert math.isnan(found.tau)
    assert found.note == "predictions are the same for all test networks"


def test_what_cannot_be_fitted() -> None:
    vectors, targets = data(12, 0)
    with pytest.raises(ConfigError, match="training networks: 9 of 9 have a value to compare with, 10 or more are"):
        predict_property("val_acc", vectors[:9], targets[:9], vectors, targets)
    with pytest.raises(ConfigError, match="test networks: 1 of 12 have a value"):
        predict_property("val_acc", vectors, targets, vectors, np.where(np.arange(12) == 3, 1.0, math.nan))
    with pytest.raises(ConfigError, match=r"features have shape \(12, 4\), targets \(11,\)"):
        best_parameters(vectors, targets[:11])
    with pytest.raises(ConfigError, match="features are not finite"):
        best_parameters(vectors * math.inf, targets)
    with pytest.raises(ConfigError, match="training networks have 4, test networks 3"):
        predict_property("val_acc", vectors, targets, vectors[:, :3], targets)


def test_kendall_corrects_for_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, 30).astype(float), rng.integers(0, 4, 30).astype(float)
        assert kendall(x, y) == pytest.approx(naive_tau_b(x.tolist(), y.tolist()))
    assert math.isnan(kendall([1, 2, 3], [2, 2, 2]))
    assert math.isnan(kendall([1], [2]))


# --- the commands ---


def call(*arguments: str | Path) -> None:
    parser = Parser(prog="benchmark")
    properties_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    options = parser.parse_args([str(argument) for argument in arguments])
    options.do(options)


@pytest.fixture(scope="module")
def folder(corpus: Path, ghn: GHN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, a checkpoint `small.safetensors` and the vectors of its networks."""
    folder = tmp_path_factory.mktemp("analyses")
    results(folder, corpus)
    ghn.save(folder / "small.safetensors")
    return folder


def arguments(folder: Path, corpus: Path, out: Path) -> list[str | Path]:
    common: list[str | Path] = ["--data", corpus, "--results", folder, "--cache", folder / "vectors", "--jobs", "1"]
    return ["--checkpoint", folder / "small.safetensors", *common, "--out", out, "--quiet"]


@pytest.mark.usefixtures("few_candidates")
def test_properties(folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    chosen = ["--properties", "val_acc", "time"]
    call("properties", *arguments(folder, corpus, tmp_path), *chosen)
    text = capsys.readouterr().out
    assert "properties of val: mine on digits, top1 on val images, noise 0.08; test: mine on digits" in text
    table = pd.read_csv(tmp_path / "properties.csv")
    assert table[["property", "features"]].values.tolist() == [
        [name, features] for features in ("small", "graph statistics") for name in ("val_acc", "time")
    ]
    assert (table["num_train"] == 23).all()
    assert (table["without_test"] == 1).all()
    line = table.iloc[0]
    assert line["tau"] == pytest.approx(np.mean([line[f"tau_{order}"] for order in (0, 1, 2, 3, "own")]))
    assert f"{line['tau']:.3f}±{line['tau_std']:.3f}" in text
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    vectors = {split: embed_networks(small_ghn(), DeepNets1M(corpus, split, num_nets=24)) for split in ("val", "test")}
    targets = own_targets(choose_rows(read_results(folder), ("val", "test")), DeepNets1M(corpus, "val", num_nets=24))[
        "val_acc"
    ].to_numpy()
    known = np.isfinite(targets)
    parameters = best_parameters(vectors["val"], targets)
    expected = fit_regressor(vectors["val"][known].astype(float), targets[known], parameters).predict(vectors["test"])
    mine = predictions[(predictions["features"] == "small") & (predictions["property"] == "val_acc")]
    assert mine["predicted"].to_numpy()[known] == pytest.approx(expected[known], abs=1e-4)
    assert len(pd.read_csv(tmp_path / "map.csv")) == 48
    assert set(pd.read_csv(tmp_path / "correlations.csv")["statistic"]) == set(STATISTICS)
    for name in ("properties", "predictions", "map"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in text
    assert "all networks" not in text


@pytest.mark.usefixtures("few_candidates")
def test_without_matplotlib(
    folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    call("properties", *arguments(folder, corpus, tmp_path), "--properties", "val_acc")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("matplotlib is not installed, so no figures are drawn: pip install")
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}


@pytest.mark.usefixtures("few_candidates")
def test_properties_that_are_not_known(
    folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="training networks: 0 of 24 have a value to compare with"):
        call("properties", *arguments(folder, corpus, tmp_path), "--properties", "converge_time")
    results(small := tmp_path / "small", corpus, networks=6)
    with pytest.raises(ConfigError, match="no property is known for 10 networks of val and 2 of test"):
        call("properties", *arguments(folder, corpus, tmp_path), "--results", small)
    assert "val_acc: known for 5 networks of val and 5 of test, which is too few; left out" in capsys.readouterr().out


def test_a_split_that_is_missing(folder: Path, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "deepnets1m_val.h5").symlink_to(corpus / "deepnets1m_val.h5")
    with pytest.raises(MissingDataError, match=r"deepnets1m_test.h5: no such file; build it with `deepnets build"):
        call("properties", *arguments(folder, tmp_path, tmp_path / "out"))
    with pytest.raises(MissingDataError, match=r"nowhere/networks.csv"):
        call("properties", *arguments(folder, corpus, tmp_path), "--results", "nowhere")


def test_statistics_command(folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    common = ["--data", corpus, "--out", tmp_path, "--quiet"]
    call("statistics", *common, "--splits", "val,predefined", "--limit", "24", "--results", folder)
    assert "126-129 (127.5±1.5)" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "statistics.csv")) == 26
    table = pd.read_csv(tmp_path / "correlations.csv")
    depth = table[(table["statistic"] == "depth") & (table["part"] == "val") & (table["noise"] == 0)].iloc[0]
    assert (depth["networks"], depth["failed"]) == (23, 1)
    assert depth["kendall"] > 0.8
    assert (tmp_path / "val-digits-val.png").read_bytes().startswith(b"\x89PNG")
    call("statistics", *common, "--splits", "predefined", "--results", folder)
    with pytest.raises(ConfigError, match="has no corpus files; build them with"):
        call("statistics", "--data", tmp_path)


def test_statistics_beside_results_of_another_corpus(
    folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results in the folder `results` are used if they can be; those of --results must be usable."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "results")
    runs = Path("results", "runs.json")
    found = {name: {**about, "corpus": "another"} for name, about in json.loads(runs.read_text()).items()}
    runs.write_text(json.dumps(found))
    words = ["statistics", "--data", corpus, "--splits", "val", "--limit", "24", "--out", tmp_path / "out", "--quiet"]
    call(*words)
    assert "left out of the correlations: " in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "statistics.csv")) == 24
    assert not (tmp_path / "out" / "correlations.csv").exists()
    with pytest.raises(ConfigError):
        call(*words, "--results", "results")
    Path("results", "networks.csv").write_text("")
    call(*words)


# --- pictures ---


@pytest.mark.usefixtures("few_candidates")
def test_pictures_of_what_is_not_known(tmp_path: Path) -> None:
    """NaN, negative tau, a single value: a picture, or none, but no error and no warning."""
    pytest.importorskip("matplotlib")
    vectors, targets = data(12, 0)
    constant = predict_property("val_acc", vectors, np.full(12, 1.0), vectors, targets)
    plain = predict_property("time", vectors, targets, vectors, -targets, orders=(None,))
    assert draw_scores({"a": [constant, plain], "b": [plain, constant]}, tmp_path / "scores.png")
    truth = pd.DataFrame({"val_acc": targets, "time": math.nan})
    assert draw_predictions([constant], truth, tmp_path / "predictions.png")
    assert draw_map(vectors[:, :2], pd.DataFrame({"time": [1.0] * 12}), ["time"], tmp_path / "map.png")
    assert not draw_map(vectors[:, :2], truth, ["time"], tmp_path / "none.png")
    table = pd.DataFrame({"predictor": "a", "depth": 3, "top1": math.nan}, index=range(3))
    assert not draw_correlations(table, ["depth"], "top1", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_labels_with_an_underscore_are_in_the_legend(tmp_path: Path) -> None:
    """matplotlib leaves labels of artists out that begin with it."""
    pytest.importorskip("matplotlib")
    table = pd.DataFrame({"depth": [1.0, 2, 3, 4], "top1": [5.0, 6, 7, 8], "predictor": ["_mine", "_mine", "b", "b"]})
    assert draw_correlations(table, ["depth"], "top1", tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert text.count("<!-- _mine -->") + text.count(">_mine<") == 1
