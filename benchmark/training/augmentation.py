"""Changes of training images that a recipe asks for: cutout, mixup and CutMix of batches, and options of image sets."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmark.training.recipe import SGDRecipe
from deepnets.data import ImageFolders, Images, ImageSet
from deepnets.support import ConfigError, import_timm, seeded_globals

__all__ = ["Mixing", "cutout", "images_for"]


def images_for(images: Images, recipe: SGDRecipe) -> Images:
    """Return an image set with the augmentation and the evaluation size of a recipe.

    Parameters
    ----------
    images
        An image set in memory or in folders, or one of the user.
    recipe
        Its `rand_augment`, `color_jitter` and `crop_ratio` are used; the last two concern images in folders only.

    Raises
    ------
    ConfigError
        If the recipe has RandAugment, and the image set is one of the user.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> images_for(load_images("digits"), SGDRecipe(rand_augment="rand-m6")).rand_augment
    'rand-m6'
    """
    if isinstance(images, ImageFolders):
        jitter = images.color_jitter and recipe.color_jitter
        images = replace(images, color_jitter=jitter, crop_ratio=recipe.crop_ratio or images.crop_ratio)
    if isinstance(images, ImageFolders | ImageSet):
        return replace(images, rand_augment=recipe.rand_augment or images.rand_augment)
    if recipe.rand_augment:
        raise ConfigError(f"rand_augment: expected an ImageSet or ImageFolders, got {type(images).__name__}")
    return images


def cutout(images: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Set a square at a random place of every image to 0 (DeVries and Taylor, 2017).

    Parameters
    ----------
    images
        Normalized images, ``(B, 3, H, W)``; 0 is their mean.
    length
        Side of the square in pixels.  Its center is uniformly distributed, and parts outside of the image are cut off.
    generator
        Random numbers, on the CPU.

    Returns
    -------
    A new tensor.

    Examples
    --------
    >>> cut = cutout(torch.ones(1, 3, 8, 8), 4, torch.Generator().manual_seed(0))
    >>> bool((cut == 0).any()), cut.shape
    (True, torch.Size([1, 3, 8, 8]))
    """
    inside = []
    for size in images.shape[-2:]:
        center = torch.randint(size, (len(images), 1), generator=generator)
        place = torch.arange(size)
        first = center - length // 2
        inside.append((place >= first) & (place < first + length))
    rows, columns = (part.to(images.device) for part in inside)
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


class Mixing:
    """Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of timm, for whole batches.

    Parameters
    ----------
    recipe
        Its `mixup`, `cutmix` and `label_smoothing` are used.
    num_classes
        Number of classes.

    Raises
    ------
    MissingDependencyError
        If timm is not installed.
    """

    def __init__(self, recipe: SGDRecipe, num_classes: int) -> None:
        self._mix = import_timm("timm.data", purpose="mixup, cutmix").Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            label_smoothing=recipe.label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix every image of a batch with another one of the batch.

        Parameters
        ----------
        images, labels
            A batch of an even size, ``(B, 3, H, W)`` and ``(B,) int64``.
        generator
            Random numbers, on the CPU.

        Returns
        -------
        The images, and the probabilities of the classes, ``(B, C)``, after label smoothing.
        """
        with seeded_globals(int(torch.randint(2**32, (), generator=generator))):
            mixed, targets = self._mix(images.clone(), labels)  # it works in place
        return mixed, targets
