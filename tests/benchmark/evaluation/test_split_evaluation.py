"""Evaluation of a predictor on a split: accuracies, a row for every network, failures, and summaries."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from benchmark import evaluate, evaluate_network, summarize
from benchmark.evaluation.prediction import Prediction
from benchmark.evaluation.rows import evaluate_prediction
from deepnets import ConfigError, DeepNets1M, FormatError, Graph, MissingDataError, build_graph, trace
from deepnets.data import ImageSet, load_images
from ghn_model import GHN, GHNConfig
from tests.support.small_corpus import write_small_corpus

TIMES = ["graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds"]
VARYING = [*TIMES, "memory_mb"]
Parameters = dict[str, Tensor]


def own(model: nn.Module, _: Graph) -> Parameters:
    """The initial values."""
    return dict(model.named_parameters())


@pytest.fixture(scope="module")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN("ghn2")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four networks that are quick to evaluate."""
    return write_small_corpus(tmp_path_factory.mktemp("small"), "test")


def few(n: int = 70) -> ImageSet:
    digits = load_images("digits", "test")
    return ImageSet(**{**vars(digits), "images": digits.images[:n], "labels": digits.labels[:n]})


def test_rows(small: Path, ghn: GHN) -> None:
    table = evaluate(ghn, "test", few(), data=small, limit=3)
    sizes = ["index", "network", "num_nodes", "num_params", "depth", "top1", "top5", "num_images"]
    assert list(table.columns) == [
        *sizes,
        "batch_size",
        "batch_norm",
        *TIMES,
        "memory_mb",
        "status",
        "reason",
        "nonfinite_images",
    ]
    nets = DeepNets1M(small, "test")
    assert table["index"].tolist() == [0, 1, 2]
    assert table["num_params"].tolist() == nets.table["num_params"][:3].tolist()
    assert table["status"].tolist() == ["ok"] * 3
    assert table["reason"].tolist() == [""] * 3
    assert (table[TIMES] > 0).all(axis=None)
    for index in range(3):
        predicted = ghn.predict(nets.network(index))
        unused = {slot.name for slot in nets[index].unused}
        expected = evaluate_network(nets.network(index), predicted, few(), unused=unused)
        assert (table["top1"][index], table["top5"][index]) == (expected["top1"], expected["top5"])
    assert table.attrs == {
        "split": "test",
        "images": "digits",
        "image_split": "test",
        "num_images": 70,
        "batch_size": 64,
        "batch_norm": "batch",
        "device": "cpu",
        "seed": 0,
        "noise": 0.0,
        "predictor": "GHN",
    }


@pytest.mark.slow
def test_rows_depend_on_the_seed_only(small: Path) -> None:
    """They depend neither on the other networks of a run nor on the global random state."""
    images = few()

    def noisy(model: nn.Module, _: Graph) -> Parameters:
        return {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in model.named_parameters()}

    first = evaluate(noisy, "test", images, data=small, limit=3)
    torch.randn(5)
    before = torch.get_rng_state()
    again = evaluate(noisy, "test", images, data=small, limit=4)
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(first.drop(columns=VARYING), again.drop(columns=VARYING)[:3], check_exact=True)
    other = evaluate(noisy, "test", images, data=small, limit=3, seed=1)
    assert not first["top1"].equals(other["top1"])


def test_models_have_initial_values_and_are_in_evaluation_mode(small: Path) -> None:
    seen: list[Graph] = []

    def look(model: nn.Module, graph: Graph) -> Parameters:
        assert not model.training
        assert all(parameter.device.type == "cpu" for parameter in model.parameters())
        assert graph == build_graph(graph.config)
        assert model.config == graph.config
        seen.append(graph)
        return own(model, graph)

    table = evaluate(look, "test", few(), data=small, limit=2)
    assert (table["status"] == "ok").all()
    assert [graph.index for graph in seen] == [0, 1]


@pytest.mark.parametrize("arguments", [1, 2])
def test_modules_predict_in_evaluation_mode(small: Path, arguments: int) -> None:
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.frozen = nn.Dropout(), nn.Dropout().eval()

    def zeros(graph: Graph) -> Parameters:
        return {slot.name: torch.zeros(slot.shape) for node in graph.parameters for slot in node}

    class Hypernetwork(Base):
        def forward(self, graphs: list[Graph]) -> list[Parameters]:
            assert not any(part.training for part in self.modules())
            return [zeros(graph) for graph in graphs]

    class Function(Base):
        def forward(self, model: nn.Module, graph: Graph) -> Parameters:
            assert not any(part.training for part in self.modules())
            return zeros(graph)

    predictor = (Hypernetwork, Function)[arguments - 1]()
    assert evaluate(predictor, "test", few(4), data=small, limit=1)["reason"].tolist() == [""]
    assert [part.training for part in predictor.modules()] == [True, True, False]


