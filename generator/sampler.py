"""Sample candidate architectures; a candidate is a function of a split, a seed and an index.

Candidate i of a split reads the words `104 i ... 104 i + 103` of a Philox stream (Salmon et al., SC 2011) whose key is
a digest of the seed and the split.  It is either an architecture, or is rejected for one or more reasons.  Any range of
candidates can therefore be drawn in any process and in any order.

The order of draws and the rules of rejection follow Knyazev et al. (NeurIPS 2021), appendix A.  Genotypes have the
distribution that follows from the scores and softmax functions of the original.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NORMAL, PADDING, PRIMITIVES, REDUCE
from deepnets.graph import contains
from deepnets.support import compiled
from generator.splits import NORM_ALWAYS, NORM_NEVER, Rules

__all__ = ["REJECTIONS", "STREAM_VERSION", "WORDS", "random_words", "sample"]

STREAM_VERSION = 1
"""Version of the random stream, stored in every file.  It changes whenever the same seed gives other networks."""

WORDS = 104
"""Number of 64-bit random words per candidate: a multiple of four, and at least the 102 that ten steps need."""

REJECTIONS = (
    "cse_without_conv",
    "several_cse",
    "several_large_conv",
    "no_learned_operation",
    "too_large_cifar10",
    "too_large_imagenet",
    "no_output",
)
"""Reasons to reject a candidate; reason k is bit k.  The first four depend on the genotype and can coincide."""

TOO_LARGE_CIFAR10, TOO_LARGE_IMAGENET, NO_OUTPUT = 1 << 4, 1 << 5, 1 << 6

_POOL_ONLY = 4  # none, max_pool, avg_pool and skip_connect come first in PRIMITIVES
_ALL = len(PRIMITIVES)
_MSA, _CSE = PRIMITIVES.index("msa"), PRIMITIVES.index("cse")
_CONV_5X5, _CONV_7X7 = PRIMITIVES.index("conv_5x5"), PRIMITIVES.index("conv_7x7")
_FIRST_CONV, _LAST_CONV = PRIMITIVES.index("sep_conv_3x3"), _CONV_7X7  # all convolutions lie between them


def random_words(seed: int, split: str, start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the random words of consecutive candidates.

    NumPy guarantees the same stream of a bit generator in all versions (NEP 19), but not the same distributions.

    Parameters
    ----------
    seed
        Seed of the corpus.
    split
        Name of the split.
    start, count
        The candidates `start ... start + count - 1`.

    Returns
    -------
    numpy.ndarray
        `(count, WORDS) uint64`.

    Examples
    --------
    >>> bool((random_words(0, "train", 3, 1) == random_words(0, "train", 0, 4)[3:]).all())
    True
    """
    digest = hashlib.sha256(f"DeepNets-1M stream {STREAM_VERSION} seed {seed} split {split}".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    blocks_per_candidate = WORDS // 4  # a step of Philox's counter makes four words
    generator = np.random.Philox(key=key, counter=start * blocks_per_candidate)
    return generator.random_raw(count * WORDS).reshape(count, WORDS)


@compiled
def _below(words: npt.NDArray[np.uint64], cursor: npt.NDArray[np.int64], n: int) -> int:
    """Draw an integer from 0 to n - 1 by scaling the upper half of the next word."""
    word = words[cursor[0]] >> np.uint64(32)
    cursor[0] += 1
    return np.int64((word * np.uint64(n)) >> np.uint64(32))  # type: ignore[return-value]


@compiled
def _happens(words: npt.NDArray[np.uint64], cursor: npt.NDArray[np.int64], tenths: int) -> bool:
    """Draw True with probability `tenths / 10`."""
    return _below(words, cursor, 10) < tenths


@compiled
def _draw_genotype(
    words: npt.NDArray[np.uint64], cursor: npt.NDArray[np.int64], steps: int, pool_only: bool, net: Any
) -> None:
    """Draw two operations on two distinct earlier states for every step, independently and uniformly."""
    first_op = 0 if steps > 1 else 1  # a cell of one step must not lose an operand to `none`
    net.ops[:, :] = PADDING
    net.states[:, :] = PADDING
    for kind in (NORMAL, REDUCE):
        num_ops = (_POOL_ONLY if kind == REDUCE and pool_only else _ALL) - first_op
        for step in range(steps):
            first = _below(words, cursor, step + 2)
            second = _below(words, cursor, step + 1)
            if second >= first:
                second += 1
            net.states[kind, 2 * step] = first
            net.states[kind, 2 * step + 1] = second
            net.ops[kind, 2 * step] = first_op + _below(words, cursor, num_ops)
            net.ops[kind, 2 * step + 1] = first_op + _below(words, cursor, num_ops)


@compiled
def _genotype_rejections(net: Any) -> int:
    """Return the reasons for which a genotype is rejected, as bits."""
    convolves = attends = squeezes = several_squeezes = several_large = False
    for kind in (NORMAL, REDUCE):
        squeeze = large = 0
        for j in range(2 * net.steps):
            op = net.ops[kind, j]
            convolves |= _FIRST_CONV <= op <= _LAST_CONV
            attends |= op == _MSA
            squeeze += op == _CSE
            large += op in (_CONV_5X5, _CONV_7X7)
        squeezes |= squeeze > 0
        several_squeezes |= squeeze > 1
        several_large |= large > 1
    rejections = 0
    if squeezes and not convolves:
        rejections |= 1
    if several_squeezes:
        rejections |= 2
    if several_large:
        rejections |= 4
    if not (squeezes or attends or convolves):
        rejections |= 8
    return rejections


@compiled
def sample(words: npt.NDArray[np.uint64], rules: Rules, net: Any) -> int:
    """Draw one candidate into a record.

    The width (32), `fc_dim` (256) and `imagenet_stride` (4) are constants of the original generator.

    Parameters
    ----------
    words
        `(WORDS,) uint64`, random words.
    rules
        Rules of the split.
    net
        A record of `deepnets.architecture.ARCHITECTURE`, which is overwritten.  It is incomplete after a rejection.

    Returns
    -------
    int
        The reasons for which the genotype is rejected, as bits; 0 if it is accepted.

    Examples
    --------
    >>> from deepnets.architecture import ARCHITECTURE, decode
    >>> from generator import SPLITS
    >>> net = np.zeros(1, ARCHITECTURE)
    >>> sample(random_words(0, "test", 1, 1)[0], SPLITS["test"].rules, net[0])
    0
    >>> decode(net[0]).C
    32
    """
    cursor = np.zeros(1, np.int64)
    n_cells = rules.min_cells + _below(words, cursor, rules.max_cells - rules.min_cells + 1)
    deep = n_cells > rules.min_deep + _below(words, cursor, rules.max_deep - rules.min_deep + 1)
    most = rules.medium_steps if deep else rules.max_steps
    steps = rules.min_steps + _below(words, cursor, most - rules.min_steps + 1)
    pool_only = _happens(words, cursor, 5)
    drop_concat = steps > 1 and _happens(words, cursor, 5)

    net.n_cells = n_cells
    net.steps = steps
    _draw_genotype(words, cursor, steps, pool_only, net)
    concat = 0
    for step in range(steps):
        if step == steps - 1 or not drop_concat or _happens(words, cursor, 5):
            concat |= 1 << (2 + step)
    net.concat[NORMAL] = concat
    net.concat[REDUCE] = concat
    rejections = _genotype_rejections(net)
    if rejections:
        return rejections

    attends = contains(net, _MSA)
    net.C, net.fc_dim, net.imagenet_stride = 32, 256, 4
    net.ks = 3 + 2 * _below(words, cursor, 3)
    net.C_mult = 1 + _below(words, cursor, 2)
    net.preproc = 1
    if steps == 1 and net.C_mult == 1:
        if attends:
            net.preproc = _happens(words, cursor, 2)
        elif rules.free_preproc:
            net.preproc = _happens(words, cursor, 8)
    net.glob_avg = attends or deep or _happens(words, cursor, 9)
    net.norm = rules.norm != NORM_NEVER
    if rules.norm not in (NORM_NEVER, NORM_ALWAYS) and n_cells <= rules.min_cells + 1 and steps <= rules.medium_steps:
        net.norm = _below(words, cursor, 2)
    net.stem_type = _below(words, cursor, 2)
    net.stem_pool = net.stem_type == 0 and _happens(words, cursor, 5)
    net.fc_layers = 1 + _below(words, cursor, 2)
    return 0
