"""Bundles, their cards, and altered copies of the training and the results that cards describe."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from ghn_model import load_checkpoint
from ghn_model.checkpoints import save_checkpoint
from tests.support.training_runs import run

STEPS = 6


class Made(NamedTuple):
    """A bundle with a card, and results of the bundle and of the file from which it was made."""

    path: Path
    results: Path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def card_at(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text()))


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change_runs(results: Path, change: Any) -> None:
    """Apply `change` to the entry of each run in `runs.json`."""
    runs = json.loads((results / "runs.json").read_text())
    for about in runs.values():
        change(about)
    (results / "runs.json").write_text(json.dumps(runs))


def altered(trained: Path, folder: Path, **changes: Any) -> Path:
    """Return a copy of a training with changed metadata; None removes an entry."""
    shutil.copytree(trained, folder)
    known = {**load_metadata(trained / "ghn.safetensors"), **changes}
    known = {name: value for name, value in known.items() if value is not None}
    save_checkpoint(load_checkpoint(trained / "ghn.safetensors"), folder / "ghn.safetensors", known)
    return folder


def load_metadata(path: Path) -> dict[str, Any]:
    from ghn_model import describe

    return describe(path).metadata


def card_command(*words: object) -> subprocess.CompletedProcess[str]:
    return run(["-m", "benchmark", "card", *map(str, words)])
