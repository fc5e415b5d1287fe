"""Training by gradient descent: published recipes, comparison with plain PyTorch, and arguments that do not change."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.training import PRESETS, SGDRecipe, evaluate_trained, evaluated_epochs, track_statistics, train_network
from deepnets import GENOTYPES, ConfigError, Network, NetworkConfig
from deepnets.data import ImageSet, load_images
from deepnets.support import TrainingError
from ghn_model import use_batch_statistics

SHORT = SGDRecipe(epochs=2, batch_size=32, lr=0.05)


def made(n: int = 120, classes: int = 10, side: int = 32, split: str = "train", seed: int = 0) -> ImageSet:
    """Images whose brightness depends on their class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    noise = rng.integers(0, 120, (n, 3, side, side))
    images = torch.from_numpy((noise + labels[:, None, None, None] * 100 // classes).astype(np.uint8))
    return ImageSet("made", split, images, torch.from_numpy(labels), classes, (0.4,) * 3, (0.2,) * 3, 1, True)


class Toy(nn.Module):
    """A network with layers that behave differently in training: batch norms and dropout."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.features = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12, track_running_stats=False), nn.ReLU())
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(12, classes)
        self.idle = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(images))).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


def toy(seed: int = 0, classes: int = 10) -> Toy:
    torch.manual_seed(seed)
    return Toy(classes)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- recipes ---


@pytest.mark.parametrize(
    ("preset", "published"),
    [
        ("cifar10", ("sgd", 0.025, "cosine", 3e-4, 96, 0.0, 5.0, 50, 0.0, None)),
        ("imagenet", ("sgd", 0.1, "exponential", 3e-5, 128, 0.1, 5.0, 1, 0.0, None)),
        ("finetune-100shot", ("sgd", 0.025, "cosine", 1e-3, 96, 0.0, 5.0, 50, 0.0, None)),
        ("orth-resnet50", ("sgd", 0.01, "cosine", 0.01, 96, 0.0, 5.0, 300, 3e-5, 37)),
        ("orth-convnext", ("adamw", 1e-3, "cosine", 0.1, 48, 0.0, 5.0, 300, 3e-5, 94)),
        ("ghn3-resnet50", ("sgd", 0.025, "multistep", 1e-4, 128, 0.1, 5.0, 90, 1e-5, None)),
    ],
)
def test_presets_are_the_published_recipes(preset: str, published: tuple[Any, ...]) -> None:
    names = ("optimizer", "lr", "schedule", "weight_decay", "batch_size", "label_smoothing", "clip_grad", "epochs")
    recipe = SGDRecipe.preset(preset)
    assert tuple(getattr(recipe, name) for name in (*names, "noise", "orthogonal_from")) == published
    assert recipe.momentum == 0.9


def test_published_schedules() -> None:
    assert SGDRecipe.preset("imagenet").gamma == 0.97
    ghn3 = SGDRecipe.preset("ghn3-resnet50")
    rates = [ghn3.lr_at(epoch) for epoch in (1, 30, 31, 60, 61, 90)]
    assert rates == pytest.approx([0.025, 0.025, 0.0025, 0.0025, 0.00025, 0.00025])


@pytest.mark.parametrize(
    ("recipe", "schedule"),
    [
        (SGDRecipe(epochs=50), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50)),
        (SGDRecipe(schedule="exponential", gamma=0.97), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.97)),
        (
            SGDRecipe(schedule="multistep", milestones=(30, 45)),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [30, 45], 0.1),
        ),
        (SGDRecipe(schedule="constant"), lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_schedules_are_those_of_pytorch(recipe: SGDRecipe, schedule: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    theirs = schedule(optimizer)
    for epoch in range(1, recipe.epochs + 1):
        assert recipe.lr_at(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("preset", PRESETS)
def test_recipes_go_through_json(preset: str) -> None:
    recipe = SGDRecipe.preset(preset, epochs=7)
    assert recipe.epochs == 7
    assert SGDRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "optimizer: expected one of sgd, adam, adamw, lamb; got 'lion'"),
        ({"schedule": "steps"}, "schedule: expected one of"),
        ({"epochs": 0}, "epochs: "),
        ({"batch_size": 1}, "batch_size: "),
        ({"lr": -1}, "lr: expected a number of at least 0, got -1"),
        ({"lr": math.nan}, "lr"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected a number of at least 0 and less than 1, got 1.0"),
        ({"clip_grad": True}, "clip_grad"),
        ({"orthogonal_from": 0}, "orthogonal_from"),
        ({"milestones": (3, 2)}, "milestones: expected epochs in increasing order"),
        ({"milestones": 3}, "milestones: expected a tuple"),
        ({"augment": 1}, "augment"),
        ({"speed": 1}, "recipe: unknown key 'speed'; valid keys are optimizer, "),
    ],
)
def test_recipes_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SGDRecipe.preset("cifar10", **changes)


def test_unknown_presets() -> None:
    with pytest.raises(ConfigError, match="preset: unknown 'cifar100'; use one of cifar10, imagenet, darts"):
        SGDRecipe.preset("cifar100")


# --- training ---


def by_hand(model: nn.Module, images: ImageSet, recipe: SGDRecipe, order: list[Tensor]) -> dict[str, Tensor]:
    """SGD in a plain loop, over batches that are given."""
    net = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(net.parameters(), 1.0, momentum=0.9, weight_decay=recipe.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: recipe.lr_at(done + 1))
    pixels = ((images.images.numpy() / 255 - 0.4) / 0.2).astype(np.float32)
    for rows in order:
        for part in rows.split(recipe.batch_size):
            loss = F.cross_entropy(
                net(torch.from_numpy(pixels[part.numpy()])), images.labels[part], label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_grad)
            optimizer.step()
        scheduler.step()
    return net.state_dict()


def test_training_equals_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    images, order = made(100), []
    torch.manual_seed(3)
    model = nn.Sequential(
        *(nn.AvgPool2d(4), nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(180, 10)),
    )
    draw = torch.randperm

    def noted(n: int, **options: Any) -> Tensor:
        order.append(draw(n, **options))
        return order[-1]

    monkeypatch.setattr(torch, "randperm", noted)
    recipe = SHORT.replace(epochs=3, augment=False, label_smoothing=0.1, clip_grad=0.5)
    trained = train_network(model, images, recipe)
    assert len(order) == 3
    assert not torch.equal(order[0], order[1])
    wanted = by_hand(model, images, recipe, order)
    for name, tensor in trained.state.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-5)


def test_a_few_epochs_are_enough_for_digits() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.AvgPool2d(4), nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(576, 10)),
    )
    before = evaluate_trained(model, model.state_dict(), test)
    trained = train_network(model, train, SGDRecipe.preset("digits", epochs=3), eval_images=test)
    assert before["top1"] < 30
    assert trained.curve["top1"].iloc[-1] > 75
    assert trained.curve["loss"].is_monotonic_decreasing
    assert evaluate_trained(model, trained.state, test)["top1"] == trained.curve["top1"].iloc[-1]
    assert (trained.curve["top5"].dropna() >= trained.curve["top1"].dropna()).all()


def test_curves() -> None:
    rows: list[dict[str, float]] = []
    recipe = SHORT.replace(epochs=6)
    trained = train_network(toy(), made(), recipe, eval_images=made(50, split="test"), each_epoch=rows.append)
    curve = trained.curve
    assert list(curve) == ["epoch", "loss", "train_top1", "top1", "top5", "seconds", "learning_rate"]
    assert curve["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert curve["epoch"][curve["top1"].notna()].tolist() == [1, 5, 6]
    assert curve["learning_rate"].tolist() == [recipe.lr_at(epoch) for epoch in range(1, 7)]
    assert curve["seconds"].is_monotonic_increasing
    assert [row["loss"] for row in rows] == curve["loss"].tolist()
    others = train_network(toy(), made(), recipe, eval_images=made(50), epochs_evaluated=[2, 3, 9]).curve
    assert others["epoch"][others["top1"].notna()].tolist() == [2, 3, 6]
    assert train_network(toy(), made(), SHORT).curve["top1"].isna().all()


def test_evaluation_does_not_affect_training() -> None:
    plain = train_network(toy(), made(), SHORT)
    assert evaluated_epochs(12, []) == {12}
    slow = train_network(toy(), made(), SHORT.replace(warmup_steps=1000))
    assert (slow.curve["learning_rate"] < plain.curve["learning_rate"] / 10).all()
    often = train_network(toy(), made(), SHORT, eval_images=made(50), epochs_evaluated=[1, 2])
    assert same(plain.state, often.state)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_same_seed_gives_the_same_bits(optimizer: str) -> None:
    recipe = SHORT.replace(optimizer=optimizer, lr=0.01)
    first = train_network(toy(), made(), recipe, eval_images=made(50), seed=4)
    torch.manual_seed(99)  # the global random state has no influence
    torch.rand(3)
    second = train_network(toy(), made(), recipe, eval_images=made(50), seed=4)
    third = train_network(toy(), made(), recipe, eval_images=made(50), seed=5)
    assert same(first.state, second.state)
    assert first.curve.drop(columns="seconds").equals(second.curve.drop(columns="seconds"))
    assert not same(first.state, third.state)


def test_the_network_and_the_random_state_do_not_change() -> None:
    model = toy()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    trained = train_network(model.eval(), made(), SHORT, eval_images=made(50))
    evaluate_trained(model, trained.state, made(50))
    assert torch.equal(state, torch.get_rng_state())
    assert same(before, model.state_dict())
    assert not model.training
    assert not model.features[1].track_running_stats
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(trained.state["idle.weight"], before["idle.weight"])  # no data reaches it
    assert not torch.equal(trained.state["conv.weight"], before["conv.weight"])


def test_divergence_is_an_error() -> None:
    with pytest.raises(
        TrainingError, match=r"training has diverged: in epoch \d+, by step \d+, the loss is not finite"
    ):
        train_network(toy(), made(), SHORT.replace(lr=1e30, clip_grad=0, epochs=20))
    broken = toy()
    with torch.no_grad():
        broken.classifier.bias[0] = math.nan
    with pytest.raises(TrainingError, match="in epoch 1, by step 4, the loss is not finite; try a lower lr"):
        train_network(broken, made(), SHORT)


def test_a_single_image_is_no_batch() -> None:
    assert train_network(toy(), made(65), SHORT).curve["loss"].notna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"epochs": 1}}, "recipe: expected an SGDRecipe, got dict"),
        ({"seed": -1}, "seed"),
        ({"train_images": made(1)}, "images: made .train. has 1 images, expected 2 or more"),
        (
            {"model": toy(0, 7)},
            r"model: expected outputs of shape \(32, 10\), for the classes of made, got shape \(32, 7\)",
        ),
        ({"model": Toy().to("meta")}, "model: has parameters on the meta device"),
        ({"model": nn.Flatten()}, "model: has no parameters that can be trained"),
        ({"eval_images": made(50), "epochs_evaluated": [0]}, "epochs_evaluated"),
    ],
)
def test_arguments_are_checked(changes: dict[str, Any], message: str) -> None:
    arguments = {"model": toy(), "train_images": made(), "recipe": SHORT, **changes}
    with pytest.raises(ConfigError, match=message):
        train_network(**arguments)


# --- running statistics ---


@pytest.mark.parametrize("norm", ["bn", "bn-track"])
def test_networks_of_the_corpus_are_trained_with_running_statistics(norm: str) -> None:
    torch.manual_seed(0)
    model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=2, norm=norm))
    trained = train_network(model, made(24), SHORT.replace(epochs=1), eval_images=made(8))
    means = [name for name in trained.state if name.endswith("running_mean")]
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(means) == len(norms) > 5
    assert all(trained.state[f"{name}.num_batches_tracked"] == 1 for name in norms)
    assert any(trained.state[name].abs().sum() > 0 for name in means)


def test_evaluation_is_that_of_pytorch_in_evaluation_mode() -> None:
    images = made(130, split="test", seed=1)
    trained = train_network(toy(), made(), SHORT, eval_images=images)
    plain = Toy()
    plain.features[1] = nn.BatchNorm1d(12)
    plain.load_state_dict(trained.state)
    plain.eval()
    with torch.no_grad():
        pixels = (images.images.numpy() / 255 - 0.4) / 0.2
        order = plain(torch.from_numpy(pixels).float()).argsort(dim=1, descending=True)
    right = order == images.labels[:, None]
    wanted = {"top1": 100 * right[:, 0].double().mean().item(), "top5": 100 * right[:, :5].sum().item() / 130}
    assert evaluate_trained(toy(5), trained.state, images).values == pytest.approx(wanted)
    assert evaluate_trained(Toy().to("meta"), trained.state, images, batch_size=7).values == pytest.approx(wanted)
    assert trained.curve.iloc[-1][["top1", "top5"]].to_dict() == pytest.approx(wanted)
    dead = use_batch_statistics(toy(5))  # as evaluation of predicted parameters leaves it
    assert evaluate_trained(dead, trained.state, images).values == pytest.approx(wanted)


def test_existing_statistics_are_kept() -> None:
    model = toy()
    model.norm.running_mean.fill_(3.0)
    net = track_statistics(model)
    assert (net.norm.running_mean == 3).all()
    assert (net.features[1].running_var == 1).all()
    assert net.features[1].track_running_stats
    assert track_statistics(Toy().to("meta")).features[1].running_mean.is_meta


def state_without(*names: str, **more: Any) -> dict[str, Tensor]:
    state = track_statistics(toy()).state_dict()
    return {name: tensor for name, tensor in state.items() if name not in names} | more


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (state_without("conv.bias"), "state: lacks 1 tensors: conv.bias$"),
        (state_without("norm.running_var"), "running_var; without running statistics it cannot be evaluated"),
        (state_without(extra=torch.zeros(1)), "state: has 1 tensors unknown to the network: extra"),
        (
            state_without() | {"conv.bias": torch.zeros(7)},
            r"conv.bias: expected numbers of shape \(6,\), got \(7,\) on",
        ),
        (state_without() | {"conv.bias": torch.zeros(6, device="meta")}, r"got \(6,\) on meta"),
        (state_without() | {"conv.bias": 3}, "conv.bias: expected numbers of shape .6,., got int"),
        (state_without() | {"conv.bias": torch.full((6,), math.inf)}, "state: 1 tensors are not finite: conv.bias"),
    ],
)
def test_states_are_checked(state: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_trained(toy(), state, made(10))


def test_old_states_without_counters_and_outputs_that_overflow() -> None:
    state = state_without("norm.num_batches_tracked", "features.1.num_batches_tracked")
    assert evaluate_trained(toy(), state, made(10)).images == 10
    overflown = evaluate_trained(toy(), state | {"classifier.weight": torch.full((10, 12), 3e38)}, made(10))
    assert (overflown.images, overflown.nonfinite_images) == (10, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_states_of_other_types_are_evaluated(dtype: torch.dtype) -> None:
    images = load_images("digits", "test")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 10))
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    rounded = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    assert evaluate_trained(model, state, images).values == evaluate_trained(model, rounded, images).values
