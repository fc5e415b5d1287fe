"""The parts of the trainer: gradients, schedules, recipes, what is drawn, what is skipped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets import GENOTYPES, DeepNets1M, Genotype, Network, NetworkConfig, build_graph
from deepnets.support import ConfigError
from ghn_model import GHN, PRESETS
from ghn_model.training import Length, Ranks, Recipe
from ghn_model.training.meta_batches import DrawnNetworks, meta_batches
from ghn_model.training.objective import Objective, Outcome
from ghn_model.training.optimization import Optimization
from ghn_model.training.schedules import Schedule
from tests.support.training_runs import small_config, stream

STARVED = Genotype(  # some operations read nothing, one leads nowhere
    normal=[("none", 0), ("conv_3x3", 1), ("sep_conv_3x3", 2), ("none", 1), ("cse", 0), ("conv_1x1", 1)],
    normal_concat=[3],
    reduce=[("none", 0), ("none", 1), ("conv_5x5", 2), ("skip_connect", 1), ("max_pool_3x3", 0), ("none", 2)],
    reduce_concat=[3, 4],
)
CONFIGS = [
    NetworkConfig(STARVED, n_cells=4, C=8, norm="bnorm"),
    NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8, norm="bnorm", stem_type=1),
    NetworkConfig(GENOTYPES["ViT"], n_cells=2, C=16, C_mult=1, preproc=False),
]


@pytest.mark.parametrize("preset", ["ghn2", "ghn1", "mlp", "ghn3-t"])
@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_gradients_are_those_of_real_networks(preset: str, penalty: float) -> None:
    """In double precision, against one backward pass through networks whose parameters have been replaced."""
    torch.manual_seed(0)
    ghn = GHN(small_config(preset)).double().train()
    graphs = [build_graph(config) for config in CONFIGS]
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    objective = Objective(label_smoothing=0.1, penalty=penalty)
    outcome = objective.backward(ghn, ghn.prepare(graphs), images, labels)
    gradients = {name: parameter.grad for name, parameter in ghn.named_parameters()}

    ghn.zero_grad()
    total, correct = torch.zeros((), dtype=torch.float64), 0
    for graph, predicted in zip(graphs, ghn(graphs)):
        network = Network(graph.config).double().train()
        for name, parameter in predicted.items():
            owner, _, leaf = name.rpartition(".")
            module = network.get_submodule(owner)
            assert getattr(module, leaf).shape == parameter.shape
            del module._parameters[leaf]
            setattr(module, leaf, parameter)  # the predicted tensor itself, in the place of the parameter
        logits = network(images)
        smooth = 0.9 * F.one_hot(labels, 10).double() + 0.01
        loss = -(smooth * logits.log_softmax(1)).sum(1).mean()
        total = total + loss + penalty * sum(tensor.square().sum().sqrt() for tensor in predicted.values())
        correct += int((logits.argmax(1) == labels).sum())
    (total / 3).backward()

    assert outcome.loss.item() == pytest.approx(total.item() / 3, rel=1e-9)
    assert (outcome.correct.item(), outcome.answers) == (correct, 12)
    for name, parameter in ghn.named_parameters():
        assert parameter.grad is not None, name
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-6, atol=1e-10), name  # type: ignore[arg-type]


def test_a_scale_changes_no_gradient() -> None:
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    found = []
    for scale in (None, torch.tensor(1024.0, dtype=torch.float64)):
        ghn.zero_grad()
        Objective().backward(ghn, ghn.prepare([build_graph(CONFIGS[0])]), images, labels, scale=scale)
        found.append([parameter.grad for parameter in ghn.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(*found))  # type: ignore[arg-type]


def gradient_norms(**options: object) -> tuple[list[float], list[float]]:
    """Norms of the weights' gradients for each of `CONFIGS` alone, without and with the options."""
    found = []
    for given in ({}, options):
        norms = []
        for config in CONFIGS:
            torch.manual_seed(0)
            ghn = GHN(small_config()).double().train()
            images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
            typical = given.get("typical_norm")
            objective = Objective(network_norm=str(given.get("network_norm", "none")))
            objective.backward(ghn, ghn.prepare([build_graph(config)]), images, labels, typical_norm=typical)  # type: ignore[arg-type]
            norms.append(float(torch.nn.utils.get_total_norm(p.grad for p in ghn.parameters() if p.grad is not None)))
        found.append(norms)
    return found[0], found[1]


