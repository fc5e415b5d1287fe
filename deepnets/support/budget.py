"""The limit on what a reader of untrusted files may create.

A file of a kilobyte can describe gigabytes: by compression, by references to one large value, by sizes that it merely
states, or by very many small objects.  Every reader therefore counts what it is about to create, and stops before the
memory is allocated.  The limit is proportional to the size of the file, so that large files of the expected kinds,
which hold what they describe, are never refused.
"""

from __future__ import annotations

__all__ = ["ALLOWANCE", "OBJECT", "RATIO", "Budget"]

ALLOWANCE = 64 << 20
"""Bytes that a reader may create from a file of any size."""

RATIO = 32
"""Further bytes for every byte of the file.  Corpus files hold up to 14 times their size, official files up to 5."""

OBJECT = 512
"""Bytes that are counted for a small object, whatever it is: more than most take, as each takes time as well."""


class Budget:
    """Counts what a reader creates from a file.

    Parameters
    ----------
    size
        Size of the file, in bytes.

    Attributes
    ----------
    limit : int
        Number of bytes that may be created: `ALLOWANCE + RATIO * size`.
    left : int
        Number of bytes that have not been counted yet.

    Examples
    --------
    >>> budget = Budget(size=1000)
    >>> budget.spend(1 << 20)
    >>> budget.spend(1 << 40)
    Traceback (most recent call last):
    ValueError: describes more data than a file of its size can hold
    """

    def __init__(self, size: int) -> None:
        self.limit = ALLOWANCE + RATIO * size
        self.left = self.limit

    def spend(self, size: int) -> None:
        """Count bytes that are about to be created.

        Parameters
        ----------
        size
            Number of bytes.

        Raises
        ------
        ValueError
            If they exceed what is left.
        """
        if not 0 <= size <= self.left:
            raise ValueError("describes more data than a file of its size can hold")
        self.left -= size
