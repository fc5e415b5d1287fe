"""The built-in families: narrow ResNets and GPTs, and the training sets of LoGAH (Zhou et al., 2024).

==============  ======================================================================  ==========  =================
name            networks                                                                train       other splits
==============  ======================================================================  ==========  =================
`resnet-widths` ResNets, four stages of 1 to 6 blocks, widths 16 to 32                  10,000      val, test, wide,
                                                                                                    deep
`vits-1k`       ViTs-1K: vision transformers, 3 to 9 layers, widths 128 to 512          1,000       original, val,
                                                                                                    test, published
`gpts-1k`       GPTs-1K: GPT-2s, 3 to 9 layers, widths 72 to 256                        1,000       original, val,
                                                                                                    test, published
`llamas-1k`     Llamas, 3 to 9 layers, widths 32 to 640                                 1,000       val, test
`gpt2-widths`   GPT-2s for 256 tokens, 1 to 4 layers, widths 16 to 64                   10,000      val, test, wide
==============  ======================================================================  ==========  =================

`train` of the sets of LoGAH is drawn by their rule.  `original` holds the 1,000 configurations of the release itself,
in its order.  The originals have no networks for validation and testing.  Here, `val` and `test` have widths between
those of `train` (for Llamas, configurations that `train` does not have), and `published` holds the networks of the
tables of the paper: ViT-S, ViT-B and ViT-L; GPT-2 small, medium and large, untied.

Rules that the code of LoGAH leaves open for Llamas: head sizes are multiples of 8, and each of the numbers of heads of
keys and values that are listed twice counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from deepnets.families.draws import Draws
from deepnets.families.family import Family, FamilySplit

__all__ = ["GPT2_WIDTHS", "GPTS_1K", "LLAMAS_1K", "RESNET_WIDTHS", "VITS_1K"]

T = TypeVar("T")

_WIDTH_16_32 = {"from": 16, "to": 32}

RESNET_WIDTHS = Family(
    "resnet-widths",
    "resnet",
    {
        "depths": {"repeat": 4, "of": {"from": 1, "to": 6}},
        "widths": {"repeat": 4, "of": _WIDTH_16_32},
    },
    sizes=("widths",),
    splits={
        "train": FamilySplit(10_000, (0.2, 1.0)),
        "val": FamilySplit(100, (0.0, 0.1), distinct=True),
        "test": FamilySplit(100, (0.1, 0.2), distinct=True),
        "wide": FamilySplit(100, rule={"widths": {"repeat": 4, "of": {"from": 40, "to": 64}}}, distinct=True),
        "deep": FamilySplit(100, rule={"depths": {"repeat": 4, "of": {"from": 7, "to": 10}}}, distinct=True),
    },
)


def vit_rule(draws: Draws) -> dict[str, Any]:
    """Draw a network of ViTs-1K.

    Examples
    --------
    >>> from deepnets.families.draws import RandomDraws
    >>> sorted(vit_rule(RandomDraws(0, "train", 0)))
    ['heads', 'layers', 'patch_size', 'width']
    """
    layers = draws.choice(range(3, 10))
    low, high = (128, 256) if layers > 5 else (256, 384) if layers > 3 else (384, 512)
    return _vit(draws, layers, draws.choice(range(low, high + 1, 32)))


def vit_between_rule(draws: Draws) -> dict[str, Any]:
    """Draw a vision transformer whose width lies in the middle between two widths of ViTs-1K.

    Examples
    --------
    >>> from deepnets.families.draws import RandomDraws
    >>> vit_between_rule(RandomDraws(0, "test", 0))["width"] % 32
    16
    """
    layers = draws.choice(range(3, 10))
    low, high = (144, 240) if layers > 5 else (272, 368) if layers > 3 else (400, 496)
    return _vit(draws, layers, draws.choice(range(low, high + 1, 32)))


def _vit(draws: Draws, layers: int, width: int) -> dict[str, Any]:
    if width % 12 == 0:
        choices = [3, 6, 12]
    elif width % 6 == 0:
        choices = [3, 6]
    else:
        choices = [3] if width % 3 == 0 else [4, 8]
    heads = draws.choice(choices)
    return {"layers": layers, "width": width, "heads": heads, "patch_size": draws.choice([2, 4])}


def gpt_rule(draws: Draws) -> dict[str, Any]:
    """Draw a network of GPTs-1K.

    Examples
    --------
    >>> from deepnets.families.draws import RandomDraws
    >>> gpt_rule(RandomDraws(0, "train", 0))["heads"]
    8
    """
    layers = draws.choice(range(3, 10))
    low, high = (72, 176) if layers > 5 else (128, 176) if layers > 3 else (176, 256)
    return {"layers": layers, "width": draws.choice(range(low, high + 1, 8)), "heads": draws.choice([8])}


def gpt_between_rule(draws: Draws) -> dict[str, Any]:
    """Draw a GPT-2 whose width lies in the middle between two widths of GPTs-1K, with 4 heads, as 8 do not divide it.

    Examples
    --------
    >>> from deepnets.families.draws import RandomDraws
    >>> gpt_between_rule(RandomDraws(0, "test", 0))["width"] % 8
    4
    """
    layers = draws.choice(range(3, 10))
    low, high = (76, 172) if layers > 5 else (132, 172) if layers > 3 else (180, 252)
    return {"layers": layers, "width": draws.choice(range(low, high + 1, 8)), "heads": 4}


def llama_rule(draws: Draws) -> dict[str, Any]:
    """Draw a small Llama by the rule of LoGAH's code.

    Examples
    --------
    >>> from deepnets.families.draws import RandomDraws
    >>> config = llama_rule(RandomDraws(0, "train", 0))
    >>> config["width"] % config["heads"], config["heads"] % config["kv_heads"]
    (0, 0)
    """
    layers = draws.choice(range(3, 10))
    heads = draws.choice([6, 8] if 6 <= layers <= 7 else [4, 8, 10])
    size = draws.choice(range(8, 33, 8) if layers > 7 else range(16, 65, 8))
    ratio = draws.choice([3.5, 4.0])
    kv_heads = draws.choice(sorted({1, 2, heads // 2, heads}))
    return {"layers": layers, "width": heads * size, "heads": heads, "kv_heads": kv_heads, "mlp_ratio": ratio}


class _ReleaseDraws:
    """The draws of the release: the legacy generator of NumPy with seed 1."""

    def __init__(self) -> None:
        self._state = np.random.RandomState(1)  # its stream is frozen

    def choice(self, values: Sequence[T]) -> T:
        return values[self._state.randint(len(values))]

    def integer(self, low: int, high: int, step: int = 1) -> int:
        return self.choice(range(low, high + 1, step))


def original_vits() -> list[dict[str, Any]]:
    """Return the 1,000 configurations of ViTs-1K, in the order of the release.

    Examples
    --------
    >>> original_vits()[0]
    {'layers': 8, 'width': 224, 'heads': 4, 'patch_size': 2}
    """
    draws = _ReleaseDraws()
    return [vit_rule(draws) for _ in range(1000)]


def original_gpts() -> list[dict[str, Any]]:
    """Return the 1,000 configurations of GPTs-1K, in the order of the release.

    Examples
    --------
    >>> original_gpts()[0]
    {'layers': 8, 'width': 160, 'heads': 8}
    """
    draws = _ReleaseDraws()
    return [gpt_rule(draws) for _ in range(1000)]


def _published(names: Sequence[str], sizes: Sequence[tuple[int, int, int]], **more: Any) -> FamilySplit:
    configs = [{"layers": layers, "width": width, "heads": heads, **more} for layers, width, heads in sizes]
    return FamilySplit(len(configs), configs=configs, names=names)


VITS_1K = Family(
    "vits-1k",
    "vit",
    vit_rule,
    sizes=("width", "heads", "patch_size"),
    splits={
        "train": FamilySplit(1000),
        "original": FamilySplit(1000, configs=original_vits),
        "val": FamilySplit(50, (0.0, 0.5), vit_between_rule, distinct=True),
        "test": FamilySplit(50, (0.5, 1.0), vit_between_rule, distinct=True),
        "published": _published(
            ("vit-s", "vit-b", "vit-l"), ((12, 384, 6), (12, 768, 12), (24, 1024, 16)), patch_size=2
        ),
    },
)

GPTS_1K = Family(
    "gpts-1k",
    "gpt2",
    gpt_rule,
    sizes=("width", "heads"),
    arguments={"vocab_size": 50257, "context_length": 1024, "dropout": 0.1, "tied": False},
    splits={
        "train": FamilySplit(1000),
        "original": FamilySplit(1000, configs=original_gpts),
        "val": FamilySplit(20, (0.0, 0.5), gpt_between_rule, distinct=True),
        "test": FamilySplit(20, (0.5, 1.0), gpt_between_rule, distinct=True),
        "published": _published(("gpt2-s", "gpt2-m", "gpt2-l"), ((12, 768, 12), (24, 1024, 16), (36, 1280, 20))),
    },
    task="text",
)

LLAMAS_1K = Family(
    "llamas-1k",
    "llama",
    llama_rule,
    sizes=("width", "heads", "kv_heads", "mlp_ratio"),
    arguments={"vocab_size": 128_256, "context_length": 131_072, "tied": False},
    splits={
        "train": FamilySplit(1000, (0.2, 1.0)),
        "val": FamilySplit(50, (0.0, 0.1), distinct=True),
        "test": FamilySplit(50, (0.1, 0.2), distinct=True),
    },
    task="text",
)

GPT2_WIDTHS = Family(
    "gpt2-widths",
    "gpt2",
    {"layers": [1, 2, 3, 4], "width": {"from": 16, "to": 64, "step": 4}, "heads": [1, 2, 4]},
    sizes=("width", "heads"),
    arguments={"vocab_size": 256, "context_length": 128, "dropout": 0.0, "tied": False},
    splits={
        "train": FamilySplit(10_000, (0.3, 1.0)),
        "val": FamilySplit(12, (0.0, 0.15), distinct=True),
        "test": FamilySplit(12, (0.15, 0.3), distinct=True),
        "wide": FamilySplit(12, rule={"width": {"from": 72, "to": 96, "step": 4}}, distinct=True),
    },
    task="text",
)
