"""The commands for texts: training by `python -m deepnets`, and what they say without the package transformers."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepnets.__main__ import main
from deepnets.support import MissingDependencyError
from ghn_model import GHN

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    *("--hidden", "8", "--heads", "2", "--layers", "1", "--rank", "2", "--factor-rows", "1024"),
    *("--max-shape", "256", "256", "16", "16", "--sequence-length", "8", "--batch-size", "2"),
    *("--meta-batch-size", "1", "--log-steps", "1", "--loggers", "none", "--quiet"),
)


@pytest.mark.slow
def test_a_hypernetwork_for_texts_is_trained_by_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    words = ["train", "--preset", "logah-t", "--task", "text", "--texts", "python"]
    words += ["--networks", "family:gpt2-widths", "--steps", "2", *SMALL, "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deepnets", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ghn = GHN.from_pretrained(tmp_path / "run" / "ghn.safetensors")
    assert (ghn.config.decoder, ghn.config.hidden, ghn.config.rank) == ("lowrank", 8, 2)
    assert ghn.config.channel_sizes == (32000, 50257, 128256)  # those of texts
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["perplexity"]) == pytest.approx(math.exp(float(row["loss"])), rel=1e-2)
        assert 150 < float(row["perplexity"]) < 10_000  # random guesses among 256 bytes: 256


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--preset", "logah-t", "--task", "text", "--steps", "2", *SMALL],
        ["bench", "--task", "text", "--splits", "family:gpt2-widths", "--predictors", "random"],
        ["finetune", "--task", "text", "--split", "family:gpt2-widths/test", "--epochs", "1"],
    ],
    ids=lambda words: words[0],
)
def test_without_transformers(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDependencyError) as caught:
        main([*words, "--out", "out"])
    message = str(caught.value)
    assert message == 'language models need the package transformers: pip install "deepnets1m[language]"'
    assert caught.value.name == "transformers"
    assert list(tmp_path.rglob("*.csv")) == []
    assert "Traceback" not in capsys.readouterr().err
