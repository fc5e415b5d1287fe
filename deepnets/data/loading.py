"""`open_images` and `load_images`: image sets by name, and the registry to which you add your own.

An image set is added by a loader, a function that returns a part of it (see `ImageLoader`).  With the following in
`shapes.py`, every function and option that takes a name of an image set takes `"shapes:load"`:

    import torch
    from deepnets.data import ImageSet

    def load(split, *, root=None, download=False, device="cpu", image_size=None, noise=0.0):
        images = torch.randint(256, (100, 3, 32, 32), dtype=torch.uint8)
        labels = torch.arange(100) % 5
        shapes = ImageSet("shapes:load", split, images, labels, num_classes=5, mean=(0.5,) * 3, std=(0.25,) * 3)
        return shapes.with_options(device=device, image_size=image_size, noise=noise)

`register_image_set("shapes", load)` gives it a short name in the current process.  Worker processes do not know that
name, so the command lines and parallel evaluations need `"shapes:load"`.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from deepnets.data.names import parse_name
from deepnets.data.sources import open_source
from deepnets.support import (
    IMAGE_SPLITS,
    ConfigError,
    Registry,
    at_least,
    checked_integer,
    naming_extras,
)

if TYPE_CHECKING:
    import torch

    from deepnets.data.image_set import Images, ImageSet
    from deepnets.data.statistics import ImageStatistics

__all__ = [
    "IMAGE_SETS",
    "ImageLoader",
    "ImageSetInfo",
    "image_set_info",
    "load_images",
    "open_images",
    "register_image_set",
]


class ImageLoader(Protocol):
    """A function that loads one part of an image set."""

    def __call__(
        self,
        split: str,
        *,
        root: Path | str | None,
        download: bool,
        device: torch.device | str,
        image_size: int | None,
        noise: float,
        **options: Any,
    ) -> Images:
        """Load a part.

        Parameters
        ----------
        split : str
            The part, one of `deepnets.support.IMAGE_SPLITS`.
        root : Path or str, optional
            Folder that holds the files; `None` if the user named none.
        download : bool
            Whether missing files may be downloaded into `root`.
        device : torch.device or str
            Device of the batches.
        image_size : int, optional
            Height and width of the images in batches, in pixels; `None` for the usual size of the set.
        noise : float
            Standard deviation of Gaussian noise that is added to the pixels, on a scale from 0 to 1.
        **options
            `workers`, the number of processes that read files, is passed only if the user gave it and the function
            has a parameter for it.

        Returns
        -------
        Images
            An object with `name`, `split`, `num_classes`, `image_size`, `device`, `len()` and `batches(...)`.  Training
            needs an `ImageSet` or `ImageFolders`; `open_images(images.name, ...)` should open the same set again.

        Raises
        ------
        MissingDataError
            If files are missing; the message says how to get them.
        FormatError, IntegrityError
            If files have the wrong format, or are damaged.
        """


IMAGE_SETS: Registry[ImageLoader] = Registry(
    "images",
    {
        "digits": "deepnets.data.digits:load_digits",
        "cifar10": "deepnets.data.cifar:load_cifar10",
        "imagenet": "deepnets.data.imagenet:load_imagenet",
    },
)
"""Loaders of image sets, by name; iterate over it to list the names."""

_BUILT_IN = frozenset(IMAGE_SETS)


class ImageSetInfo(NamedTuple):
    """What reports and cards state about an image set without loading it.

    Attributes
    ----------
    title : str
        Name in text.
    num_classes : int, optional
        Number of classes; `None` if it is not known.
    image_size : int, optional
        Usual height and width in pixels; `None` if it is not known.
    """

    title: str
    num_classes: int | None = None
    image_size: int | None = None


_INFO = {
    "digits": ImageSetInfo("digits", 10, 32),
    "cifar10": ImageSetInfo("CIFAR-10", 10, 32),
    "imagenet": ImageSetInfo("ImageNet", 1000, 224),
}


def image_set_info(name: str) -> ImageSetInfo:
    """Return what is known about an image set without loading it.

    Parameters
    ----------
    name : str
        Any name; nothing but the name itself is known of a set that was not registered.

    Returns
    -------
    ImageSetInfo

    Examples
    --------
    >>> image_set_info("imagenet")
    ImageSetInfo(title='ImageNet', num_classes=1000, image_size=224)
    >>> image_set_info("shapes:load").title
    'shapes:load'
    """
    return _INFO.get(name, ImageSetInfo(name))


def register_image_set(name: str, loader: ImageLoader, info: ImageSetInfo | None = None) -> None:
    """Make an image set known under a name, in this process.

    Parameters
    ----------
    name : str
        The name, without a colon.
    loader : ImageLoader
        The function that loads a part of the set.
    info : ImageSetInfo, optional
        Title, number of classes and image size for reports and cards.  By default, reports use the name, and charts do
        not mark the accuracy of random guesses.

    Raises
    ------
    ConfigError
        If another image set has the name.

    Examples
    --------
    >>> from dataclasses import replace
    >>> def load_inverted(split, **options):
    ...     digits = load_images("digits", split, **options)
    ...     return replace(digits, name="inverted", images=255 - digits.images)
    >>> register_image_set("inverted", load_inverted)
    >>> len(open_images("inverted", "test"))
    299
    >>> register_image_set("digits", load_inverted)
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: images: 'digits' is already registered; choose another name
    """
    IMAGE_SETS.register(name, loader)
    _INFO[name] = info or ImageSetInfo(name)


@naming_extras()
def open_images(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    image_size: int | None = None,
    workers: int | None = None,
    statistics: ImageStatistics | None = None,
    corruption: str | None = None,
    corruption_root: Path | str | None = None,
) -> Images:
    """Open one part of an image set.

    Parameters
    ----------
    name : str
        A name in `IMAGE_SETS`; `"folder:PATH"` for image files in one folder per class (`deepnets.data.folders`);
        `"torchvision:NAME"` for a data set of torchvision (`deepnets.data.torchvision_sets`), both with options as in
        `"folder:pets?image_size=64&seed=1"` (`deepnets.data.names`); or `"module:attribute"` for a loader of your own.
        Grey images are repeated for three channels.  The built-in sets:

        ========  =================================  ==========  =======  ==========  ===========
        name      images                             files       classes  image size  held
        ========  =================================  ==========  =======  ==========  ===========
        digits    1,797 handwritten digits           none        10       32          in memory
        cifar10   60,000 photographs                 170 MB      10       32          in memory
        imagenet  1.3 million photographs            150 GB      1,000    224         in folders
        ========  =================================  ==========  =======  ==========  ===========
    split : {"train", "val", "test", "trainval"}
        The part; `trainval` is `train` and `val` together.
    root : Path or str, optional
        Folder of the files.  For `cifar10`, the folder that holds `cifar-10-batches-py` or
        `cifar-10-python.tar.gz`; for `imagenet`, the folder that holds the folders `train` and `val`; for
        `torchvision:NAME`, that of torchvision's files; for `folder:PATH`, what a relative path is relative to.
    download : bool, default False
        Whether to download missing files of `cifar10` or `torchvision:NAME` into `root`.
    device : torch.device or str, default "cpu"
        Device of the batches.
    noise : float, default 0
        Standard deviation of Gaussian noise that is added to the pixels, on a scale from 0 to 1.  The published
        robustness tests use 0.08 for CIFAR-10 and 0.18 for ImageNet.
    image_size : int, optional
        Height and width of the images in batches, in pixels; by default that of the table.  Images of `cifar10` at
        another size are normalised with the constants of ImageNet, which networks of that size expect.
    workers : int, optional
        Processes that read the files of `imagenet` and of large folders; by default one per core, at most 8.  Sets in
        memory need none.
    statistics : ImageStatistics, optional
        For `folder:` and `torchvision:`, statistics that were stored beside a run (`deepnets.data.run_statistics`); by
        default they are computed from the training images.
    corruption : str, optional
        A common corruption with all severities, such as `"fog"`, or with one, such as `"fog:3"`
        (`deepnets.data.CORRUPTIONS`).
    corruption_root : Path or str, optional
        Folder of corrupted images such as CIFAR-10-C, which are read instead of computed.

    Returns
    -------
    Images
        An `ImageSet` if the images are in memory, `ImageFolders` if they are read from files when needed;
        `CorruptedImages` with `corruption`.

    Raises
    ------
    ConfigError
        If the name or the split is unknown, or another argument is not valid.
    MissingDataError
        If files are missing; the message says how to get them.
    MissingDependencyError
        If torchvision is needed and not installed.
    FormatError, IntegrityError
        If a file has the wrong format, or is damaged.

    Examples
    --------
    >>> digits = open_images("digits", "test")
    >>> images, labels = next(iter(digits.batches(64)))
    >>> images.shape, labels.shape
    (torch.Size([64, 3, 32, 32]), torch.Size([64]))
    """
    parse_name(name) or IMAGE_SETS.check(name)
    if split not in IMAGE_SPLITS:
        raise ConfigError(f"split of the images: unknown {split!r}; use one of {', '.join(IMAGE_SPLITS)}")
    if not 0 <= noise < float("inf"):
        raise ConfigError(f"noise: expected a standard deviation, 0 or more; got {noise!r}")
    if image_size is not None:
        image_size = checked_integer("image_size", image_size, at_least(1))
    if workers is not None:
        workers = checked_integer("workers", workers, at_least(0))
    if corruption_root is not None and corruption is None:
        raise ConfigError("corruption_root: needs a corruption")
    if corruption is not None and noise:
        raise ConfigError("noise: cannot be combined with a corruption; gaussian_noise is one of them")
    images: Images
    if source := open_source(name, root=root, image_size=image_size, download=download):
        images = source.open(split, device=device, noise=float(noise), statistics=statistics, workers=workers)
    else:
        loader = IMAGE_SETS[name]
        options = {"workers": workers} if workers is not None and _takes_workers(loader) else {}
        images = loader(
            split, root=root, download=download, device=device, image_size=image_size, noise=float(noise), **options
        )
        if name not in _BUILT_IN:
            images = _checked(images, name, split)
    if corruption is None:
        return images
    from deepnets.data.corrupted import corrupted_images

    return corrupted_images(images, corruption, corruption_root)


def _takes_workers(loader: ImageLoader) -> bool:
    parameters = inspect.signature(loader).parameters.values()
    return any(each.name == "workers" or each.kind is each.VAR_KEYWORD for each in parameters)


def _checked(images: Any, name: str, split: str) -> Images:
    """Return what a loader of a user has returned, with grey images repeated for three channels."""
    from deepnets.data.image_set import ImageSet

    where = f"images: {name} ({split})"
    needed = ("name", "split", "num_classes", "image_size", "device", "batches", "__len__")
    if lacking := [each for each in needed if not hasattr(images, each)]:
        raise ConfigError(f"{where}: the loader returned a {type(images).__name__}, which has no {lacking[0]}")
    if images.num_classes < 2:
        raise ConfigError(f"{where}: has {images.num_classes} classes; two or more are needed")
    if not len(images):
        raise ConfigError(f"{where}: has no images")
    if not isinstance(images, ImageSet):
        return images  # type: ignore[no-any-return]
    pixels, labels = images.images, images.labels
    shape = tuple(pixels.shape)
    if str(pixels.dtype) != "torch.uint8" or len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3]:
        raise ConfigError(
            f"{where}: expected images of type uint8 and shape (n, 1 or 3, side, side), got {pixels.dtype} of {shape}"
        )
    if str(labels.dtype) != "torch.int64" or tuple(labels.shape) != shape[:1]:
        raise ConfigError(
            f"{where}: expected labels of type int64 and shape {shape[:1]}, got {labels.dtype} of {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= images.num_classes:
        raise ConfigError(
            f"{where}: has labels from {int(labels.min())} to {int(labels.max())}; expected 0 to "
            f"{images.num_classes - 1}"
        )
    return replace(images, images=pixels.expand(-1, 3, -1, -1).contiguous()) if shape[1] == 1 else images


@naming_extras()
def load_images(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    image_size: int | None = None,
) -> ImageSet:
    """Load one part of an image set into memory.

    Parameters
    ----------
    name, split, root, download, device, noise, image_size
        As for `open_images`; the image set must be one that is held in memory.

    Returns
    -------
    ImageSet
        The images and labels as tensors.

    Raises
    ------
    ConfigError, MissingDataError, MissingDependencyError, FormatError, IntegrityError
        As for `open_images`; `ConfigError` also if the set is read from folders.

    Examples
    --------
    >>> digits = load_images("digits", "test")
    >>> digits.images.shape, digits.images.dtype, digits.num_classes
    (torch.Size([299, 3, 32, 32]), torch.uint8, 10)
    """
    from deepnets.data.image_set import ImageSet

    images = open_images(name, split, root=root, download=download, device=device, noise=noise, image_size=image_size)
    if not isinstance(images, ImageSet):
        raise ConfigError(f"images: {name} does not fit into memory; use open_images")
    return images
