"""Signals that are deferred until the program is ready for them, and worker processes that end with their parent.

Python raises `KeyboardInterrupt` wherever the program happens to be: in a callback, where the exception is lost, or on
the way into compiled code, where it becomes another exception.  `DeferredSignals` raises it at a safe point instead,
for example between two shards or two training steps.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["DeferredSignals", "EndWithParent"]

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


@dataclass(frozen=True)
class EndWithParent:
    """Makes a worker process end when the process that uses it ends, however that happens.

    It is called in the worker: it can be the `worker_init_fn` of a `DataLoader`.  The worker then ignores Ctrl-C, which
    is meant for the process that started it, and ends at SIGTERM.  `DataLoader` alone does not ensure this: workers
    that a fork server started do not notice that the process that uses them was killed, and the fork server waits for
    them.

    Parameters
    ----------
    parent
        Process number.  By default, the process that creates the object.

    Examples
    --------
    >>> EndWithParent().parent == os.getpid()
    True
    """

    parent: int = field(default_factory=os.getpid)

    def __call__(self, *_: object) -> None:
        """Start to watch the parent; arguments are ignored."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=_end_with, args=(self.parent,), name="watch parent", daemon=True).start()


def _end_with(process: int) -> None:
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):  # another system, or the process has ended already
        while _exists(process):
            time.sleep(1)
    else:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    os._exit(1)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _signal_main_thread(number: int) -> None:
    """Send a real signal, which ends blocking system calls; `_thread.interrupt_main` does not."""
    if ident := threading.main_thread().ident:
        signal.pthread_kill(ident, number)
