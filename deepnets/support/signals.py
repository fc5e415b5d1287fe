"""Signals that are deferred until the program is ready for them.

Python raises `KeyboardInterrupt` wherever the program happens to be: in a callback, where the exception is lost, or on
the way into compiled code, where it becomes another exception.  `DeferredSignals` raises it at a safe point instead,
for example between two shards or two training steps.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["DeferredSignals", "ignore_signals"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class DeferredSignals:
    """Defer SIGINT and SIGTERM while a block runs.

    The first signal is recorded.  `check`, or the end of the block, passes it to the handler that was installed before.
    Signals without a handler in Python keep their effect.  Outside the main thread, which receives all signals, the
    context manager does nothing.

    Parameters
    ----------
    repeat_after
        Seconds after the first signal from which a second one is passed on at once.  0 by default.
    deliver_after
        Seconds after which the first signal is sent again if no safe point was reached.  None, the default: never.

    Examples
    --------
    >>> with DeferredSignals() as signals:
    ...     print(signals.received)
    ...     signals.check()  # a safe point
    False
    """

    def __init__(self, *, repeat_after: float = 0.0, deliver_after: float | None = None) -> None:
        self._repeat_after = repeat_after
        self._deliver_after = deliver_after
        self._handlers: dict[int, Any] = {}
        self._recorded = 0
        self._since = 0.0
        self._interrupting = False
        self._ended = threading.Event()

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.check()  # replaces other exceptions, which the signal may have caused in child processes

    @property
    def received(self) -> bool:
        """Whether a signal was recorded and not yet passed on."""
        return bool(self._recorded)

    @property
    def waiting(self) -> float:
        """Seconds since the recorded signal; 0 if there is none."""
        return time.monotonic() - self._since if self._recorded else 0.0

    def check(self) -> None:
        """Pass the recorded signal, if any, to its handler, which usually raises `KeyboardInterrupt`."""
        if number := self._recorded:
            self._recorded = 0
            self._handlers[number](number, None)

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """Iterate over items and call `check` before each of them.

        Parameters
        ----------
        items
            Any iterable.

        Yields
        ------
        The items.
        """
        for item in items:
            self.check()
            yield item

    def interrupt(self) -> None:
        """Raise `KeyboardInterrupt` in the block at once; to be called from another thread."""
        if self._handlers:
            self._interrupting = True
            _signal_main_thread(signal.SIGINT)

    def _record(self, number: int, frame: Any) -> None:
        if self._interrupting:
            raise KeyboardInterrupt
        if not self._recorded:
            self._recorded, self._since = number, time.monotonic()
            if self._deliver_after is not None:
                threading.Thread(target=self._deliver, args=(number,), daemon=True).start()
        elif self.waiting >= self._repeat_after:
            self._handlers[number](number, frame)

    def _deliver(self, number: int) -> None:
        if not self._ended.wait(self._deliver_after):
            _signal_main_thread(number)


def ignore_signals(*_: object) -> None:
    """Ignore SIGINT and SIGTERM in this process.

    Worker processes call this function: signals to the process group are meant for the process that started them.
    Arguments are ignored, so that the function can be the `worker_init_fn` of a `DataLoader`.
    """
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def _signal_main_thread(number: int) -> None:
    """Send a real signal, which ends blocking system calls; `_thread.interrupt_main` does not."""
    if ident := threading.main_thread().ident:
        signal.pthread_kill(ident, number)
