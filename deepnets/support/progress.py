"""Progress of long work: a bar in a terminal, and elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

__all__ = ["INTERVAL", "NOTICES", "ProgressBar"]

INTERVAL = 30.0
"""Seconds between two lines, if there is no terminal."""

NOTICES = "deepnets.notices"
"""The logger of what users should know while they wait, such as that code is being compiled."""

_LINE = "{percentage:.0f}% ({n_fmt}/{total_fmt}{unit}) after {elapsed}, {remaining} left{postfix}"


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A progress bar of tqdm that writes lines instead if the output is no terminal, as in a log file.

    The first line comes after `INTERVAL` seconds, so short work writes nothing.

    Parameters
    ----------
    *given
        The iterable, and other arguments of `tqdm.tqdm`.
    show
        Whether to show progress at all.
    **options
        Further arguments of `tqdm.tqdm`.

    Examples
    --------
    >>> list(ProgressBar("ab", show=False))
    ['a', 'b']
    """

    def __init__(self, *given: Any, show: bool = True, **options: Any) -> None:
        file = options.get("file") or sys.stderr
        self._in_lines = file is not None and not (hasattr(file, "isatty") and file.isatty())
        self._next = time.monotonic() + INTERVAL
        self._written = -1.0
        if self._in_lines:
            unit = options.get("unit", "")
            layout = _LINE.replace("{unit}", unit if not unit or unit.startswith(" ") else f" {unit}s")
            if isinstance(options.get("total"), float):
                layout = layout.replace("{n_fmt}/{total_fmt}", "{n:.0f}/{total:.0f}")
            options |= {"bar_format": layout, "mininterval": 1.0, "dynamic_ncols": False, "ncols": None}
        super().__init__(*given, disable=not show or file is None, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, or write a line if it is time for one."""
        if not self._in_lines:
            return super().display(msg, pos)
        if time.monotonic() >= self._next:
            self._write()
        return True

    def close(self) -> None:
        """End the bar, or write the last line if there have been others."""
        if not self._in_lines or getattr(self, "disable", True):
            super().close()
            return
        if 0 <= self._written < self.n and self.leave is not False:
            self._write()
        self.disable = True
        self._decr_instances(self)

    def _write(self) -> None:
        self._next = time.monotonic() + INTERVAL
        self._written = self.n
        name = (self.desc or "").removesuffix(": ")
        self.fp.write(f"{name}: {self}\n" if name else f"{self}\n")
        self.fp.flush()