def test_the_default_dtype_of_the_caller_changes_nothing(small: Path, ghn: GHN) -> None:
    for predictor in ("random", ghn):
        expected = evaluate(predictor, "test", few(10), data=small, limit=1)
        torch.set_default_dtype(torch.float64)
        try:
            found = evaluate(predictor, "test", few(10), data=small, limit=1)
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        pd.testing.assert_frame_equal(found.drop(columns=VARYING), expected.drop(columns=VARYING))


@pytest.mark.slow
def test_networks_with_unused_parameters(corpus: Path, ghn: GHN) -> None:
    nets = DeepNets1M(corpus, "test")
    index = next(i for i in range(len(nets)) if nets[i].unused)
    images = few(10)

    def predict(model: nn.Module, graph: Graph) -> Parameters:
        return ghn.predict(model, graph=graph) if graph.index == index else {}

    table = evaluate(predict, "test", images, data=corpus, limit=index + 1)
    assert table["status"].tolist() == ["failed"] * index + ["ok"]


@pytest.mark.slow
def test_failures_of_predictors(corpus: Path) -> None:
    class Strange(Exception):  # noqa: N818
        pass

    def fail(model: nn.Module, graph: Graph) -> Any:
        parameters = own(model, graph)
        name = next(name for name in reversed(parameters) if name.startswith("classifier"))
        match graph.index:
            case 0:
                raise Strange("two\nlines " + "x" * 1000)
            case 1:
                del parameters[name]
            case 2:
                parameters["surplus"] = torch.zeros(1)
            case 3:
                parameters[name] = torch.zeros(3)
            case 4:
                parameters[name] = torch.full_like(parameters[name], math.nan)
            case 5:
                return None
            case 6:
                return list(parameters.items())
            case 7:
                parameters = {name: tensor * 1e30 for name, tensor in parameters.items()}
            case 8:
                raise MemoryError
        return parameters

    table = evaluate(fail, "bnfree", few(20), data=corpus, limit=10)
    overflown = table.loc[7]
    assert (overflown["status"], overflown["top1"], overflown["nonfinite_images"]) == ("ok", 0.0, 20)
    assert table["nonfinite_images"].sum() == 20
    table = table.drop(index=7)
    assert table["status"].tolist() == ["failed"] * 8 + ["ok"]
    for reason, expected in zip(
        table["reason"],
        (
            *("Strange: two lines xxx", "parameters: 1 of ", "the network has no parameter named surplus"),
            *("expected floating-point numbers of shape (10,), got torch.float32 (3,)", "1 are not finite: classifier"),
            *("expected a dict of tensors, got NoneType", "expected a dict of tensors, got list"),
            *("MemoryError", ""),
        ),
        strict=True,
    ):
        assert expected in reason
        assert "\n" not in reason
        assert len(reason) <= 300
    failed = table[:8]
    assert failed[["top1", "top5", "evaluate_seconds"]].isna().all(axis=None)
    assert failed[["graph_seconds", "build_seconds"]].notna().all(axis=None)
    assert (failed["num_params"] > 0).all()
    summary = summarize(table)
    assert (summary.networks, summary.failures, summary.best_index) == (9, 8, 9)
    assert summary.mean == pytest.approx(table["top1"][9] / 9)
    assert summary.successful_mean == table["top1"][9]


@pytest.mark.slow
def test_networks_by_index_and_name(corpus: Path) -> None:
    everything = evaluate(own, "val", few(5), data=corpus, limit=3)
    some = evaluate(own, "val", few(5), data=corpus, index=[2, 0])
    assert some["index"].tolist() == [2, 0]
    lasting = ["index", "num_params", "top1", "top5"]
    assert some[lasting].values.tolist() == everything.loc[[2, 0], lasting].values.tolist()
    assert evaluate(own, "val", few(5), data=corpus, index=1)["index"].tolist() == [1]
    named = evaluate(lambda model, graph: {}, "predefined", few(5), index="vit")
    assert named[["index", "network"]].values.tolist() == [[1, "vit"]]


def test_interruptions_are_raised(corpus: Path) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(stop, "val", few(5), data=corpus, limit=2)


