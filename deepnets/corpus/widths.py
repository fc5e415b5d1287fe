"""Rules for the widths of networks.

The corpus stores no widths of training networks.  Each time a training network is loaded, its width `C` and the width
of its hidden classifier layers are drawn.  Small networks can become wider than large ones, so that a hypernetwork sees
many shapes of every architecture at a limited cost (Knyazev et al., NeurIPS 2021, appendix A; for the wider variant
Knyazev et al., ICML 2023, appendix B).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deepnets.architecture import PRIMITIVES, has_cifar_stem
from deepnets.corpus.storage import CorpusFile

__all__ = ["FC_DIMS", "WIDTHS", "Width", "WidthRule", "evaluation_factor"]

WIDTHS = tuple(range(32, 129, 16))
"""Widths of training networks."""

FC_DIMS = tuple(range(64, 513, 64))
"""Widths of the hidden classifier layers of training networks."""

_FEW_FC_DIMS = 4


class Width(NamedTuple):
    """Values that are drawn when a training network is loaded.

    Attributes
    ----------
    C
        Initial number of channels.
    fc_dim
        Width of hidden classifier layers.
    imagenet_stride
        Stride of the stem for 224-pixel images, 2 or 4.

    Examples
    --------
    >>> Width(C=48, fc_dim=128)
    Width(C=48, fc_dim=128, imagenet_stride=4)
    """

    C: int
    fc_dim: int
    imagenet_stride: int = 4


class WidthRule:
    """Draw the widths of the networks of a split.

    Parameters
    ----------
    file
        The corpus file of the split.
    image_size
        Height and width of the images, 16 to 512.
    wider
        Whether to use the variant of GHN-3, in which larger networks can be wide, too, and some networks for 224-pixel
        images have a stem of stride 2.
    seed
        Random seed.

    Attributes
    ----------
    num_choices
        `(n,) uint8`.  Network i draws from the first `num_choices[i]` of `WIDTHS`.
    free_stride
        `(n,) bool`, whether the stride of the stem is drawn.
    seed
        The argument.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.corpus import compute_statistics
    >>> class Columns:
    ...     architectures = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])
    ...     statistics, _ = compute_statistics(architectures)
    ...     def column(self, name):
    ...         return (self.statistics if name in self.statistics.dtype.names else self.architectures)[name]
    >>> rule = WidthRule(Columns(), image_size=32, wider=False, seed=0)
    >>> rule.draw(0, 1) == rule.draw(0, 1)
    True
    """

    def __init__(self, file: CorpusFile, image_size: int, wider: bool, seed: int) -> None:
        large_images = not has_cifar_stem(image_size)
        counts = file.column("num_params_imagenet" if large_images and not wider else "num_params")
        millions = counts / 1e6
        cells = file.column("n_cells")
        pooled = file.column("glob_avg") == 1
        ops = file.column("ops")
        large_convolutions = np.isin(ops, [PRIMITIVES.index("conv_5x5"), PRIMITIVES.index("conv_7x7")])
        dense = large_convolutions.any(axis=(1, 2))
        some, more = (4, 5) if wider else (2, 3)
        self.num_choices = np.select(
            [
                (millions > (2.0 if wider else 0.8)) | ~pooled | dense | (cells > (14 if wider else 12)),
                (millions > 0.4) | (cells > 10),
                (millions > 0.2) | (cells > 8),
            ],
            [1, some, more],
            len(WIDTHS),
        ).astype(np.uint8)
        simple_stem = (file.column("stem_type") == 0) & (file.column("stem_pool") == 1)
        self.free_stride = (
            simple_stem & pooled & ~dense & (millions <= 0.2) & (cells <= 8)
            if wider and large_images
            else np.zeros(len(cells), np.bool_)
        )
        self.seed = seed

    def draw(self, index: int, number: int) -> Width:
        """Return one draw, which is a function of (seed, index, number).

        Parameters
        ----------
        index
            Position of the network in the split.
        number
            Number of the draw, from 0 on.

        Returns
        -------
        Width
        """
        words = np.random.Philox(key=self.seed, counter=[0, index, number, 0]).random_raw(4)
        fc, c, again, stride = ((int(word) >> 32) / 2**32 for word in words)
        choices = int(self.num_choices[index])
        C = WIDTHS[int(c * choices)]
        fc_dim = FC_DIMS[int(fc * _FEW_FC_DIMS)]
        if choices == len(WIDTHS) and C <= 64:  # small, narrow networks can have a wide classifier
            fc_dim = FC_DIMS[int(again * len(FC_DIMS))]
        return Width(C, fc_dim, 2 if self.free_stride[index] and stride < 0.5 else 4)


def evaluation_factor(split: str, image_size: int) -> int:
    """Return the factor by which the stored width of an evaluation network is multiplied.

    Parameters
    ----------
    split
        Name of the split.
    image_size
        Height and width of the images, 16 to 512.

    Returns
    -------
    int
        4 or 2 for `wide`, which stores the widths of `test`, and 1 for other splits.

    Examples
    --------
    >>> evaluation_factor("wide", 32), evaluation_factor("test", 32)
    (4, 1)
    """
    if split != "wide":
        return 1
    return 4 if has_cifar_stem(image_size) else 2
