"""Medians of repeated runs, and a description of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numba
import numpy as np
import torch

Row = tuple[str, str, str]
"""What was measured, the figure, the target."""


def machine() -> str:
    """Describe the machine and the libraries."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    libraries = {"Python": platform.python_version(), "NumPy": np.__version__, "numba": numba.__version__}
    libraries |= {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version, "PyTorch": torch.__version__}
    return (
        f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, load {load:.1f}; "
        + ", ".join(f"{name} {version}" for name, version in libraries.items())
    )


def median(function: Callable[[], object], runs: int) -> float:
    """Return the median time of a call in seconds, after one call to warm up."""
    function()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
