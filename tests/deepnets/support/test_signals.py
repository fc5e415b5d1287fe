"""Deferred signals: raised at a safe point, never lost, and passed on when a program does not reach one."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from deepnets.support import DeepNetsError, DeferredSignals


def test_signals_are_deferred_until_the_next_check() -> None:
    steps = []

    def work() -> None:
        with DeferredSignals(repeat_after=2) as signals:
            assert signals.waiting == 0
            for i in signals.between(range(5)):
                steps.append(f"begin {i}")
                if i == 2:
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGINT)
                    assert signals.waiting > 0
                    assert signals.received
                steps.append(f"end {i}")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_at_the_end_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), DeferredSignals():
        signal.raise_signal(signal.SIGINT)


def test_a_signal_takes_precedence_over_the_error_it_has_caused() -> None:
    def work() -> None:
        with DeferredSignals():
            signal.raise_signal(signal.SIGINT)
            raise DeepNetsError("a worker died")

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.parametrize("repeat_after", [0, 0.01])
def test_a_second_signal_is_passed_on(repeat_after: float) -> None:
    def work() -> None:
        with DeferredSignals(repeat_after=repeat_after):
            signal.raise_signal(signal.SIGINT)
            time.sleep(2 * repeat_after)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("was deferred")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_signal_is_not_deferred_forever() -> None:
    def work() -> None:
        with DeferredSignals(repeat_after=0.01, deliver_after=0.05):
            signal.raise_signal(signal.SIGINT)
            time.sleep(10)
            pytest.fail("was deferred")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_another_thread_can_interrupt_the_block() -> None:
    def work() -> None:
        with DeferredSignals(repeat_after=60) as signals:
            threading.Timer(0.05, signals.interrupt).start()
            time.sleep(10)
            pytest.fail("was not interrupted")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_outside_the_main_thread_nothing_is_deferred() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with DeferredSignals() as signals:
            signals.check()
            signals.interrupt()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    assert found == [before]
