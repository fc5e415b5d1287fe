"""The published files, for tests that need them: a folder in the environment variable DEEPNETS_PUBLISHED."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.literature import Published, load

REPO = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def published() -> Published:
    """The published files, all four of them."""
    given = os.environ.get("DEEPNETS_PUBLISHED")
    folder = Path(given) if given else REPO.parent / "shared" / "data" / "published"
    if not given and not folder.is_dir():
        pytest.skip("needs the published files: DEEPNETS_PUBLISHED=FOLDER")
    found = load(folder)
    assert found.missing == ()
    return found
