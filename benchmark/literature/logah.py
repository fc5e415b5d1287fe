"""The tables of LoGAH (Zhou et al., arXiv 2405.16287v1), and networks that were trained here in the same form.

They are accuracies and perplexities after fine-tuning from predicted parameters.  The paper prints them; there are no
files of results.  The accuracy of predicted parameters without training is not reported.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmark.baselines import COLUMNS, TEXT_COLUMNS, Curves
from benchmark.evaluation import FAILED
from benchmark.literature.text import decimal, grid

__all__ = ["LOGAH_TABLES", "best_perplexities", "best_trainings", "logah_table", "logah_text", "read_trainings"]

_NAN = float("nan")
_LONGEST_LABEL = 28
_LONGEST_HEADER = 1000
_PAIRS = [f"{images} {net}" for images in ("CIFAR-10", "CIFAR-100", "ImageNet") for net in ("ViT-S", "ViT-B")]

_TABLES: dict[str, tuple[list[str], dict[str, tuple[float, ...]]]] = {
    "logah-vit": (
        _PAIRS,
        {
            "random": (83.93, 84.74, 58.73, 57.00, 62.15, 63.61),
            "orthogonal": (80.11, 84.24, 58.97, 57.48, 63.15, 63.86),
            "GHN-3-T, m1": (81.29, 78.18, 56.33, 56.70, 38.79, 31.89),
            "GHN-3-S, m1": (83.61, 82.57, 57.37, 59.93, _NAN, _NAN),
            "GHN-3-L, m1": (84.69, 82.84, 57.48, 56.57, _NAN, _NAN),
            "LoGAH-T, m1": (82.87, 82.87, 60.05, 56.77, 62.16, 61.68),
            "LoGAH-S, m1": (86.09, 86.35, 61.05, 62.38, 62.49, 63.29),
            "LoGAH-B, m1": (85.16, 85.39, 60.58, 60.02, 59.00, 61.22),
            "LoGAH-L, m1": (83.22, 84.40, 62.19, 63.47, 63.00, 63.70),
        },
    ),
    "logah-meta-batch": (
        ["CIFAR-100 ViT-B", "CIFAR-100 ViT-L"],
        {
            "random": (57.00, 55.62),
            "LoGAH-T, m1": (56.77, 55.07),
            "LoGAH-T, m4": (60.61, 59.88),
            "LoGAH-T, m8": (51.12, 50.39),
            "LoGAH-S, m1": (62.38, 59.90),
            "LoGAH-S, m4": (55.00, 54.62),
            "LoGAH-S, m8": (51.58, 51.61),
        },
    ),
    "logah-text": (
        ["WikiText-2 GPT-2-S", "WikiText-2 GPT-2-M", "WikiText-103 GPT-2-M", "WikiText-103 GPT-2-L"],
        {
            "random": (250.0, 350.0, 22.32, 32.41),
            "LoGAH-T, m2": (227.0, 219.0, 18.79, 27.18),
            "LoGAH-S, m2": (238.0, 284.0, 19.89, 24.08),
        },
    ),
    "logah-diversity": (
        ["trained", "GHN-3-T", "GHN-3-S", "LoGAH-T", "LoGAH-S"],
        {
            "ViT-S, CIFAR-100, 1536 x 384": (0.647, 0.191, 0.290, 0.284, 0.442),
            "ViT-B, ImageNet, 768 x 768": (0.747, 0.513, _NAN, 0.563, 0.413),
            "ViT-L, 1024 x 1024": (0.878, 0.402, _NAN, 0.410, 0.232),
            "ViT-L, 3072 x 1024": (0.842, 0.420, _NAN, 0.385, 0.329),
            "GPT-2-M, 1024 x 1024": (0.839, _NAN, _NAN, 0.420, 0.400),
            "GPT-2-M, 1024 x 4096": (0.894, _NAN, _NAN, 0.393, 0.496),
        },
    ),
}

LOGAH_TABLES: dict[str, str] = {
    "logah-vit": "LoGAH, table 2: top-1 in percent after fine-tuning (100 epochs, ImageNet 30), best learning rate",
    "logah-meta-batch": "LoGAH, table 3: top-1 in percent by networks per step in the training of the hypernetwork (m)",
    "logah-text": "LoGAH, table 4: perplexity after fine-tuning (100 epochs)",
    "logah-diversity": "LoGAH, table 5: mean absolute cosine distance of tensors of equal shape",
}
"""Titles of the tables by name."""

_NETWORKS = {
    "benchmark.training.vits:vit_s": "ViT-S",
    "benchmark.training.vits:vit_b": "ViT-B",
    "benchmark.training.vits:vit_l": "ViT-L",
    "vit_b_16": "ViT-B",
    "vit_l_16": "ViT-L",
    "vit_small_patch16_224": "ViT-S",
    "vit_base_patch16_224": "ViT-B",
    "vit_large_patch16_224": "ViT-L",
}
"""Networks of the tables by the names that `python -m benchmark finetune` writes."""

_LANGUAGE_MODELS = {"gpt2-s": "GPT-2-S", "gpt2-m": "GPT-2-M", "gpt2-l": "GPT-2-L"}
"""Networks of the split ``family:gpts-1k/published``."""

_TEXTS = {"2": "WikiText-2", "103": "WikiText-103"}

_IMAGES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "torchvision:CIFAR10": "CIFAR-10",
    "torchvision:CIFAR100": "CIFAR-100",
    "imagenet": "ImageNet",
}


def logah_table(name: str) -> pd.DataFrame:
    """Return a published table.

    Parameters
    ----------
    name
        One of `LOGAH_TABLES`.

    Returns
    -------
    float64 values, NaN where none is published, with one row per initialization ("m1": hypernetworks that were trained
    on one network per step) and one column per data set and network; in "logah-diversity", one row per network and
    shape and one column per source of parameters.

    Examples
    --------
    >>> float(logah_table("logah-vit").loc["LoGAH-S, m1", "CIFAR-10 ViT-B"])
    86.35
    """
    columns, rows = _TABLES[name]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype="float64")


def read_trainings(folder: Path | str) -> pd.DataFrame | None:
    """Return the curves of a folder that `python -m benchmark finetune` wrote; None if it has none.

    Raises
    ------
    FormatError
        If the file has another format.

    Examples
    --------
    >>> read_trainings("no/such/folder") is None
    True
    """
    if not (Path(folder) / "curves.csv").is_file():
        return None
    path = Path(folder) / "curves.csv"
    with path.open(encoding="utf-8", errors="replace") as stream:
        of_texts = stream.readline(_LONGEST_HEADER).rstrip("\r\n").split(",") == list(TEXT_COLUMNS)
    return Curves(Path(folder), TEXT_COLUMNS if of_texts else COLUMNS).table()


def best_trainings(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the best accuracies of own trainings in the form of `logah_table("logah-vit")`, in percent.

    Parameters
    ----------
    curves
        The result of `read_trainings`.

    Returns
    -------
    One row per label of initial parameters.  As in the paper, a value is the best one over learning rates: labels that
    differ only in the ending ``-lrX`` are one row.  It is the best epoch of each training.  Other networks and images
    are left out.

    Examples
    --------
    >>> rows = [["random-lr0.1", 80.0], ["random-lr0.2", 82.0]]
    >>> curves = pd.DataFrame(rows, columns=["predictor", "top1"]).assign(
    ...     network="benchmark.training.vits:vit_s", images="cifar10", status="ok")
    >>> best_trainings(curves).loc["random"].to_dict()
    {'CIFAR-10 ViT-S': 82.0}
    """
    return _best(curves, curves["images"].map(_IMAGES), curves["network"].map(_NETWORKS), "top1", "max")


