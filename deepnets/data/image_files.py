"""Images that are read from their files and augmented by worker processes, batch by batch.

Transforms and orders are those of Knyazev et al. (NeurIPS 2021).  Images for evaluation come in a fixed random order,
because batch norms that normalise by the statistics of the batch need batches of mixed classes.  The transforms are
torchvision's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.data.decoding import FORMATS, read_image
from deepnets.data.image_set import IMAGENET_MEAN, IMAGENET_STD
from deepnets.data.rand_augment import RandAugment
from deepnets.support import (
    EndWithParent,
    FormatError,
    MissingDependencyError,
    at_least,
    checked_integer,
    error_reason,
    import_torchvision,
)

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFolders", "evaluation_order", "torchvision_transforms"]

EVALUATION_SEED = 1111

_COLOR_JITTER = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue


class _Example(NamedTuple):
    """One image of a batch: its file, its label, and the seed of its augmentation and noise."""

    path: str
    label: int
    seed: int


@dataclass(frozen=True, eq=False)
class ImageFolders:
    """Images in folders, which are read from their files batch by batch.

    Attributes
    ----------
    name, split : str
        The set, and the part of it.
    paths : list of str
        The files, class by class.
    labels : numpy array
        `(n,) int64`, the class of every file; classes are numbered in the order of their names.
    num_classes : int
        Number of classes.
    image_size : int, default 224
        Height and width of the images in batches, in pixels.
    device : torch.device
        Device of the batches; by default the CPU.
    noise : float, default 0
        Standard deviation of Gaussian noise that is added to the pixels, on a scale from 0 to 1.
    workers : int, default 0
        Processes that read images; with 0, the current process reads them.
    mean, std : tuple of three floats
        Mean and standard deviation of the channels, on a scale from 0 to 1; by default those of ImageNet.
    color_jitter : bool, default True
        Whether augmentation changes the colours of images.
    flip : bool, default True
        Whether augmentation mirrors images at random.
    rand_augment : str, default ""
        Configuration of timm's RandAugment, which is part of the augmentation (`RandAugment`); empty for none.
    crop_ratio : float, default 0
        Without augmentation, the shorter side of an image is resized to `image_size / crop_ratio` pixels before the
        center is cropped; 0 for the published size (256 for 224 pixels).
    formats : tuple of str
        Formats of Pillow that are read; by default JPEG and PNG.
    as_viewed : bool, default False
        Whether images are read as viewers show them (`deepnets.data.decoding.read_image`).
    corruption : str, default ""
        Name of a common corruption (`deepnets.data.CORRUPTIONS`) of images that are not augmented, after they were
        resized and cropped; empty for none.
    severity : int, default 1
        Its severity, 1 to 5.

    Examples
    --------
    >>> images = ImageFolders("pets", "train", ["cat/1.jpg", "dog/1.jpg"], np.array([0, 1]), num_classes=2)
    >>> len(images), images.image_size
    (2, 224)
    """

    name: str
    split: str
    paths: list[str]
    labels: npt.NDArray[np.int64]
    num_classes: int
    image_size: int = 224
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    noise: float = 0.0
    workers: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    color_jitter: bool = True
    flip: bool = True
    rand_augment: str = ""
    crop_ratio: float = 0.0
    formats: tuple[str, ...] = FORMATS
    as_viewed: bool = False
    corruption: str = ""
    severity: int = 1

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device | str) -> ImageFolders:
        """Return the set with batches on a device.

        Examples
        --------
        >>> ImageFolders("pets", "train", [], np.array([]), num_classes=2).to("meta").device
        device(type='meta')
        """
        return replace(self, device=torch.device(device))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the images once, by default in the order of the published evaluation (`evaluation_order`).

        Parameters
        ----------
        batch_size : int
            Images in a batch.
        shuffle : bool, default False
            Whether to use a random order.
        augment : bool, default False
            Whether to crop, mirror and change the colours of images at random; otherwise they are cropped centrally.
        drop_last : bool, default False
            Whether to leave out the last batch if it is smaller than `batch_size`.
        generator : torch.Generator, optional
            Random numbers, on the CPU; by default PyTorch's global generator.  Batches do not depend on the number of
            workers.

        Yields
        ------
        images : Tensor
            `(batch_size, 3, image_size, image_size) float32`, normalised.
        labels : Tensor
            `(batch_size,) int64`.

        Raises
        ------
        ConfigError
            If `batch_size` is not a positive integer.
        FormatError
            If a file cannot be read as an image.
        """
        batch_size = checked_integer("batch_size", batch_size, at_least(1))
        return self._batches(batch_size, shuffle, augment, drop_last, generator)

    def decode(self, row: int, seed: int = 0, *, augment: bool = False) -> Tensor:
        """Read one image from its file.

        Parameters
        ----------
        row : int
            Number of the image, from 0.
        seed : int, default 0
            Seed of the augmentation and the noise.
        augment : bool, default False
            Whether to augment the image.

        Returns
        -------
        Tensor
            `(3, image_size, image_size) float32`, normalized, on the CPU.

        Raises
        ------
        FormatError
            If the file cannot be read as an image.
        """
        return self._decoder(augment)(self.paths[row], seed)

    def _batches(
        self, batch_size: int, shuffle: bool, augment: bool, drop_last: bool, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        from torch.utils.data import DataLoader

        n = len(self)
        order = torch.randperm(n, generator=generator) if shuffle else evaluation_order(n)
        if augment or self.noise:
            seeds = torch.randint(2**62, (n,), generator=generator)
        else:  # the corruption of an image is the same in every pass
            seeds = order if self.corruption else torch.zeros_like(order)
        examples = [
            _Example(self.paths[i], int(self.labels[i]), seed)
            for i, seed in zip(order.tolist(), seeds.tolist(), strict=True)
        ]
        loader: DataLoader[Any] = DataLoader(
            _ImageFiles(examples, self._decoder(augment)),
            batch_size=batch_size,
            drop_last=drop_last,
            num_workers=self.workers,
            worker_init_fn=EndWithParent(),
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # seeds workers only; keeps the global generator unchanged
        )
        for batch in loader:
            if isinstance(batch, FormatError):
                raise batch
            images, labels = batch
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _decoder(self, augment: bool) -> Callable[[str, int], Tensor]:
        corruption = (self.corruption, self.severity) if self.corruption else None
        options = (self.color_jitter, self.flip, self.rand_augment) if augment else (self.crop_ratio, corruption)
        transform = _transform(self.image_size, augment, self.noise, self.mean, self.std, options)
        return functools.partial(_decode, transform=transform, formats=self.formats, as_viewed=self.as_viewed)


def evaluation_order(n: int, seed: int = EVALUATION_SEED) -> Tensor:
    """Return the order in which the published evaluations of Knyazev et al. (NeurIPS 2021) go through images.

    It is the order of a shuffling `DataLoader` whose generator has this seed: the loader draws one number for its
    workers, then a permutation.

    Parameters
    ----------
    n : int
        Number of images.
    seed : int, default 1111
        Seed of the generator.

    Returns
    -------
    Tensor
        `(n,) int64`, a permutation.

    Examples
    --------
    >>> evaluation_order(5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return torch.randperm(n, generator=generator)


# --- transforms and files ---


def torchvision_transforms() -> Any:
    """Return the module of torchvision's transforms.

    Returns
    -------
    module
        `torchvision.transforms`.

    Raises
    ------
    MissingDependencyError
        If torchvision is not installed.
    """
    try:
        torchvision: Any = import_torchvision()
    except ImportError as error:
        raise MissingDependencyError(f"images: imagenet needs the transforms of torchvision: {error}") from error
    return torchvision.transforms


@functools.cache
def _transform(
    size: int, augment: bool, noise: float, mean: tuple[float, ...], std: tuple[float, ...], options: tuple[Any, ...]
) -> Callable[[Any], Tensor]:
    """Return the function from a Pillow image to a normalised tensor.

    The options are color_jitter, flip and rand_augment of `ImageFolders` with augmentation, and without it crop_ratio
    and the name and severity of a corruption, if there is one.
    """
    transforms = torchvision_transforms()
    if augment:
        color_jitter, flip, config = options
        view = [transforms.RandomResizedCrop(size)]
        view += [transforms.RandomHorizontalFlip()] if flip else []
        view += [transforms.ColorJitter(*_COLOR_JITTER)] if color_jitter else []
        view += [RandAugment(config)] if config else []
    else:  # 256 for 224 pixels as published; smaller images are not published
        crop_ratio, corruption = options
        usual = max(size, 256) if size >= 224 else size
        view = [transforms.Resize(int(size / crop_ratio) if crop_ratio else usual), transforms.CenterCrop(size)]
        view += [_Corrupted(*corruption)] if corruption else []
    noisy = [_Noise(noise)] if noise else []
    whole: Callable[[Any], Tensor] = transforms.Compose(
        [*view, transforms.ToTensor(), *noisy, transforms.Normalize(mean, std)]
    )
    return whole


class _Noise:
    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels + self.std * torch.randn_like(pixels)).clamp(0, 1)


class _Corrupted:
    """A corruption, with random numbers from PyTorch's global generator."""

    def __init__(self, name: str, severity: int) -> None:
        self.name, self.severity = name, severity

    def __call__(self, image: Image) -> Image:
        from PIL import Image as Pillow

        from deepnets.data.corruptions import corrupt

        pixels = np.asarray(image.convert("RGB"), np.uint8)
        return Pillow.fromarray(corrupt(pixels, self.name, self.severity, int(torch.randint(2**62, ()))))


class _ImageFiles(torch.utils.data.Dataset[Any]):
    """Decodes images by their position in the pass; errors are returned, because workers cannot raise every type."""

    def __init__(self, examples: list[_Example], decode: Callable[[str, int], Tensor]) -> None:
        self.examples, self.decode = examples, decode

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | FormatError:
        example = self.examples[index]
        try:
            return self.decode(example.path, example.seed), example.label
        except FormatError as error:
            return error


def _decode(
    path: str, seed: int, *, transform: Callable[[Any], Tensor], formats: tuple[str, ...], as_viewed: bool
) -> Tensor:
    """Decode and transform an image, with random numbers that do not depend on the process."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        image = read_image(path, formats=formats, as_viewed=as_viewed)
        try:
            return transform(image)
        except Exception as error:  # torchvision raises many types, for example for images of extreme shapes
            raise FormatError(f"{path}: cannot be transformed: {error_reason(error)}") from error


def _collate(items: list[tuple[Tensor, int] | FormatError]) -> tuple[Tensor, Tensor] | FormatError:
    for item in items:
        if isinstance(item, FormatError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)
