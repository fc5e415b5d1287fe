"""Signals that are noted, and handed on when the program is ready for them."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["NotedSignals", "ignore_signals"]

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class NotedSignals:
    """Hold the first SIGINT or SIGTERM back while the block runs, as far as they have handlers; pass on a second one.

    In other threads than the main one, which signals do not reach, it does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._noted = 0

    def __enter__(self) -> NotedSignals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return bool(self._noted)

    def check(self) -> None:
        """Hand the signal that was noted, if any, to the handler that it was meant for."""
        if number := self._noted:
            self._noted = 0
            self._handlers[number](number, None)

    def _note(self, number: int, frame: Any) -> None:
        if self._noted:
            self._handlers[number](number, frame)
        self._noted = number


def ignore_signals(*_: object) -> None:
    """In helping processes: what is sent to a whole group of processes is for the one that they help."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
