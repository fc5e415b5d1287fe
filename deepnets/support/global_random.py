"""Run code that draws from the global generators of Python and NumPy, with a seed and without side effects."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np

__all__ = ["seeded_globals"]


@contextlib.contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy, and restore their states afterwards.

    It is for libraries that cannot be given a generator, such as the augmentations of timm.

    Parameters
    ----------
    seed
        The seed, at least 0 and below 2**32.

    Examples
    --------
    >>> with seeded_globals(3):
    ...     first = random.random(), np.random.rand()
    >>> with seeded_globals(3):
    ...     first == (random.random(), np.random.rand())
    True
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.setstate(random.Random(seed).getstate())
        np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
