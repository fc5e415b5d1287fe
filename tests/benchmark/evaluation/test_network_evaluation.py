"""Evaluation of one network: accuracies that a plain loop finds, too, and parameters that are refused."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import Metric, Scores, evaluate_network
from benchmark.accuracy import score
from deepnets import GENOTYPES, ConfigError, Network, NetworkConfig
from deepnets.data import ImageSet

Parameters = dict[str, Tensor]


def made(n: int = 150, classes: int = 10, side: int = 32) -> ImageSet:
    """Images whose brightness depends on their class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    noise = rng.integers(0, 120, (n, 3, side, side))
    images = torch.from_numpy((noise + labels[:, None, None, None] * 100 // classes).astype(np.uint8))
    return ImageSet("made", "test", images, torch.from_numpy(labels), classes, (0.4,) * 3, (0.2,) * 3, 0, False)


class Toy(nn.Module):
    """A network with layers that behave differently in training, and a buffer that counts calls."""

    calls: Tensor

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.features = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12, track_running_stats=False), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(12, classes)
        self.idle = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        x = F.relu(self.norm(self.conv(images))).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


def values(model: nn.Module, seed: int = 0) -> Parameters:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in model.named_parameters()}


def by_hand(model: nn.Module, parameters: Parameters, images: ImageSet, batch_size: int) -> Scores:
    """The published formulas in a plain loop: percentages by batch, weighted by its size."""
    model = copy.deepcopy(model)
    model.load_state_dict(parameters, strict=False)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    pixels = (images.images.numpy() / 255 - 0.4) / 0.2
    sums, sizes = np.zeros(2), []
    for start in range(0, len(images), batch_size):
        with torch.no_grad():
            logits = model(torch.from_numpy(pixels[start : start + batch_size]).float()).numpy()
        labels = images.labels[start : start + batch_size].numpy()
        order = np.argsort(-logits, axis=1)
        sizes.append(len(labels))
        for k, number in enumerate((1, 5)):
            percent = 100 * (order[:, :number] == labels[:, None]).any(axis=1).mean()
            sums[k] += percent * len(labels)
    return Scores({"top1": sums[0] / sum(sizes), "top5": sums[1] / sum(sizes)}, sum(sizes))


@pytest.mark.parametrize("batch_size", [64, 37, 150, 1000])
def test_accuracies_are_those_of_a_plain_loop(batch_size: int) -> None:
    images, model = made(), Toy()
    for seed in range(5):
        found = evaluate_network(model, values(model, seed), images, batch_size=batch_size)
        expected = by_hand(model, values(model, seed), images, batch_size)
        assert found.images == expected.images == 150
        assert found.values == pytest.approx(expected.values)


@pytest.mark.parametrize("norm", ["bnorm", "bn-track", None])
def test_accuracies_of_a_network_of_the_corpus(norm: str | None) -> None:
    images = made(70)
    model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=8, norm=norm))
    parameters = {name: tensor.detach() * 1.5 for name, tensor in model.named_parameters()}
    expected = by_hand(model, parameters, images, 32)
    assert evaluate_network(model, parameters, images, batch_size=32).values == pytest.approx(expected.values)


def test_batch_norms_use_the_statistics_of_the_batch() -> None:
    """Running statistics would make all outputs the same here, and the size of batches irrelevant."""
    images, model = made(), Toy()
    model.norm.running_var = torch.full((6,), 1e12)
    parameters = values(model, 1)
    large, small = (evaluate_network(model, parameters, images, batch_size=size) for size in (150, 3))
    assert large != small


def test_the_network_does_not_change() -> None:
    images, model = made(), Toy()
    for training in (True, False):
        model.train(training)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        kept = [*model.parameters(), *model.buffers()]
        parameters = values(model)
        given = {name: tensor.clone() for name, tensor in parameters.items()}
        evaluate_network(model, parameters, images)
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert all(now is before for now, before in zip([*model.parameters(), *model.buffers()], kept, strict=True))
        assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))
        assert model.norm.track_running_stats
        assert all(torch.equal(tensor, given[name]) for name, tensor in parameters.items())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_parameters_with_gradients_and_of_other_types() -> None:
    images, model = made(), Toy()
    parameters = values(model)
    expected = evaluate_network(model, parameters, images)
    double = {name: nn.Parameter(tensor.double()) for name, tensor in parameters.items()}
    assert evaluate_network(model, double, images) == expected
    assert all(tensor.grad is None for tensor in double.values())


def test_a_network_on_meta() -> None:
    images = made()
    with torch.device("meta"):
        model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=8, norm="bn-track"))
    real = Network(model.config)
    parameters = dict(real.named_parameters())
    assert evaluate_network(model, parameters, images) == evaluate_network(real, parameters, images)


def test_shared_parameters() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(48, 48, bias=False), nn.Linear(48, 48, bias=False)
            self.second.weight = self.first.weight

        def forward(self, images: Tensor) -> Tensor:
            return self.second(self.first(images.flatten(1)[:, :48]))[:, :10]  # type: ignore[no-any-return]

    images, model = made(), Tied()
    parameters = values(model)
    assert list(parameters) == ["first.weight"]
    expected = by_hand(model, parameters, images, 64)
    assert evaluate_network(model, parameters, images).values == pytest.approx(expected.values)


