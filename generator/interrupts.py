"""Ctrl-C at moments of our choosing.

Python raises `KeyboardInterrupt` wherever the program happens to be: in a callback, where it is lost, or on the way
into compiled code, where it comes out as another error.  While `Interrupts` are held, the signal is only noted, and
raised where the program asks for it: between two shards.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["Interrupts"]

IMPATIENCE = 2.0
"""Seconds after the first signal from which another one is not held back."""

PATIENCE = 10.0
"""Seconds after which the signal itself is not held back any longer."""

T = TypeVar("T")


class Interrupts:
    """Hold SIGINT and SIGTERM back while the block runs, as far as they have handlers.

    In other threads than the main one, which signals do not reach, it does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._noted = 0
        self._since = 0.0
        self._forced = False
        self._over = threading.Event()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.check()  # in place of any other error: workers that got the signal, too, have failed of it

    def _note(self, number: int, frame: Any) -> None:
        if self._forced:
            raise KeyboardInterrupt
        if not self._noted:
            self._noted, self._since = number, time.monotonic()
            threading.Thread(target=self._insist, args=(number,), daemon=True).start()
        elif self.waiting > IMPATIENCE:
            self._handlers[number](number, frame)

    def _insist(self, number: int) -> None:
        if not self._over.wait(PATIENCE):
            _signal_main_thread(number)

    @property
    def waiting(self) -> float:
        """Seconds since the signal came; 0 if none did."""
        return time.monotonic() - self._since if self._noted else 0.0

    def check(self) -> None:
        """Hand the signal that was noted, if any, to the handler that it was meant for."""
        if number := self._noted:
            self._noted = 0
            self._handlers[number](number, None)

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, checking before each."""
        for item in items:
            self.check()
            yield item

    def force(self) -> None:
        """From another thread: raise `KeyboardInterrupt` in the block, wherever it is."""
        if self._handlers:
            self._forced = True
            _signal_main_thread(signal.SIGINT)


def _signal_main_thread(number: int) -> None:
    """Send a real signal, which ends what the thread waits for, as `_thread.interrupt_main` does not."""
    if ident := threading.main_thread().ident:
        signal.pthread_kill(ident, number)
