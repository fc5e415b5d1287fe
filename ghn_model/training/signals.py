"""Signals that are deferred until the training has saved its state."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["DeferredSignals", "ignore_signals"]

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Context manager that records the first SIGINT or SIGTERM instead of handling it; a second one is handled at once.

    Only signals with a Python handler are deferred.  Outside of the main thread, which alone receives signals, it does
    nothing.

    Examples
    --------
    >>> with DeferredSignals() as signals:
    ...     signals.received
    False
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._number = 0

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def received(self) -> bool:
        """Whether a signal has been recorded."""
        return bool(self._number)

    def handle(self) -> None:
        """Call the original handler of the recorded signal, if there is one."""
        if number := self._number:
            self._number = 0
            self._handlers[number](number, None)

    def _record(self, number: int, frame: Any) -> None:
        if self._number:
            self._handlers[number](number, frame)
        self._number = number


def ignore_signals(*_: object) -> None:
    """Ignore SIGINT and SIGTERM in a worker process: a signal to the process group is for the main process.

    The parameters are those of a `worker_init_fn` of `torch.utils.data.DataLoader`, and unused.
    """
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
