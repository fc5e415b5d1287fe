"""What the targets `train` and `bench` of the Makefile run, from `make --dry-run`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def words_of(target: str, start: str, **variables: str) -> list[str]:
    """The words of the one command of a target that contains `start`, from there on."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    installed = [f"--old-file={sys.prefix}/{stamp}" for stamp in ("bin/python", "core", "torch", "bench", "language")]
    given = [f"{name}={value}" for name, value in {"VENV": sys.prefix, **variables}.items()]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *installed, target, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=clean,
        check=True,
    )
    (line,) = (line for line in done.stdout.replace("\\\n", " ").splitlines() if start in line)
    return shlex.split(line[line.index(start) :])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"PRESET": "logah-t", "TASK": "text"},
            "--preset logah-t --task text --texts python --networks family:gpt2-widths --data DATA --minutes 10",
        ),
        (
            {"PRESET": "logah-t", "TASK": "text", "TEXTS": "text:my books", "NETWORKS": "family:gpts-1k", "STEPS": "5"},
            "--preset logah-t --task text --texts 'text:my books' --networks family:gpts-1k --data DATA --steps 5",
        ),
        ({}, "--preset ghn2 --images digits --networks train --data DATA --minutes 10"),
        (
            {"TASK": "hinge:Hinge", "RUN": "mine"},
            "--preset ghn2 --task hinge:Hinge --images digits --networks train --data DATA --out mine --minutes 10",
        ),
    ],
    ids=lambda value: " ".join(value.values()) or "defaults" if isinstance(value, dict) else "",
)
def test_make_train(variables: dict[str, str], expected: str) -> None:
    words = words_of("train", "-m ghn_model train", DATA="no such folder", **variables)
    assert words[3:] == shlex.split(expected.replace("DATA", "'no such folder'"))


def test_make_bench() -> None:
    words = words_of("bench", "-m benchmark run", PREDICTORS="orthogonal lsuv", SPLITS="val,test")
    assert words[3:6] == ["--predictors", "orthogonal", "lsuv"]
    assert words[6].startswith("--")
    assert "--predictors" not in words_of("bench", "-m benchmark run")


@pytest.mark.parametrize(("value", "expected"), [("", False), ("0", False), ("no", False), ("1", True), ("yes", True)])
def test_make_dataset_overwrites_on_request_only(value: str, expected: bool) -> None:
    assert ("--overwrite" in words_of("dataset", "generator build", OVERWRITE=value)) is expected


def test_make_dataset_with_another_value() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        words_of("dataset", "generator build", OVERWRITE="maybe")
    assert "OVERWRITE: expected 1 or 0, got maybe" in caught.value.stderr