def network_log_norm(config: NetworkConfig) -> float:
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    return Objective().backward(ghn, ghn.prepare([build_graph(config)]), images, labels).log_norm.item()


@pytest.mark.parametrize("kind", ["clip", "normalise"])
def test_gradients_of_networks_are_brought_to_a_norm(kind: str) -> None:
    logs = [network_log_norm(config) for config in CONFIGS]
    typical = math.exp(sorted(logs)[1])
    plain, changed = gradient_norms(network_norm=kind, typical_norm=torch.tensor(typical, dtype=torch.float64))
    for log, before, after in zip(logs, plain, changed):
        most = 1.0 if kind == "clip" else 4.0
        assert after / before == pytest.approx(min(most, typical / math.exp(log)), rel=1e-6)


def test_before_the_first_step_no_norm_is_typical() -> None:
    plain, changed = gradient_norms(network_norm="normalise", typical_norm=torch.tensor(math.nan))
    assert changed == pytest.approx(plain)


def test_the_log_norm_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    predicted = {name: p.detach().requires_grad_() for name, p in ghn(build_graph(CONFIGS[1]))[0].items()}
    network = Network(CONFIGS[1]).double().train()
    F.cross_entropy(torch.func.functional_call(network, predicted, (images,)), labels).backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in predicted.values() if p.grad is not None))
    assert network_log_norm(CONFIGS[1]) == pytest.approx(math.log(norm), rel=1e-9)


def test_parts_of_a_meta_batch_add_up() -> None:
    """What is done when memory runs out gives the gradients of the whole."""
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    graphs = [build_graph(config) for config in CONFIGS]
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    objective = Objective(penalty=1e-3)
    whole = objective.backward(ghn, ghn.prepare(graphs), images, labels)
    expected = [parameter.grad for parameter in ghn.parameters()]
    ghn.zero_grad()
    parts = [
        objective.backward(ghn, ghn.prepare(some), images, labels, weight=len(some) / 3)
        for some in (graphs[:1], graphs[1:])
    ]
    joined = Outcome.joined(parts)
    assert joined.loss.item() == pytest.approx(whole.loss.item())
    assert joined.log_norm.item() == pytest.approx(whole.log_norm.item())
    assert (joined.correct.item(), joined.answers) == (whole.correct.item(), whole.answers)
    for gradient, parameter in zip(expected, ghn.parameters()):
        assert torch.allclose(gradient, parameter.grad, rtol=1e-9, atol=1e-14)  # type: ignore[arg-type]


def test_networks_that_can_see_smaller_images() -> None:
    """Position encodings fix the size of images, and so do classifiers of flattened features."""
    torch.manual_seed(0)
    ghn = GHN(small_config()).train()
    flat = CONFIGS[1].replace(glob_avg=False)
    images, labels, black = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1]), torch.zeros(4, 3, 16, 16)
    for config, smaller in ((CONFIGS[1], True), (CONFIGS[2], False), (flat, False)):
        batch = ghn.prepare([build_graph(config)])
        torch.manual_seed(1)
        full = Objective().backward(ghn, batch, images, labels)
        torch.manual_seed(1)
        halved = Objective().backward(ghn, batch, images, labels, halved=black)
        assert (full.loss.item() != halved.loss.item()) == smaller


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_nearly_the_same(precision: str) -> None:
    torch.manual_seed(0)
    ghn = GHN(small_config()).train()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    graphs = ghn.prepare([build_graph(CONFIGS[1])])
    exact = Objective().backward(ghn, graphs, images, labels)
    half = Objective(precision=precision).backward(ghn, graphs, images, labels, scale=torch.tensor(256.0))
    assert half.loss.item() == pytest.approx(exact.loss.item(), abs=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in ghn.parameters() if parameter.grad is not None)


