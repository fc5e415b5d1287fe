"""Names of the splits of networks and of images, and the file names of the corpus.

A *network split* is a part of DeepNets-1M, an *image split* a part of an image set.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["EVALUATION_SPLITS", "IMAGE_SPLITS", "NETWORK_SPLITS", "STORED_SPLITS", "corpus_path"]

EVALUATION_SPLITS = ("val", "test", "deep", "dense", "bnfree")
"""Splits for evaluation with networks of their own (`wide` is made of the networks of `test`)."""

STORED_SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree")
"""Splits that are stored in a corpus file."""

NETWORK_SPLITS = (*STORED_SPLITS, "predefined")
"""Splits that `deepnets.DeepNets1M` can load; `predefined` needs no file."""

IMAGE_SPLITS = ("train", "val", "test", "trainval")
"""Parts of an image set; `trainval` is `train` followed by `val`."""


def corpus_path(folder: Path | str, split: str) -> Path:
    """Return the path of the corpus file of a split.

    Parameters
    ----------
    folder
        The corpus folder.
    split
        One of `STORED_SPLITS`.

    Returns
    -------
    pathlib.Path
        The file need not exist.

    Examples
    --------
    >>> corpus_path("data", "test").as_posix()
    'data/deepnets1m_test.h5'
    """
    return Path(folder) / f"deepnets1m_{split}.h5"