def test_few_classes() -> None:
    """Where there are no five classes, the right one is always among the first five."""
    images, model = made(classes=3), Toy(3)
    found = evaluate_network(model, values(model), images)
    assert found["top5"] == 100
    assert 0 < found["top1"] < 100


def test_perfect_and_constant_outputs() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(10))

        def forward(self, images: Tensor) -> Tensor:
            return self.logits.expand(len(images), 10)

    images = made()
    counts = images.labels.bincount(minlength=10)
    for label in range(10):
        found = evaluate_network(Constant(), {"logits": F.one_hot(torch.tensor(label), 10).float()}, images)
        assert found["top1"] == pytest.approx(100 * int(counts[label]) / 150)
    found = evaluate_network(Constant(), {"logits": -torch.arange(10.0)}, images)
    assert found["top5"] == pytest.approx(100 * int(counts[:5].sum()) / 150)


def test_unused_parameters_may_be_missing() -> None:
    images, model = made(), Toy()
    parameters = values(model)
    expected = evaluate_network(model, parameters, images)
    del parameters["idle.weight"], parameters["idle.bias"]
    assert evaluate_network(model, parameters, images, unused=["idle.weight", "idle.bias"]) == expected
    with pytest.raises(ConfigError, match=r"^parameters: 2 of 12 are missing: idle\.weight, idle\.bias$"):
        evaluate_network(model, parameters, images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv.bias": None}, "conv.bias: expected floating-point numbers of shape (6,), got NoneType"),
        ({"conv.bias": torch.zeros(6, dtype=torch.int64)}, "numbers of shape (6,), got torch.int64 (6,)"),
        ({"conv.bias": torch.zeros(6, 1)}, "numbers of shape (6,), got torch.float32 (6, 1)"),
        ({"conv.bias": torch.zeros(6, device="meta")}, "conv.bias: is on the meta device, which holds no values"),
        ({"conv.bias": torch.full((6,), math.nan)}, "1 are not finite: conv.bias"),
        ({"conv.bias": torch.tensor([0, 0, math.inf, 0, 0, 0])}, "1 are not finite: conv.bias"),
        ({"surplus": torch.zeros(1)}, "the network has no parameter named surplus"),
        ({"norm.running_mean": torch.zeros(6)}, "the network has no parameter named norm.running_mean"),
        ({3: torch.zeros(1)}, "the network has no parameter named 3"),
    ],
)
def test_wrong_parameters(change: dict[Any, Any], message: str) -> None:
    model = Toy()
    with pytest.raises(ConfigError) as caught:
        evaluate_network(model, {**values(model), **change}, made())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outputs_that_are_not_finite() -> None:
    model = Toy()
    large = {name: tensor * 1e30 for name, tensor in values(model).items()}
    scores = evaluate_network(model, large, made())
    assert dict(scores.values) == {"top1": 0.0, "top5": 0.0}
    assert scores.nonfinite_images == scores.images == 150


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_with_outputs_that_are_not_finite_are_wrong_answers(value: float) -> None:
    """Also for the class that would be chosen: `topk` puts NaN and infinity before all numbers."""
    images = made()
    loss = Metric("loss", "loss", "", lambda logits, labels: -logits.amax(1), higher_is_better=False)
    error = Metric("error", "error", "", lambda logits, labels: logits.amax(1), higher_is_better=False, maximum=100)
    _, labels = next(images.batches(150))
    seen = 0

    def network(batch: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        right = F.one_hot(labels[seen : seen + len(batch)], 10).float()
        broken = torch.arange(seen, seen + len(batch)) % 3 == 0  # 50 of 150 images
        seen += len(batch)
        return torch.where(broken[:, None] & (right > 0), value, right)

    scores = score(network, images, 64, metrics=[loss, error])
    assert scores["top1"] == pytest.approx(200 / 3)
    assert scores["top5"] == pytest.approx(200 / 3)
    assert math.isnan(scores["loss"])
    assert scores["error"] == pytest.approx((100 * 1 + 50 * 100) / 150)
    assert (scores.images, scores.nonfinite_images) == (150, 50)


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    return -F.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("broken", [0, 50, 150])
def test_a_mean_that_is_transformed_counts_broken_images_as_the_worst_value(broken: int) -> None:
    """The worst value is one of the metric, here a probability, and not one of the logarithms that are averaged."""
    images = made()
    logits = torch.randn(150, 10, generator=torch.Generator().manual_seed(0))
    likelihood = F.cross_entropy(logits[broken:], images.labels[broken:]) if broken < 150 else math.inf
    parts = iter(logits.masked_fill(torch.arange(150)[:, None] < broken, math.nan).split(64))
    metric = Metric("likelihood", "", "", log_likelihood, minimum=0.0, maximum=1.0, from_mean=math.exp)
    scores = score(lambda batch: next(parts), images, 64, metrics=[metric])
    assert scores["likelihood"] == pytest.approx(math.exp(-likelihood) * (150 - broken) / 150)
    assert scores.nonfinite_images == broken


@pytest.mark.parametrize("classes", [9, 1000])
def test_another_number_of_classes(classes: int) -> None:
    model = Toy(classes)
    with pytest.raises(ConfigError, match=rf"outputs of shape \(64, 10\), for the classes of made, got .*{classes}\)"):
        evaluate_network(model, values(model), made())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    images, model = made(), Toy()
    assert evaluate_network(model, values(model), images.to("cuda")).values == pytest.approx(
        evaluate_network(model, values(model), images).values, abs=1.5
    )
