"""Training data with few images per class, and torchvision's models for images of 32 pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.training import adapt_to_small_images, n_shot
from deepnets import ConfigError
from deepnets.data import ImageFolders, ImageSet, load_images
from deepnets.support import import_torchvision


@pytest.mark.parametrize("n", [1, 3, 20])
def test_the_first_images_of_every_class(n: int) -> None:
    images = load_images("digits", "train")
    seen: Counter[int] = Counter()
    rows = []
    for row, label in enumerate(images.labels.tolist()):
        seen[label] += 1
        if seen[label] <= n:
            rows.append(row)
    few = n_shot(images, n)
    assert isinstance(few, ImageSet)
    assert len(few) == 10 * n
    assert torch.equal(few.images, images.images[rows])
    assert torch.equal(few.labels, images.labels[rows])
    assert (few.name, few.split, few.mean, few.shift) == (images.name, images.split, images.mean, images.shift)
    assert len(images) == 1199


def test_few_images_of_folders() -> None:
    folders = ImageFolders("imagenet", "train", list("abcdefg"), np.array([0, 0, 0, 1, 1, 2, 2]), 3)
    few = n_shot(folders, 2)
    assert isinstance(few, ImageFolders)
    assert few.paths == list("abdefg")
    assert few.labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ConfigError, match=r"n: class 1 of imagenet \(train\) has only 2 images, expected 3 or more"):
        n_shot(folders, 3)
    with pytest.raises(ConfigError, match="n: "):
        n_shot(folders, 0)
    with pytest.raises(ConfigError, match="images: expected an ImageSet or ImageFolders, got list"):
        n_shot([], 1)  # type: ignore[arg-type]


# --- models for small images ---


@pytest.fixture(scope="module")
def models() -> Any:
    try:
        return import_torchvision().models
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "first", "last"),  # sides of the feature maps behind the first and the last convolution
    [
        ("resnet50", 32, 4),
        ("resnext50_32x4d", 32, 4),
        ("wide_resnet50_2", 32, 4),
        ("densenet121", 32, 4),
        ("mobilenet_v2", 32, 8),
        ("mobilenet_v3_small", 32, 16),
        ("vgg11", 32, 8),
        ("vgg16_bn", 32, 4),
        ("alexnet", 26, 12),
        ("mnasnet0_5", 32, 2),
        ("convnext_tiny", 29, 3),
        ("shufflenet_v2_x0_5", 32, 4),
        ("googlenet", 32, 4),
    ],
)
def test_models_for_small_images(models: Any, name: str, first: int, last: int) -> None:
    sides = []
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = getattr(models, name)(num_classes=10, **options).eval()
        names = {each: tuple(part.shape) for each, part in model.named_parameters()}
        assert adapt_to_small_images(model) is model
        for part in model.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert (sides[0], sides[-1]) == (first, last)
    assert model.expected_input_sz == 32
    adapted = {each: tuple(part.shape) for each, part in model.named_parameters()}
    assert list(adapted) == list(names)
    changed = [each for each in names if names[each] != adapted[each]]
    assert changed == [each for each in ("conv1.weight", "features.conv0.weight") if names.get(each, ())[2:] == (7, 7)]
    if name == "resnet50":
        assert sum(part.numel() for part in model.parameters()) == 23_520_842


def test_first_convolutions_keep_their_middle(models: Any) -> None:
    torch.manual_seed(0)
    model = models.resnet18(num_classes=10)
    large, state = model.conv1.weight.detach().clone(), torch.get_rng_state()
    adapt_to_small_images(model)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(model.conv1.weight, large[:, :, 2:5, 2:5])
    small = model.conv1.weight
    adapt_to_small_images(model)  # a second call changes nothing
    assert torch.equal(model.conv1.weight, small)


def test_other_models_cannot_be_adapted(models: Any) -> None:
    with torch.device("meta"):
        others = [models.squeezenet1_0(), models.vit_b_16(), nn.Linear(2, 2)]
    for model, name in zip(others, ("SqueezeNet", "VisionTransformer", "Linear"), strict=True):
        with pytest.raises(ConfigError, match=f"model: {name} cannot be adapted .* of the kinds ResNet, DenseNet"):
            adapt_to_small_images(model)
