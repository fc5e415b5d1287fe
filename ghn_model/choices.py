"""Names that options and configurations accept, in one module that imports nothing, so that `--help` is fast."""

from __future__ import annotations

__all__ = [
    "DEFAULT_METRICS",
    "FORMATS",
    "INITS",
    "NETWORK_NORMS",
    "NORMALIZATIONS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRESETS",
    "RECIPES",
    "SCHEDULES",
    "WINDOWS",
]

PRESETS = (
    *("mlp", "ghn1", "ghn2"),
    *("ghn3-t", "ghn3-s", "ghn3-l", "ghn3-xl"),
    *("logah-t", "logah-s", "logah-b", "logah-l"),
)
"""The published hypernetworks (Knyazev et al., NeurIPS 2021, table 2; ICML 2023, table 1; LoGAH: Zhou et al., arXiv
2405.16287, table 1)."""

WINDOWS = ("corner", "centre")
INITS = ("published", "small")
NORMALIZATIONS = ("fan_in", "fan_out", "fan_in_residual", "std")

DEFAULT_METRICS = ("top1", "top5")
"""Names of the metrics that are computed for every task whose outputs are logits."""

OPTIMIZERS = ("adam", "adamw")
NETWORK_NORMS = ("none", "clip", "normalise")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")

RECIPES = ("published", "cpu")
"""Kinds of recipes: as published, or adapted to hours on a CPU."""

SCHEDULES = ("constant", "steps", "cosine", "wsd")
"""Kinds of learning rate schedules."""

FORMATS = ("deepnets1m", "ppuda", "ghn3")
"""Formats in which a hypernetwork can be saved: ours first, then those of the originals."""
