"""Networks and images of training steps: limits, order, resuming, worker processes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepnets import DeepNets1M
from deepnets.data import ImageFolders
from deepnets.support import ConfigError, FormatError
from ghn_model import GHN
from ghn_model.training import Recipe
from ghn_model.training.examples import examples_of_process
from ghn_model.training.images import FolderStream, ImageStream
from ghn_model.training.meta_batches import DrawnNetworks, MetaBatch, meta_batches
from tests.support.training_runs import small_config, stream


def test_drawn_networks_respect_the_limits(corpus: Path) -> None:
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


@pytest.mark.parametrize(("num_classes", "image_size", "max_params"), [(100, 32, 100_000), (1000, 224, 1_000_000)])
def test_limits_hold_for_other_classes_and_images(
    corpus: Path, num_classes: int, image_size: int, max_params: int
) -> None:
    """The corpus knows the sizes for ten classes and 32 pixels; networks of which no width fits are replaced."""
    nets = DeepNets1M(corpus, num_classes=num_classes, image_size=image_size)
    drawn = DrawnNetworks(nets, max_params=max_params)
    replaced = 0
    for position in range(len(drawn)):
        graph = drawn[position, 0]
        assert sum(math.prod(slot.shape) for slots in graph.parameters for slot in slots) <= max_params
        replaced += graph.index != int(drawn.indices[position])
    assert replaced
    few = DrawnNetworks(DeepNets1M(corpus, num_classes=10_000, num_nets=40), max_params=50_000)
    with pytest.raises(ConfigError, match="networks, none has at most 50,000 parameters"):
        few[0, 0]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("workers", [0, 1])
def test_meta_batches_resume_at_any_step(corpus: Path, workers: int) -> None:
    nets = DrawnNetworks(DeepNets1M(corpus), max_nodes=150)

    def configs(first: int, count: int, rank: int = 0, world_size: int = 1, workers: int = 0) -> list[list[object]]:
        batches = meta_batches(
            nets, GHN(small_config()), 2, seed=5, first=first, rank=rank, world_size=world_size, workers=workers
        )
        return [[graph.config for graph in next(batches).graphs] for _ in range(count)]

    whole = configs(0, 8)
    assert configs(3, 5, workers=workers) == whole[3:]
    shares = zip(configs(1, 3, 0, 2), configs(1, 3, 1, 2))
    for step, (one, other) in enumerate(shares, start=1):  # processes share the networks of larger groups
        assert sorted(map(repr, one + other)) == sorted(map(repr, whole[2 * step] + whole[2 * step + 1]))


def test_images_are_a_function_of_the_step() -> None:
    one, other = stream(4, seed=3), stream(4, seed=3)
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
        stream(25)


def test_images_are_normalized_as_by_their_set() -> None:
    plain = stream()._images
    images, labels = ImageStream(plain, 4, augment=False).at(0)
    for image, label in zip(images, labels):
        expected = plain.normalized(plain.images[int(label)])
        assert torch.allclose(image, expected, atol=1e-6)


def test_images_are_resized_and_have_noise_as_in_batches_of_their_set() -> None:
    resized = replace(stream()._images, resize=48)
    images, labels = ImageStream(resized, 4, augment=False).at(0)
    assert images.shape == (4, 3, 48, 48)
    whole, _ = next(resized.batches(len(resized)))
    for image, label in zip(images, labels):
        assert torch.allclose(image, whole[int(label)], atol=1e-5)
    noisy = replace(stream()._images, noise=0.5)
    torch.manual_seed(3)
    images, labels = ImageStream(noisy, 4, augment=False).at(0)
    torch.manual_seed(3)
    assert torch.equal(images, noisy.normalized(noisy.images[labels]))


def test_hypernetworks_without_prepare_get_graphs(corpus: Path) -> None:
    """The meta-batch keeps tensors where the method `to` is missing."""
    graphs = [DeepNets1M(corpus)[0]]
    batch = MetaBatch.of(torch.nn.Linear(1, 1), graphs)
    assert batch.inputs == graphs
    assert batch.to(torch.device("meta")) is batch.pin_memory() is batch


class MadeUpFolders(ImageFolders):
    """Images whose pixels are their row, plus a random number if they are augmented; no files, no torchvision."""

    def decode(self, row: int, seed: int = 0, *, augment: bool = False) -> Tensor:
        if row == 99:
            raise FormatError(f"{row}.png: cannot be read as an image")
        return torch.full((3, 2, 2), row + (seed / 2**62 if augment else 0.0))


def folders(count: int = 12, workers: int = 0) -> MadeUpFolders:
    return MadeUpFolders("made up", "train", [""] * count, np.arange(count), count, 2, workers=workers)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("workers", [0, 1])
def test_folders_resume_at_any_step(workers: int) -> None:
    """The same images with the same augmentation, from any step on, in any number of workers."""
    stream = FolderStream(folders(), 3, seed=1)
    assert stream.per_epoch == 4
    whole = [stream.at(step) for step in range(8)]
    for first in (2, 5):
        resumed = FolderStream(folders(workers=workers), 3, seed=1)
        for step in range(first, 8):
            images, labels = resumed.at(step)
            assert torch.equal(images, whole[step][0])
            assert torch.equal(labels, whole[step][1])
    assert torch.equal(stream.at(3)[0], whole[3][0])  # steps may also be repeated


def test_processes_decode_the_images_of_their_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the rows of the whole step; with shared images, these are all of them."""
    recipe = Recipe(meta_batch_size=2, batch_size=3, share_images=False)
    whole = [FolderStream(folders(), 6, seed=1).at(step) for step in range(3)]
    decoded: list[int] = []
    real = MadeUpFolders.decode

    def decode(self: MadeUpFolders, row: int, *arguments: Any, **options: Any) -> Tensor:
        decoded.append(row)
        return real(self, row, *arguments, **options)

    monkeypatch.setattr(MadeUpFolders, "decode", decode)
    for rank in range(2):
        stream = FolderStream(folders(), 6, seed=1)
        for step, (images, labels) in enumerate(whole):
            own = slice(3 * rank, 3 * rank + 3)
            found = examples_of_process(stream, step, recipe, rank, world_size=2)
            assert torch.equal(found[0], images[own])
            assert torch.equal(found[1], labels[own])
    assert len(decoded) == 2 * 3 * 3
    shared = examples_of_process(stream, 1, recipe.replace(share_images=True), 1, world_size=2)
    assert torch.equal(shared[0], whole[1][0])
    with pytest.raises(ConfigError, match="images: 4 per step, expected 6"):
        examples_of_process(FolderStream(folders(), 4), 0, recipe, 0, 2)


def test_folders_show_every_image_once_per_epoch() -> None:
    stream = FolderStream(folders(), 3, seed=1, augment=False)
    epochs = [[int(row) for step in range(start, start + 4) for row in stream.at(step)[1]] for start in (0, 4)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]
    images, labels = stream.at(9)
    assert torch.equal(images[:, 0, 0, 0], labels.float())


def test_one_loader_serves_the_whole_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from ghn_model.training import images as module

    loaders: list[Any] = []
    real = module.DataLoader
    monkeypatch.setattr(module, "DataLoader", lambda *words, **options: loaders.append(1) or real(*words, **options))
    stream = FolderStream(folders(), 3)
    for step in range(40):
        stream.at(step)
    assert len(loaders) == 1


def test_damaged_images_are_errors() -> None:
    stream = FolderStream(folders(100), 50)
    with pytest.raises(FormatError, match=r"99\.png: cannot be read"):
        list(map(stream.at, range(2)))
