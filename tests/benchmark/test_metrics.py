"""Metrics: the registry, and user-defined metrics in evaluations and tables of results."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import METRICS, Metric, evaluate, evaluate_network, register_metric, summarize
from benchmark.commands.options import metric_name
from benchmark.metrics import check_metrics, get_metric, get_metrics
from benchmark.results import Machine, read_results, run
from deepnets import ConfigError
from deepnets.data import load_images
from tests.support.small_corpus import write_small_corpus

MODULE = """
import torch.nn.functional as F
from benchmark import Metric

def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")

loss = Metric("loss_of_test", "cross-entropy", "nats", cross_entropy, higher_is_better=False)
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module that declares a metric."""
    (tmp_path / "my_metrics.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    return tmp_path


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def test_a_metric_is_the_mean_over_all_images() -> None:
    images = load_images("digits", "test")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    metric = Metric("loss", "cross-entropy", "nats", cross_entropy, higher_is_better=False)
    found = evaluate_network(model, dict(model.named_parameters()), images, batch_size=37, metrics=[metric])
    with torch.no_grad():
        (pixels, labels) = next(images.batches(len(images)))
        expected = F.cross_entropy(model(pixels), labels).item()
    assert list(found.values) == ["top1", "top5", "loss"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("top3", "metric: unknown 'top3'; use one of top1, top5"),
        ("my_metrics:number", "my_metrics:number is of type int; expected a benchmark.Metric"),
        ("my_metrics:los", "my_metrics has no attribute 'los'; did you mean loss"),
        ("no_such_module:f", "no_such_module cannot be imported"),
    ],
)
def test_unknown_metrics(module: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_metric(name)


@pytest.mark.parametrize("num_classes", [2, 4, 10, 1000])
def test_accuracy_of_random_guesses(num_classes: int) -> None:
    """The mean over all orders of the classes, of which every label is first equally often."""
    logits = torch.stack([torch.arange(num_classes).roll(shift).double() for shift in range(num_classes)])
    labels = torch.zeros(num_classes, dtype=torch.int64)
    for name in ("top1", "top5"):
        chance = METRICS[name].chance
        assert chance is not None
        assert chance(num_classes) == pytest.approx(METRICS[name].score(logits, labels).double().mean().item())


def test_metrics_as_options_of_commands(module: Path) -> None:
    """All commands accept what `get_metric` accepts, and use the name, which is that of a column."""
    assert [metric_name(text) for text in ("top5", "my_metrics:loss", "loss_of_test")] == [
        *("top5", "loss_of_test", "loss_of_test")
    ]
    with pytest.raises(argparse.ArgumentTypeError, match="unknown 'top3'"):
        metric_name("top3")
    for command in ("statistics", "search --checkpoint a", "properties --checkpoint a", "published some", "report"):
        parser = argparse.ArgumentParser()
        name, *words = command.split()
        commands = parser.add_subparsers()
        importlib.import_module(f"benchmark.commands.{name}").add_arguments(commands)
        assert parser.parse_args([name, *words, "--metric", "my_metrics:loss"]).metric == "loss_of_test"


def test_names_are_unique_identifiers(module: Path) -> None:
    with pytest.raises(ConfigError, match="'top1' is already registered"):
        register_metric(Metric("top1", "", "", cross_entropy))
    with pytest.raises(ConfigError, match="'top 3' cannot be a name"):
        Metric("top 3", "", "", cross_entropy)
    assert get_metric("my_metrics:loss") is get_metric("my_metrics:loss") is METRICS["loss_of_test"]
    assert [metric.name for metric in get_metrics(["my_metrics:loss", "top5"])] == ["top1", "top5", "loss_of_test"]


def test_the_best_network_has_the_smallest_loss(module: Path) -> None:
    get_metric("my_metrics:loss")
    table = pd.DataFrame({"index": [0, 1], "loss_of_test": [2.0, 1.0], "status": "ok"})
    assert summarize(table, "loss_of_test")[2:4] == (1.0, 1)


@pytest.mark.slow
def test_a_user_defined_metric_in_a_run(module: Path) -> None:
    """Workers compute it, an existing table of results gets its column, and boards show the runs that computed it."""
    data = write_small_corpus(module, "test")
    options = {"data": data, "out": module / "out", "limit": 2, "machine": Machine(workers=1)}
    run(["first=random"], ["test"], **options)  # type: ignore[arg-type]
    run(["second=random"], ["test"], **options, metrics=["my_metrics:loss"])  # type: ignore[arg-type]
    results = read_results(module / "out")
    losses = results.rows.set_index("predictor")["loss_of_test"]
    assert losses["first"].isna().all()
    assert (losses["second"] > 0).all()
    (board,) = results.boards("loss_of_test")
    assert board.predictors == ["second"]
    assert sorted(results.boards()[0].predictors) == ["first", "second"]
    alone = evaluate("random", "test", data=data, limit=2, metrics=["my_metrics:loss"])
    assert alone["loss_of_test"].tolist() == pytest.approx(losses["second"].tolist())


def not_a_number(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.full((len(labels),), torch.nan)


def infinite_for_a_class(logits: Tensor, labels: Tensor) -> Tensor:
    return 1 / (labels - 3)


def fails(logits: Tensor, labels: Tensor) -> Tensor:
    raise KeyError("no\nsuch key")


WRONG = {
    "nan": (not_a_number, "metric: wrong is nan for ordinary logits; expected a finite number"),
    "infinite": (infinite_for_a_class, "metric: wrong is inf for ordinary logits; expected a finite number"),
    "one number": (F.cross_entropy, r"metric: wrong returns shape \(\); expected a number for every example, \(16,\)"),
    "list": (lambda logits, labels: [1.0] * 16, "metric: wrong returns list; expected a number for every example"),
    "error": (fails, r"metric: wrong fails for logits of shape \(16, 10\): KeyError: 'no.+such key'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_metric_is_an_error_before_anything_is_evaluated(tmp_path: Path, case: str) -> None:
    function, message = WRONG[case]
    metric = Metric("wrong", "", "", function)
    data = write_small_corpus(tmp_path, "test")

    def predict(model: nn.Module, graph: object) -> dict[str, Tensor]:
        raise AssertionError("a network was evaluated")

    with pytest.raises(ConfigError, match=f"^{message}"):
        evaluate(predict, "test", data=data, metrics=[metric])
    with pytest.raises(ConfigError, match=f"^{message}"):
        run(["random"], ["test"], data=data, out=tmp_path / "out", metrics=[metric])
    assert not (tmp_path / "out" / "networks.csv").exists()


def test_a_mean_without_value_is_an_error() -> None:
    metric = Metric("wrong", "", "", cross_entropy, from_mean=lambda mean: float("nan"))
    with pytest.raises(ConfigError, match="metric: wrong is nan for ordinary logits"):
        check_metrics([METRICS["perplexity"], metric], 1000)


@pytest.mark.parametrize("name", ["noise", "index", "status", "num_params", "run", "corruption"])
def test_names_of_other_columns_are_refused(tmp_path: Path, name: str) -> None:
    data = write_small_corpus(tmp_path, "test")
    metric = Metric(name, "", "", cross_entropy)
    with pytest.raises(ConfigError, match=f"^metric: '{name}' is a column of tables of results; choose another name"):
        evaluate("random", "test", data=data, metrics=[metric])
    with pytest.raises(ConfigError, match=f"^metric: '{name}' is a column"):
        run(["random"], ["test"], data=data, out=tmp_path / "out", metrics=[metric])
    assert not (tmp_path / "out" / "networks.csv").exists()


@pytest.mark.parametrize(("function", "mean"), [(math.log, 0.0), (math.sqrt, -1.0), (lambda mean: 1 / mean, 0.0)])
def test_a_value_outside_of_the_domain_is_not_a_number(function: Callable[[float], float], mean: float) -> None:
    assert math.isnan(Metric("logarithm", "", "", cross_entropy, from_mean=function).value(mean))