def test_damaged_images_are_an_error(corpus: Path) -> None:
    class Broken:
        name, split, num_classes, image_size, device = "broken", "test", 10, 32, torch.device("cpu")

        def __len__(self) -> int:
            return 1

        def batches(self, *_: Any, **__: Any) -> Any:
            raise FormatError("1.JPEG: cannot be read as an image")

    with pytest.raises(FormatError, match="cannot be read as an image"):
        evaluate(own, "val", Broken(), data=corpus, limit=2)


@pytest.mark.parametrize(
    ("split", "part"), [("test", "test"), ("val", "val"), ("search", "val"), ("train", "val"), ("deep", "test")]
)
def test_images_by_name(corpus: Path, split: str, part: str) -> None:
    """Networks for model selection are evaluated on validation images."""
    table = evaluate(lambda model, graph: {}, split, "digits", data=corpus, limit=1)
    assert table.attrs["image_split"] == part
    assert table["status"].tolist() == ["failed"]


def test_accuracy_of_a_bundled_hypernetwork(corpus: Path, small: Path, ghn: GHN) -> None:
    """Its parameters for an unseen network classify most images; those of an untrained one do not."""
    nets = DeepNets1M(corpus, "test")
    index = int(nets.table["num_params"].to_numpy()[:20].argmin())  # small networks are quick
    images = few(100)
    trained, untrained = (
        evaluate_network(network, hypernetwork.predict(network), images)["top1"]
        for network, hypernetwork in (
            (nets.network(index), GHN.from_pretrained("ghn2-digits")),
            (nets.network(index), ghn),
        )
    )
    assert trained > 60
    assert untrained < 30
    table = evaluate("ghn2-digits", "test", few(10), data=small, limit=1)
    assert (table.attrs["predictor"], table["status"][0]) == ("ghn2-digits", "ok")


@pytest.mark.slow
def test_accuracies_of_all_bundled_hypernetworks(corpus: Path) -> None:
    """Networks of `test` are unseen; for a hundred of them, the cards report 92, 85 and 89 %."""
    means = {
        name: summarize(evaluate(name, "test", few(150), data=corpus, limit=3)).mean
        for name in ("ghn2-digits", "mlp-digits", "ghn1-digits", "untrained:ghn2")
    }
    assert means["ghn2-digits"] > 90
    assert min(means["mlp-digits"], means["ghn1-digits"]) > 80
    assert means["untrained:ghn2"] < 30


@pytest.mark.slow
def test_predefined_networks(tmp_path: Path, ghn: GHN) -> None:
    table = evaluate(ghn, "predefined", few(8), data=tmp_path, batch_size=8)
    assert table["reason"].tolist() == ["", ""]
    assert table["num_params"].tolist() == [23_520_842, 1_012_234]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "ghn2"}, "predictor: 'ghn2': expected a bundled hypernetwork"),
        ({"predictor": 2}, "predictor: the object is of type int; expected a callable"),
        ({"split": "tests"}, "split: unknown 'tests'; use one of train, val"),
        ({"images": "mnist"}, "images: unknown 'mnist'; use one of digits"),
        ({"limit": 0}, "limit: expected an integer, 1 or more; got 0"),
        ({"batch_size": 0}, "batch_size: expected an integer, 1 or more; got 0"),
        ({"seed": -1}, "seed: expected an integer, 0 to .*; got -1"),
        ({"index": [500]}, "index: test has networks 0 to .*, there is no 500"),
        ({"index": 0, "limit": 1}, "index: cannot be combined with limit"),
        ({"data": "nowhere"}, "nowhere/deepnets1m_test.h5: no such file; build it with"),
        (
            {"predictor": GHN(GHNConfig.preset("ghn2", 100))},
            "predictor: predicts networks for 100 classes, digits has 10",
        ),
    ],
)
def test_invalid_options(corpus: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, MissingDataError), match=f"^{message}"):
        evaluate(**{"predictor": own, "data": corpus, **options})


def test_noise_is_that_of_the_seed_for_trained_networks() -> None:
    """Trained and predicted networks are evaluated on the same noise."""
    noisy = load_images("digits", "test", noise=0.5)
    noisy = replace(noisy, images=noisy.images[:100], labels=noisy.labels[:100])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    networks: Any = SimpleNamespace(
        name_of=lambda index: "",
        key_of=lambda index: index,
        build=lambda index: copy.deepcopy(model),
        graph=lambda index, vocabulary: graph,
    )
    prediction = Prediction(dict(model.state_dict()), trained=True)
    for seed in (0, 1, 2):
        expected = evaluate_network(model, dict(model.named_parameters()), noisy, batch_size=64, seed=seed).values
        row = evaluate_prediction(networks, 0, lambda _: prediction, noisy, seed=seed)
        assert {name: row[name] for name in expected} == expected, row["reason"]