# --- what is skipped ---


def optimization(**changes: object) -> tuple[GHN, Optimization]:
    torch.manual_seed(0)
    ghn = GHN(small_config())
    return ghn, Optimization(ghn, Recipe(**changes), Ranks("cpu"))  # type: ignore[arg-type]


def weights(ghn: GHN) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in ghn.parameters()]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(optimizer: str, fault: str) -> None:
    ghn, optimized = optimization(optimizer=optimizer, average=0.9)

    def step(loss: float, bad: float) -> bool:
        for parameter in ghn.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        next(ghn.parameters()).grad.view(-1)[0] *= bad  # type: ignore[union-attr]
        failed, _ = optimized.step(torch.tensor([loss, 0.5, 0.0]))
        return bool(failed)

    assert not step(1.0, 1.0)
    before, averages = weights(ghn), [average.clone() for average in optimized.averages]
    moments = [dict(values) for values in optimized.optimizer.state.values()]
    moments = [{name: value.clone() for name, value in values.items()} for values in moments]
    assert step(math.nan if fault == "loss" else 1.0, 1.0 if fault == "loss" else math.inf)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    for values, kept in zip(optimized.optimizer.state.values(), moments):
        assert all(torch.equal(values[name], kept[name]) for name in kept)
    assert all(parameter.grad is None for parameter in ghn.parameters())
    assert not step(1.0, 1.0)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    assert any(not torch.equal(a, b) for a, b in zip(averages, optimized.averages))


def test_the_optimizer_is_the_published_one() -> None:
    """Adam with L2, after clipping the norm to 5: compared with PyTorch's, without the flag."""
    ghn, optimized = optimization(schedule=Schedule("constant"))
    torch.manual_seed(0)
    other = GHN(small_config())
    plain = torch.optim.Adam(other.parameters(), lr=1e-3, weight_decay=1e-5)
    for number in range(5):
        for ours, theirs in zip(ghn.parameters(), other.parameters()):
            ours.grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(number))
            theirs.grad = ours.grad.clone()
        optimized.set_rate(0.5)
        optimized.step(torch.tensor([1.0, 0.5, 0.0]))
        torch.nn.utils.clip_grad_norm_(other.parameters(), 5)
        plain.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(ghn), weights(other)))


