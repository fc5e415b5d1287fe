"""Image sets for training and evaluation: `digits`, `cifar10`, `imagenet`, and your own; and texts.

loading       `open_images`, `load_images` and the registry `IMAGE_SETS`
image_set     `ImageSet`, images in memory, and the protocol `Images` of all image sets
image_files   `ImageFolders`, image files read by worker processes
decoding      reading of image files
rand_augment  RandAugment of timm, for both
digits        scikit-learn's handwritten digits
cifar         CIFAR-10, with an optional download
imagenet      ImageNet, from folders of JPEG files
texts         `open_texts` and the registry `TEXT_SETS`
text_set      `TextSet`, a text as tokens in memory
tokenizers    bytes, or a file of the library tokenizers

Names are imported on first use; `IMAGE_SETS` and `TEXT_SETS` need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
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
    from deepnets.data.rand_augment import RandAugment as RandAugment
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
        "rand_augment": ("RandAugment",),
        "text_set": ("TextSet",),
        "texts": ("TEXT_SETS", "TextLoader", "check_text_name", "open_texts"),
        "tokenizers": ("Tokenizer", "open_tokenizer"),
    },
)
