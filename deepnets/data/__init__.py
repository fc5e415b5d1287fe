"""Image sets for training and evaluation: `digits`, `cifar10` and `imagenet`.

loading    `load_images` and `open_images`, image sets by name
image_set  `ImageSet`, images in memory, and the protocol `Images`
digits     scikit-learn's handwritten digits
cifar      CIFAR-10, with an optional download
imagenet   `ImageFolders`, JPEG files read by worker processes
"""

from __future__ import annotations

from deepnets.data.image_set import SPLITS, Images, ImageSet
from deepnets.data.imagenet import ImageFolders
from deepnets.data.loading import IMAGE_SETS, load_images, open_images

__all__ = [
    "IMAGE_SETS",
    "SPLITS",
    "ImageFolders",
    "ImageSet",
    "Images",
    "load_images",
    "open_images",
]
