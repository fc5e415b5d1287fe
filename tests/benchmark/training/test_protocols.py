"""Published protocols beyond plain SGD: their values, losses, schedules and changes of the images."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.training import PRESET_IMAGES, SGDRecipe, train_network
from benchmark.training.augmentation import Mixing, cutout, images_for
from benchmark.training.epoch import check_recipe, make_optimizer
from deepnets import GENOTYPES, ConfigError, MissingDependencyError, Network, NetworkConfig
from deepnets.data import ImageFolders, load_images
from deepnets.support import import_timm
from tests.benchmark.training.test_trainer import made, same, toy

try:
    import_timm()
except ImportError as error:
    HAVE_TIMM, REASON = False, str(error)
else:
    HAVE_TIMM, REASON = True, ""
needs_timm = pytest.mark.skipif(not HAVE_TIMM, reason=REASON)

SHORT = SGDRecipe(epochs=2, batch_size=32, lr=0.05)
SMALL = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=4)


def cell_network(**options: Any) -> Network:
    torch.manual_seed(0)
    return Network(SMALL, **options)


# --- values ---


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        (
            "darts",
            {"epochs": 600, "batch_size": 96, "lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4, "schedule": "cosine"}
            | {"clip_grad": 5, "cutout": 16, "drop_path": 0.2, "auxiliary_weight": 0.4, "label_smoothing": 0},
        ),
        (
            "darts-imagenet",
            {"epochs": 250, "batch_size": 128, "lr": 0.1, "gamma": 0.97, "weight_decay": 3e-5, "clip_grad": 5}
            | {"schedule": "exponential", "auxiliary_weight": 0.4, "label_smoothing": 0.1, "drop_path": 0, "cutout": 0},
        ),
        (
            "ghn3-imagenet",
            {"epochs": 50, "batch_size": 2048, "optimizer": "lamb", "loss": "bce", "lr": 6e-3, "weight_decay": 1e-3}
            | {"schedule": "cosine", "warmup_epochs": 0, "clip_grad": 0, "mixup": 0.1, "cutmix": 1.0, "noise": 1e-5}
            | {"rand_augment": "rand-m6-mstd0.5-inc1", "crop_ratio": 0.95, "color_jitter": False},
        ),
        (
            "ghn3-imagenet-random",
            {"lr": 8e-3, "weight_decay": 1e-2, "warmup_epochs": 5, "optimizer": "lamb", "loss": "bce", "noise": 0},
        ),
        (
            "penn-fudan",
            {"lr": 0.005, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 10, "batch_size": 2, "milestones": (3, 6, 9)}
            | {"gamma": 0.1, "optimizer": "sgd", "clip_grad": 0},
        ),
    ],
)
def test_presets_are_the_published_protocols(preset: str, values: dict[str, Any]) -> None:
    recipe = SGDRecipe.preset(preset)
    assert {name: getattr(recipe, name) for name in values} == values


def test_images_of_the_protocols() -> None:
    assert PRESET_IMAGES["darts"] == {"train_on": "trainval"}
    assert PRESET_IMAGES["ghn3-imagenet"] == {"image_size": 160}
    assert PRESET_IMAGES["finetune-100shot"] == {"shots": 100}


@needs_timm
def test_the_warmup_is_that_of_timm() -> None:
    from timm.scheduler import CosineLRScheduler

    recipe = SGDRecipe.preset("ghn3-imagenet-random")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    scheduler = CosineLRScheduler(optimizer, t_initial=50, warmup_t=5, warmup_lr_init=1e-4)
    for epoch in range(1, 51):
        scheduler.step(epoch - 1)
        assert recipe.lr_at(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.parametrize("preset", ["logah-vit-adamw", "logah-gpt2"])
def test_a_warmup_never_falls(preset: str) -> None:
    """Also to learning rates below the usual first one."""
    recipe = SGDRecipe.preset(preset, warmup_epochs=5)
    rates = [recipe.lr_at(epoch) for epoch in range(1, 7)]
    assert max(rates) <= recipe.lr
    assert rates[:5] == sorted(rates[:5])


@pytest.mark.parametrize("length", [1, 3, 5, 16])
def test_cutout_of_every_length(length: int) -> None:
    cut = cutout(torch.ones(200, 1, 64, 64), length, torch.Generator().manual_seed(0))
    assert (cut == 0).sum(dim=(1, 2, 3)).max() == length**2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mse"}, "loss: expected one of cross_entropy, bce; got 'mse'"),
        ({"drop_path": 1.0}, "drop_path: expected a number of at least 0 and less than 1"),
        ({"cutout": -1}, "cutout"),
        ({"batch_size": 5, "mixup": 0.1}, "batch_size: mixup and cutmix need an even number, got 5"),
        ({"batch_size": 5, "cutmix": 1.0}, "batch_size: mixup and cutmix need an even number, got 5"),
        ({"mixup": -0.1}, "mixup: expected a number of at least 0"),
        ({"warmup_epochs": 50}, "warmup_epochs: expected fewer than the 50 epochs of the training, got 50"),
        ({"rand_augment": 6}, "rand_augment: expected a configuration of timm, got 6"),
        ({"rand_augment": "rand-m6", "augment": False}, "rand_augment: needs augment"),
        ({"target_threshold": 0.2}, "target_threshold: is for the loss bce, not cross_entropy"),
        ({"crop_ratio": 1.5}, "crop_ratio: expected a number from 0 to 1"),
        ({"color_jitter": 1}, "color_jitter: expected True or False"),
    ],
)
def test_recipes_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SGDRecipe(**changes)


@needs_timm
@pytest.mark.parametrize("config", ["m6", "augmix-m6", "rand-q3"])
def test_configurations_of_rand_augment_are_checked(config: str) -> None:
    with pytest.raises(ConfigError, match=r"rand_augment: expected a configuration of timm, such as rand-m6-mstd0.5"):
        check_recipe(SGDRecipe(rand_augment=config))


@pytest.mark.parametrize(
    "changes", [{"optimizer": "lamb"}, {"loss": "bce"}, {"mixup": 0.1}, {"cutmix": 1.0}, {"rand_augment": "rand-m5"}]
)
def test_without_timm_the_error_says_what_to_install(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise MissingDependencyError('timm is not installed; install it with pip install "deepnets1m[vision]"')

    monkeypatch.setattr("deepnets.support.optional_models._import", missing)
    with pytest.raises(MissingDependencyError, match=r"needs? timm: .*pip install .deepnets1m.vision.") as caught:
        check_recipe(SGDRecipe(**changes))
    assert "\n" not in str(caught.value)


# --- auxiliary head and drop path ---


def test_the_loss_of_the_auxiliary_head_is_added_with_its_weight() -> None:
    model, images = cell_network(auxiliary=True), made(32)
    recipe = SGDRecipe(epochs=1, batch_size=32, lr=0.0, augment=False, auxiliary_weight=0.4, label_smoothing=0.1)
    trained = train_network(model, images, recipe)
    pixels = ((images.images.float() / 255) - 0.4) / 0.2
    with torch.no_grad():
        logits, auxiliary = copy.deepcopy(model).train()(pixels)
    losses = [F.cross_entropy(each, images.labels, label_smoothing=0.1).item() for each in (logits, auxiliary)]
    assert trained.curve["loss"].item() == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-4)
    assert losses[1] != pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
def test_the_auxiliary_head_is_trained_only_with_a_weight() -> None:
    model = cell_network(auxiliary=True)
    name = "auxiliary_head.classifier.weight"
    with_weight = train_network(model, made(), SHORT.replace(auxiliary_weight=0.4)).state
    without = train_network(model, made(), SHORT.replace(weight_decay=0.0)).state
    assert not torch.equal(with_weight[name], model.state_dict()[name])
    assert torch.equal(without[name], model.state_dict()[name])


def test_drop_path_grows_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    forward = Network.forward

    def noted(self: Network, images: Tensor) -> Any:
        if self.training:
            seen.append(self.drop_path)
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", noted)
    train_network(cell_network(), made(32), SHORT.replace(epochs=4, drop_path=0.2), eval_images=made(20))
    assert seen == pytest.approx([0, 0.05, 0.1, 0.15])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auxiliary_weight": 0.4}, "auxiliary_weight: Toy has no auxiliary head"),
        ({"drop_path": 0.2}, "drop_path: Toy has no drop path, which deepnets.Network has"),
    ],
)
def test_networks_without_the_parts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_network(toy(), made(), SHORT.replace(**changes))


# --- cutout, mixup, CutMix ---


def test_cutout_is_a_square_that_is_cut_off_at_the_border() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.ones(400, 3, 20, 30)
    cut = cutout(images, 8, generator)
    assert (images == 1).all()
    assert cut.unique().tolist() == [0, 1]
    centers = set()
    for image in cut:
        assert torch.equal(image[0], image[1])
        rows, columns = (np.flatnonzero((image[0] == 0).any(dim=axis).numpy()) for axis in (1, 0))
        assert (image[0] == 0).sum() == len(rows) * len(columns)  # a rectangle without gaps
        for places, size in ((rows, 20), (columns, 30)):
            assert places[-1] - places[0] + 1 == len(places)
            assert len(places) == 8 or (4 <= len(places) < 8 and (places[0] == 0 or places[-1] == size - 1))
        centers.add((rows[0], columns[0]))
    assert len(centers) > 200
    assert torch.equal(cutout(images, 8, generator.manual_seed(0)), cut)


@needs_timm
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_targets_are_the_shares_of_the_images(mixup: float, cutmix: float) -> None:
    mixing = Mixing(SGDRecipe(mixup=mixup, cutmix=cutmix), num_classes=8)
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(8)
    shares = []
    for _ in range(30):
        images = labels.float().view(-1, 1, 1, 1).expand(8, 3, 16, 16).clone()  # every pixel is the label
        mixed, targets = mixing(images, labels, generator)
        assert targets.sum(dim=1) == pytest.approx(1.0)
        expected = (targets * labels).sum(dim=1)
        assert mixed.mean(dim=(1, 2, 3)) == pytest.approx(expected, abs=1e-4)
        assert (targets > 0).sum(dim=1).max() <= 2
        shares.append(targets[0, 0].item())
        if not mixup:
            assert mixed.frac().abs().max() == 0  # pixels of one image or the other
    assert len(set(shares)) > 10


@needs_timm
def test_label_smoothing_of_mixed_targets() -> None:
    mixing = Mixing(SGDRecipe(mixup=0.2, label_smoothing=0.1), num_classes=4)
    _, targets = mixing(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.Generator().manual_seed(0))
    assert targets[:, 2:] == pytest.approx(0.025)
    assert targets.sum(dim=1) == pytest.approx(1)


@needs_timm
def test_binary_cross_entropy() -> None:
    images, model = made(32), toy()
    model.dropout.p = 0.0
    recipe = SGDRecipe(epochs=1, batch_size=32, lr=0.0, augment=False, loss="bce")
    loss = train_network(model, images, recipe).curve["loss"].item()
    pixels = ((images.images.float() / 255) - 0.4) / 0.2
    with torch.no_grad():
        probabilities = copy.deepcopy(model).train()(pixels).double().sigmoid().numpy()
    right = np.eye(10)[images.labels.numpy()]
    assert loss == pytest.approx(-np.log(np.where(right, probabilities, 1 - probabilities)).mean(), rel=1e-5)


@needs_timm
def test_mixed_targets_are_whole_above_the_threshold() -> None:
    """With a threshold, both classes of a mixed image are targets unless the share of one is small."""
    from benchmark.training.epoch import _loss

    loss = _loss(SGDRecipe(loss="bce", target_threshold=0.2))
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    for targets, whole in (([0.5, 0.5, 0.0], [1, 1, 0]), ([0.85, 0.0, 0.15], [1, 0, 0])):
        wanted = F.binary_cross_entropy(logits.sigmoid(), torch.tensor([whole]).float())
        assert loss(logits, torch.tensor([targets])).item() == pytest.approx(wanted.item(), rel=1e-5)


@needs_timm
def test_lamb_is_that_of_the_paper() -> None:
    """You et al. (2020), algorithm 2, with the norm of the gradient limited to 1 first."""
    torch.manual_seed(0)
    net, recipe = nn.Linear(6, 4, bias=False), SGDRecipe(optimizer="lamb", lr=0.02, weight_decay=0.01)
    optimizer = make_optimizer(net, recipe)
    weight = net.weight.detach().double().clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        gradient = torch.randn(4, 6, generator=torch.Generator().manual_seed(step)) * 10
        net.weight.grad = gradient.clone()
        optimizer.step()
        gradient = gradient.double() / gradient.double().norm().clamp(min=1)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-6) + 0.01 * weight
        weight -= 0.02 * weight.norm() / update.norm() * update
        torch.testing.assert_close(net.weight.detach().double(), weight, rtol=1e-4, atol=1e-6)


# --- whole trainings ---

EVERYTHING = {
    "optimizer": "lamb",
    "loss": "bce",
    "target_threshold": 0.2,
    "mixup": 0.1,
    "cutmix": 1.0,
    "rand_augment": "rand-m6-mstd0.5-inc1",
    "cutout": 8,
    "drop_path": 0.2,
    "auxiliary_weight": 0.4,
}


@needs_timm
def test_the_same_seed_gives_the_same_bits_and_global_generators_are_left_alone() -> None:
    recipe = SHORT.replace(**EVERYTHING)
    model = cell_network(auxiliary=True)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = train_network(model, made(33), recipe, seed=3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    random.seed(6)
    np.random.seed(6)  # noqa: NPY002
    second = train_network(model, made(33), recipe, seed=3)
    other = train_network(model, made(33), recipe, seed=4)
    assert same(first.state, second.state)
    assert not same(first.state, other.state)


@needs_timm
def test_an_odd_last_batch_can_be_mixed() -> None:
    trained = train_network(toy(), made(67), SHORT.replace(mixup=0.2, batch_size=32))  # 32, 32, and three images
    assert trained.curve["loss"].notna().all()


@needs_timm
def test_digits_are_learned_with_the_losses_of_the_ghn3_protocol() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.AvgPool2d(4), nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(576, 10)),
    )
    changes = {"epochs": 4, "batch_size": 32, "lr": 0.02, "rand_augment": "", "augment": False}
    trained = train_network(model, train, SGDRecipe.preset("ghn3-imagenet", **changes), eval_images=test)
    assert trained.curve["top1"].iloc[-1] > 75
    assert trained.curve["loss"].iloc[-1] < trained.curve["loss"].iloc[0]


# --- image sets ---


@needs_timm
def test_rand_augment_of_images_in_memory() -> None:
    digits = load_images("digits", "val")
    plain, changed = (images_for(digits, SGDRecipe(rand_augment=config)) for config in ("", "rand-m9-mstd0.5-inc1"))

    def batch(images: Any, seed: int, augment: bool = True) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return next(iter(images.batches(40, augment=augment, generator=generator)))[0]

    assert torch.equal(batch(changed, 1), batch(changed, 1))
    assert not torch.equal(batch(changed, 1), batch(changed, 2))
    assert torch.equal(batch(changed, 1, augment=False), batch(plain, 1, augment=False))
    different = (batch(changed, 1) != batch(plain, 1)).flatten(1).any(dim=1)
    assert 10 < different.sum() <= 40  # each of two operations applies with probability 0.5
    assert batch(changed, 1).shape == batch(plain, 1).shape


def test_images_of_users_have_no_rand_augment() -> None:
    mine: Any = object()
    assert images_for(mine, SHORT) is mine
    with pytest.raises(ConfigError, match="rand_augment: expected an ImageSet or ImageFolders, got object"):
        images_for(mine, SGDRecipe(rand_augment="rand-m6"))


@needs_timm
def test_transforms_of_images_in_folders() -> None:
    folders = ImageFolders("pets", "train", ["cat/1.jpg"], np.array([0]), num_classes=1, image_size=160)

    def names(recipe: SGDRecipe, augment: bool) -> list[str]:
        transform: Any = images_for(folders, recipe)._decoder(augment).keywords["transform"]  # type: ignore[union-attr]
        return [type(each).__name__ for each in transform.transforms]

    usual = ["RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "ToTensor", "Normalize"]
    assert names(SGDRecipe(), True) == usual
    ghn3 = SGDRecipe.preset("ghn3-imagenet")
    assert names(ghn3, True) == [*usual[:2], "RandAugment", *usual[3:]]
    view: Any = images_for(folders, ghn3)._decoder(False).keywords["transform"]  # type: ignore[union-attr]
    assert view.transforms[0].size == math.floor(160 / 0.95)
    assert view.transforms[1].size == (160, 160)
