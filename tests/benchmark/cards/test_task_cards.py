"""Cards of trainings for other tasks than classification: a task of the user, and texts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from benchmark.cards import bundle
from deepnets.support import ConfigError, FormatError
from ghn_model.tasks import Classification
from tests.support.bundles import STEPS, altered, card_at, digest_of, rows
from tests.support.training_runs import ROOT, TIMEOUT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


class Hinge(Classification):
    name = "hinge"


def deepnets(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deepnets", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, env=environment)


def test_the_task_of_a_file_is_named_by_the_caller(trained: Path, tmp_path: Path) -> None:
    """A file never causes an import: a task that it names is one of ours, or the one that the caller gives."""
    run = altered(trained, tmp_path / "run", task="hinge")
    with pytest.raises(FormatError, match=r"its task is 'hinge'; expected one of .*text.*--task MODULE:ATTRIBUTE"):
        bundle(run, "x", tmp_path)
    with pytest.raises(ConfigError, match=r"task: .*is of a training for 'hinge', not for 'classification'"):
        bundle(run, "x", tmp_path, task="classification")
    with pytest.raises(ConfigError, match=r"task: .*is of a training for 'classification', not for 'hinge'"):
        bundle(trained, "x", tmp_path, task=Hinge)
    assert not (tmp_path / "x.safetensors").exists()
    assert card_at(bundle(run, "x", tmp_path, task=Hinge()))["steps"] == STEPS
    (tmp_path / "executed.py").write_text("raise SystemExit('imported')")
    named = altered(trained, tmp_path / "other", task="executed:TASK")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(FormatError, match="its task is 'executed:TASK'"):
            bundle(named, "y", tmp_path)


@pytest.mark.slow
def test_a_task_of_the_user_from_training_to_card(corpus: Path, tmp_path: Path) -> None:
    """The file and the options of the page, in a folder outside the package."""
    (code,) = re.findall(r"^```python\n# hinge.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "hinge.py").write_text(code)
    words = ["train", "--task", "hinge:Hinge", "--images", "digits", "--preset", "ghn1", "--data", corpus]
    words += ["--out", "runs/hinge", "--steps", "2", "--log-steps", "1", "--meta-batch-size", "1", "--batch-size", "4"]
    words += ["--max-params", "100000", "--max-nodes", "90", "--device", "cpu", "--loggers", "none", "--quiet"]
    done = deepnets(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    log = rows(tmp_path / "runs" / "hinge" / "log.csv")
    assert [row["step"] for row in log] == ["1", "2"]

    refused = deepnets(tmp_path, "card", "runs/hinge", "--name", "hinge", "--out", "mine")
    assert refused.returncode == 1
    assert "its task is 'hinge'; expected one of classification, text" in refused.stderr
    assert "--task MODULE:ATTRIBUTE" in refused.stderr
    done = deepnets(tmp_path, "card", "runs/hinge", "--name", "hinge", "--out", "mine", "--task", "hinge:Hinge")
    assert done.returncode == 0, done.stderr

    words = ["bench", "--task", "hinge:Hinge", "--predictors", "mine/hinge.safetensors", "--images", "digits"]
    words += ["--splits", "test", "--limit", "2", "--data", corpus, "--out", "results", "--workers", "1", "--no-report"]
    done = deepnets(tmp_path, *words, "--device", "cpu", "--quiet")
    assert done.returncode == 0, done.stderr
    accuracies = [float(row["top1"]) for row in rows(tmp_path / "results" / "networks.csv")]
    assert len(accuracies) == 2
    words = ["card", "--name", "hinge", "--out", "mine", "--results", "results", "--task", "hinge:Hinge"]
    done = deepnets(tmp_path, *words)
    assert done.returncode == 0, done.stderr

    path = tmp_path / "mine" / "hinge.safetensors"
    card = card_at(path)
    with safe_open(str(path), "pt") as file:
        assert "hinge" in str(file.metadata())
    assert (card["sha256"], card["steps"], card["networks_seen"], card["images_per_network"]) == (
        digest_of(path),
        2,
        2,
        4,
    )
    assert card["task"] == "predicts all parameters of image classifiers for 32 x 32 pixels and 10 classes"
    assert card["command"][-1].startswith("python -m deepnets train --task hinge:Hinge --images digits ")
    assert card["last_training_top1"] == pytest.approx(sum(float(row["top1"]) for row in log) / 2, abs=0.051)
    assert card["results"]["test"]["networks"] == 2
    assert card["results"]["test"]["mean_top1"] == pytest.approx(sum(accuracies) / 2, abs=0.006)
    assert "--task hinge:Hinge --predictors hinge " in card["evaluation"][0]


@pytest.mark.slow
def test_a_training_on_texts(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "words.txt").write_text("the cat sat on the mat and the dog sat on the log.\n" * 60)
    words = ["train", "--task", "text", "--texts", "text:words.txt", "--networks", "family:gpt2-widths"]
    words += ["--preset", "logah-t", "--sequence-length", "16", "--hidden", "16", "--layers", "1", "--heads", "2"]
    words += ["--steps", "2", "--log-steps", "1", "--meta-batch-size", "1", "--batch-size", "3", "--out", "runs/text"]
    done = deepnets(tmp_path, *words, "--device", "cpu", "--loggers", "none", "--quiet")
    assert done.returncode == 0, done.stderr
    path = bundle(tmp_path / "runs" / "text", "text", tmp_path / "mine")
    card = card_at(path)
    assert card["task"] == "predicts all parameters of language models"
    assert (card["steps"], card["networks_seen"], card["sequences_per_network"]) == (2, 2, 3)
    assert "images_per_network" not in card
    log = rows(tmp_path / "runs" / "text" / "log.csv")
    values = [float(row["perplexity"]) for row in log]
    assert card["last_training_perplexity"] == pytest.approx(sum(values) / 2, abs=0.051)
    assert "last_training_top1" not in card
    command = " ".join(card["command"])
    assert command.startswith("python -m deepnets train --task text --texts text:words.txt --networks family:gpt2")
    assert "--out FOLDER" in command
    assert [list(row)[:2] for row in rows(tmp_path / "mine" / card["log"])] == [list(row)[:2] for row in log]
    assert card["data"]["images"] == "text:words.txt"
