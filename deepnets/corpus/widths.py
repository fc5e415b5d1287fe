"""How wide a network is: the rules by which widths are drawn for training and set for evaluation.

The corpus stores no widths for training networks.  Each time one is loaded, its width `C` and the hidden width of its
classifier are drawn, small networks wider than large ones, so that a hypernetwork sees many shapes of every
architecture at a bounded cost (Knyazev et al., NeurIPS 2021, appendix A; Knyazev et al., ICML 2023, appendix B, for
the wider variant).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deepnets.architecture import PRIMITIVES
from deepnets.corpus.storage import CorpusFile

__all__ = ["FC_DIMS", "WIDTHS", "Width", "WidthRule", "evaluation_factor"]

WIDTHS = tuple(range(32, 129, 16))
FC_DIMS = tuple(range(64, 513, 64))

_FEW_FC_DIMS = 4


class Width(NamedTuple):
    """What is decided when a network is loaded."""

    C: int
    fc_dim: int
    imagenet_stride: int = 4


class WidthRule:
    """Draws of training widths, for all networks of a split.

    Parameters
    ----------
    file
        The split.
    image_size
        Side of the images, 32 or 224.
    wider
        GHN-3's variant: larger networks may be wide, too, and with 224-pixel images some get a stem of stride 2.
    seed
        Draw number d of network i is a function of (seed, i, d), in whatever process and order it is made.
    """

    def __init__(self, file: CorpusFile, image_size: int, wider: bool, seed: int) -> None:
        large_images = image_size > 32
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
        """`(n,) uint8`, from how many of the first `WIDTHS` each network draws."""
        simple_stem = (file.column("stem_type") == 0) & (file.column("stem_pool") == 1)
        self.free_stride = (
            simple_stem & pooled & ~dense & (millions <= 0.2) & (cells <= 8)
            if wider and large_images
            else np.zeros(len(cells), np.bool_)
        )
        """`(n,) bool`, whether each network draws the stride of its stem."""
        self.seed = seed

    def draw(self, index: int, number: int) -> Width:
        """Draw number `number` of network `index`."""
        words = np.random.Philox(key=self.seed, counter=[0, index, number, 0]).random_raw(4)
        fc, c, again, stride = ((int(word) >> 32) / 2**32 for word in words)
        choices = int(self.num_choices[index])
        C = WIDTHS[int(c * choices)]
        fc_dim = FC_DIMS[int(fc * _FEW_FC_DIMS)]
        if choices == len(WIDTHS) and C <= 64:  # small and narrow: the classifier may be wide
            fc_dim = FC_DIMS[int(again * len(FC_DIMS))]
        return Width(C, fc_dim, 2 if self.free_stride[index] and stride < 0.5 else 4)


def evaluation_factor(split: str, image_size: int) -> int:
    """By how much the stored width of an evaluation network is multiplied: `wide` is `test` made wider."""
    if split != "wide":
        return 1
    return 2 if image_size > 32 else 4