def test_the_scale_follows_overflows() -> None:
    ghn, optimized = optimization(precision="fp16")

    def step(value: float) -> tuple[bool, float]:
        for parameter in ghn.parameters():
            parameter.grad = torch.full_like(parameter, value)
        failed, _ = optimized.step(torch.tensor([1.0, 0.5, 0.0]))
        assert optimized.scale is not None
        return bool(failed), optimized.scale.item()

    before = weights(ghn)
    assert step(math.inf) == (False, 32768.0)  # an overflow is no failure, but no step either
    assert all(torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    scales = [step(0.1)[1] for _ in range(101)]
    assert scales[98:] == [32768.0, 65536.0, 65536.0]
    for _ in range(10):
        step(math.nan)
    assert step(math.nan) == (False, 1024.0)


def test_averages_of_weights() -> None:
    ghn, optimized = optimization(average=0.5, schedule=Schedule("constant"))
    first = weights(ghn)[0]
    for parameter in ghn.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimized.step(torch.tensor([1.0, 0.5, 0.0]))
    second = weights(ghn)[0]
    decay = 2 / 11  # of a young average: (1 + n) / (10 + n)
    averaged = optimized.averaged(ghn)
    assert torch.allclose(weights(averaged)[0], decay * first + (1 - decay) * second)
    assert torch.equal(weights(ghn)[0], second)


# --- schedules and recipes ---


def test_the_schedule_of_ghn2() -> None:
    schedule = Recipe.preset("ghn2").schedule
    rates = [schedule.rate(1e-3, epoch / 300) for epoch in (0, 199, 200, 249, 250, 299)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_the_schedule_of_ghn3() -> None:
    schedule = Recipe.preset("ghn3-t", "imagenet").schedule
    rates = [schedule.rate(4e-4, (epoch + 0.5) / 75) for epoch in range(75)]
    for epoch, rate in enumerate(rates):
        warm = 1e-5 + (4e-4 - 1e-5) * epoch / 4
        assert rate == pytest.approx(warm if epoch < 4 else 4e-4 * (1 + math.cos(math.pi * (epoch - 5) / 70)) / 2)
    assert [schedule.rate(4e-4, epoch / 75) for epoch in range(75)] == pytest.approx(rates)


def test_a_smooth_schedule_is_continuous_and_ends_at_nothing() -> None:
    schedule = Schedule("cosine", warmup=0.05)
    rates = np.array([schedule.rate(1.0, x) for x in np.linspace(0, 1, 10_001)])
    assert rates[0] == pytest.approx(1e-5)
    assert rates.max() == pytest.approx(1.0)
    assert rates.argmax() == 500
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.abs(np.diff(rates)).max() < 0.003


def test_progress_is_the_larger_share() -> None:
    assert Length(steps=100).progress(25, 1e9) == 0.25
    assert Length(minutes=2).progress(10**9, 30) == 0.25
    assert Length(steps=100, minutes=2).progress(10, 90) == 0.75
    assert Length(steps=100, minutes=2).progress(100, 0) == 1
    assert Length(minutes=2).progress(0, 1000) == 1


def test_published_recipes() -> None:
    published = {name: Recipe.preset(name) for name in PRESETS}
    for name in ("mlp", "ghn1", "ghn2"):
        recipe = published[name]
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (recipe.batch, recipe.epochs, recipe.clip, recipe.penalty) == (64, 300, 5, 0)
        assert recipe.meta_batch == (1 if name == "ghn1" else 8)
    for size in ("t", "s", "l", "xl"):
        recipe = published[f"ghn3-{size}"]
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adamw", 4e-4, 1e-2)
        assert (recipe.batch, recipe.epochs, recipe.penalty) == (64, 300, 3e-5)
    large = Recipe.preset("ghn3-t", "imagenet")
    assert (large.batch, large.epochs, large.label_smoothing, large.wider_nets) == (128, 75, 0.1, True)
    assert (Recipe.preset("ghn2", "imagenet").batch, Recipe.preset("ghn2", "imagenet").epochs) == (256, 150)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("images", ["digits", "cifar10", "imagenet"])
def test_recipes_survive_json(preset: str, images: str) -> None:
    recipe = Recipe.preset(preset, images)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "sgd"}, "adam, adamw"),
        ({"batch": 1}, "batch"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"average": 1.0}, "average"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"precision": "int8"}, "fp32, bf16, fp16"),
        ({"schedule": "cosine"}, "Schedule"),
    ],
)
def test_recipes_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]


def test_schedules_and_lengths_are_checked() -> None:
    for wrong in ({"kind": "linear"}, {"warmup": 1.0}, {"epochs": -1}):
        with pytest.raises(ConfigError):
            Schedule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="minutes"):
        Length(minutes=0)
    with pytest.raises(ConfigError, match="unknown key 'lr'"):
        Recipe.from_dict({"lr": 1})


# --- what is drawn ---