def best_perplexities(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the best perplexities of own trainings in the form of `logah_table("logah-text")`.

    Parameters
    ----------
    curves
        The result of `read_trainings`.  Texts are those whose names contain wikitext-2 or wikitext-103.

    Returns
    -------
    One row per label of initial parameters, as for `best_trainings`.

    Examples
    --------
    >>> rows = [["random", 260.0], ["random", 251.0]]
    >>> curves = pd.DataFrame(rows, columns=["predictor", "perplexity"]).assign(
    ...     network="gpt2-s", images="wikitext:data/wikitext-2-raw", status="ok")
    >>> best_perplexities(curves).loc["random"].to_dict()
    {'WikiText-2 GPT-2-S': 251.0}
    """
    number = curves["images"].str.extract(r"wikitext-(2|103)\b", flags=re.IGNORECASE, expand=False)
    return _best(curves, number.map(_TEXTS), curves["network"].map(_LANGUAGE_MODELS), "perplexity", "min")


def _best(curves: pd.DataFrame, data: pd.Series, network: pd.Series, metric: str, best: str) -> pd.DataFrame:
    """Return the best values by label, and by data set and network; NaN in `data` or `network` leaves a row out."""
    label = curves["predictor"].str.replace(r"-lr[0-9.e-]+$", "", regex=True)
    chosen = curves.assign(label=label, column=data + " " + network)[curves["status"] != FAILED]
    chosen = chosen.dropna(subset=["column", metric])
    return chosen.pivot_table(metric, "label", "column", aggfunc=best, sort=False)


def logah_text(name: str, trainings: pd.DataFrame | None = None) -> str:
    """Return a published table, and own trainings below it, as text for a terminal.

    Parameters
    ----------
    name
        One of `LOGAH_TABLES`.
    trainings
        The result of `read_trainings`, shown in "logah-vit" and "logah-meta-batch"; perplexities in "logah-text".

    Examples
    --------
    >>> print(logah_text("logah-meta-batch").splitlines()[-1])
    LoGAH-S, m8            51.58            51.61
    """
    table = logah_table(name)
    of_texts = trainings is not None and "perplexity" in trainings
    if trainings is not None and name != "logah-diversity" and of_texts == (name == "logah-text"):
        best = best_perplexities(trainings) if of_texts else best_trainings(trainings)
        own = best.reindex(columns=table.columns).dropna(how="all")
        table = pd.concat([table, own.rename(lambda label: f"own: {label}"[:_LONGEST_LABEL])])
    digits = 3 if name == "logah-diversity" else 2
    rows = [[str(label), *(decimal(float(value), digits) for value in values)] for label, values in table.iterrows()]
    if name != "logah-vit":
        return grid(["", *table.columns], rows)
    pairs = [[row[0], *map(" / ".join, zip(row[1::2], row[2::2]))] for row in rows]
    return grid(["ViT-S / ViT-B", "CIFAR-10", "CIFAR-100", "ImageNet"], pairs)
