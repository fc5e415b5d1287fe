"""Runs of all tests share the processes that start workers, which take seconds to import everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmark.evaluation import keep_processes


@pytest.fixture(scope="session", autouse=True)
def _shared_processes() -> Iterator[None]:
    with keep_processes():
        yield
