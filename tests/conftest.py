"""Puts the root of the repository first on the path: `tests/deepnets`, a folder, must not pass for the package."""

import os

# The networks in tests are small: threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
