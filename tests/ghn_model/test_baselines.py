"""The scripts that train and bundle a hypernetwork, each at a small size on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ghn_model import describe
from tests.support.training_runs import ROOT

SCRIPTS = ROOT / "ghn_model" / "baselines"
ARGS = "--max-params 100000 --max-nodes 90 --batch-size 4"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Environment variables of the scripts for small runs in a temporary folder."""
    small = {"PYTHON": sys.executable, "DEVICE": "cpu", "IMAGES": "digits", "PRESET": "ghn1", "SIZE": "2000"}
    small |= {"DATA": str(tmp_path / "data"), "OUT": str(tmp_path / "runs"), "META_BATCH_SIZE": "2", "ARGS": ARGS}
    return {**os.environ, **small}


def script(name: str, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [SCRIPTS / name, *words], capture_output=True, text=True, timeout=500, env=environment, cwd=SCRIPTS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_tests(settings: dict[str, str], tmp_path: Path) -> None:
    said = script("1-test.sh", "tests/ghn_model/test_config.py", "-n", "0", **settings)
    assert "PyTorch" in said
    assert (tmp_path / "runs" / "test.log").read_text() == said


@pytest.mark.slow
def test_failures_have_an_exit_status(settings: dict[str, str]) -> None:
    """The output is piped into a log, which must not hide the status."""
    done = subprocess.run([SCRIPTS / "1-test.sh", "-n", "0", "no such file"], capture_output=True, env=settings)
    assert done.returncode == 4


@pytest.mark.slow
def test_the_profile(settings: dict[str, str], tmp_path: Path) -> None:
    said = script("2-profile.sh", **settings, RANKS="1 2", STEPS="2", BATCH_SIZE="4")
    assert said.count("ms per step") == 2
    for ranks in (1, 2):
        found = json.loads((tmp_path / "runs" / "profile" / str(ranks) / "profile.json").read_text())
        assert (found["processes"], found["steps"], found["recipe"]["batch_size"]) == (ranks, 2, 4)


@pytest.mark.slow
def test_training_in_several_calls_and_bundling(settings: dict[str, str], tmp_path: Path) -> None:
    train = {**settings, "STEPS": "30", "CALL": "0.02", "VALIDATION": "0", "PROCESSES": "2"}
    said = script("3-train.sh", **train)
    assert "use the same command to resume" in said
    first = describe(tmp_path / "runs" / "ghn1-digits" / "ghn.safetensors").metadata["steps"]
    assert 0 < first < 30
    said = script("3-train.sh", **{**train, "CALL": "10", "VALIDATION": "1"})
    assert "30 steps in" in said
    assert "ghn1-digits" in said.partition("top-1")[2]  # the leaderboard of validation
    bundle = tmp_path / "bundle"
    evaluate = {**settings, "ARGS": "", "BUNDLE": str(bundle), "SPLITS": "test", "LIMIT": "1", "WORKERS": "1"}
    for _ in range(2):  # the second call writes the card only
        said = script("4-evaluate.sh", **evaluate)
        card = json.loads((bundle / "ghn1-digits.json").read_text())
        assert (card["steps"], card["results"]["test"]["networks"]) == (30, 1)
    names = sorted(path.name for path in bundle.iterdir())
    assert names == ["ghn1-digits.json", "ghn1-digits.log.csv", "ghn1-digits.md", "ghn1-digits.safetensors"]