def test_drawn_networks_keep_the_limits(corpus: Path) -> None:
    nets = DeepNets1M(corpus)
    drawn = DrawnNetworks(nets, max_params=150_000, max_nodes=150)
    assert 10 < len(drawn) < len(nets)
    widths = set()
    for position in range(0, len(drawn), 3):
        for number in range(3):
            graph = drawn[position, number]
            widths.add(graph.config.C)
            assert graph.num_nodes <= 150
            assert sum(math.prod(slot.shape) for slots in graph.parameters for slot in slots) <= 150_000
            assert drawn[position, number].config == graph.config
    assert len(widths) > 1
    assert len(DrawnNetworks(nets)) == len(nets)
    with pytest.raises(ConfigError, match=r"at most 10 parameters \(max_params\)"):
        DrawnNetworks(nets, max_params=10)


@pytest.mark.parametrize("workers", [0, 1])
def test_meta_batches_go_on_where_they_were(corpus: Path, workers: int) -> None:
    nets = DrawnNetworks(DeepNets1M(corpus), max_nodes=150)

    def configs(first: int, count: int, rank: int = 0, world_size: int = 1, workers: int = 0) -> list[list[object]]:
        batches = meta_batches(
            nets, small_config(), 2, seed=5, first=first, rank=rank, world_size=world_size, workers=workers
        )
        return [[graph.config for graph in next(batches).graphs] for _ in range(count)]

    whole = configs(0, 8)
    assert configs(3, 5, workers=workers) == whole[3:]
    shares = [configs(1, 3, rank, 2) for rank in range(2)]
    assert [group for pair in zip(*shares) for group in pair] == whole[2:8]


def test_images_come_by_the_number_of_the_step() -> None:
    one, other = stream(batch=4, seed=3), stream(batch=4, seed=3)
    assert one.per_epoch == 6
    torch.manual_seed(1)
    images, labels = one.at(8)
    other.at(20)
    torch.manual_seed(1)
    again, labels_again = other.at(8)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    passes = [torch.cat([one.at(step)[1] for step in range(6 * epoch, 6 * epoch + 6)]) for epoch in range(2)]
    assert all(torch.equal(labels.sort()[0], (torch.arange(24) % 10).sort()[0]) for labels in passes)
    assert not torch.equal(*passes)
    with pytest.raises(ConfigError, match="fewer than 25"):
        stream(batch=25)


def test_images_are_normalised_as_their_set_says() -> None:
    plain = stream()._images
    from ghn_model.training.images import ImageStream

    images, labels = ImageStream(plain, 4, augment=False).at(0)
    for image, label in zip(images, labels):
        expected = plain.normalized(plain.images[int(label)])
        assert torch.allclose(image, expected, atol=1e-6)


def test_images_in_folders_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image once in a pass; the same images, varied in the same way, from any step on."""
    from deepnets.data.imagenet import load_imagenet
    from deepnets.support import import_torchvision
    from ghn_model.training import images as image_stream

    try:
        import_torchvision()
        from PIL import Image
    except ImportError:
        pytest.skip("torchvision is not installed")
    levels = iter(range(250))
    for part, count in (("train", 56), ("val", 1)):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), next(levels)).save(tmp_path / part / label / f"{number:02}.png")
    folders = load_imagenet("train", tmp_path, image_size=32, workers=0, num_classes=2)
    assert len(folders) == 12
    monkeypatch.setattr(image_stream, "BLOCK", 2)

    def batches(*steps: int) -> list[tuple[Tensor, Tensor]]:
        images = image_stream.FolderStream(folders, 3, seed=1)
        assert images.per_epoch == 4
        return [images.at(step) for step in steps]

    whole = batches(*range(8))
    for first in (1, 2, 5):
        for (images, labels), (again, labels_again) in zip(whole[first:], batches(*range(first, 8)), strict=True):
            assert torch.equal(images, again)
            assert torch.equal(labels, labels_again)
    plain = image_stream.FolderStream(folders, 3, seed=1, augment=False)
    for epoch in range(2):
        seen = [float(image.mean()) for step in range(4 * epoch, 4 * epoch + 4) for image in plain.at(step)[0]]
        assert len(set(seen)) == 12
