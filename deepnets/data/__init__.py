"""Image sets for training and evaluation: `digits`, `cifar10`, `imagenet`, and your own; and texts.

loading              `open_images`, `load_images` and the registry `IMAGE_SETS`
image_set            `ImageSet`, images in memory, and the protocol `Images` of all image sets
image_files          `ImageFolders`, image files read by worker processes
decoding             reading of image files
rand_augment         RandAugment of timm, for both
digits               scikit-learn's handwritten digits
cifar                CIFAR-10, with an optional download
imagenet             ImageNet, from folders of JPEG files
names                names with arguments: `folder:PATH?option=value`, `torchvision:NAME?option=value`
sources              image sets of these names, and their statistics
folders              `folder:PATH`, image files in one folder per class
torchvision_sets     `torchvision:NAME`, data sets of torchvision
parts                what both share: division into parts, sizes of images
statistics           mean and standard deviation of training images, stored beside a run
corruptions          the 15 common corruptions of images
corruption_constants their published constants
corrupted            corrupted image sets, computed or read from a folder such as CIFAR-10-C
texts                `open_texts` and the registry `TEXT_SETS`
text_set             `TextSet`, a text as tokens in memory
tokenizers           bytes, or a file of the library tokenizers

Names are imported on first use; `IMAGE_SETS` and `TEXT_SETS` need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.data.corrupted import CorruptedImages as CorruptedImages
    from deepnets.data.corrupted import Corruption as Corruption
    from deepnets.data.corrupted import corrupted_images as corrupted_images
    from deepnets.data.corruptions import CORRUPTIONS as CORRUPTIONS
    from deepnets.data.corruptions import SEVERITIES as SEVERITIES
    from deepnets.data.corruptions import corrupt as corrupt
    from deepnets.data.image_files import ImageFolders as ImageFolders
    from deepnets.data.image_set import Images as Images
    from deepnets.data.image_set import ImageSet as ImageSet
    from deepnets.data.loading import IMAGE_SETS as IMAGE_SETS
    from deepnets.data.loading import ImageLoader as ImageLoader
    from deepnets.data.loading import ImageSetInfo as ImageSetInfo
    from deepnets.data.loading import image_set_info as image_set_info
    from deepnets.data.loading import load_images as load_images
    from deepnets.data.loading import open_images as open_images
    from deepnets.data.loading import register_image_set as register_image_set
    from deepnets.data.names import parse_name as parse_name
    from deepnets.data.rand_augment import RandAugment as RandAugment
    from deepnets.data.sources import open_source as open_source
    from deepnets.data.sources import run_statistics as run_statistics
    from deepnets.data.statistics import ImageStatistics as ImageStatistics
    from deepnets.data.statistics import read_statistics as read_statistics
    from deepnets.data.statistics import store_statistics as store_statistics
    from deepnets.data.text_set import TextSet as TextSet
    from deepnets.data.texts import TEXT_SETS as TEXT_SETS
    from deepnets.data.texts import TextLoader as TextLoader
    from deepnets.data.texts import check_text_name as check_text_name
    from deepnets.data.texts import open_texts as open_texts
    from deepnets.data.tokenizers import Tokenizer as Tokenizer
    from deepnets.data.tokenizers import open_tokenizer as open_tokenizer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "corrupted": ("Corruption", "CorruptedImages", "corrupted_images"),
        "corruptions": ("CORRUPTIONS", "SEVERITIES", "corrupt"),
        "image_files": ("ImageFolders",),
        "image_set": ("ImageSet", "Images"),
        "loading": (
            "IMAGE_SETS",
            "ImageLoader",
            "ImageSetInfo",
            "image_set_info",
            "load_images",
            "open_images",
            "register_image_set",
        ),
        "names": ("parse_name",),
        "rand_augment": ("RandAugment",),
        "sources": ("open_source", "run_statistics"),
        "statistics": ("ImageStatistics", "read_statistics", "store_statistics"),
        "text_set": ("TextSet",),
        "texts": ("TEXT_SETS", "TextLoader", "check_text_name", "open_texts"),
        "tokenizers": ("Tokenizer", "open_tokenizer"),
    },
)
