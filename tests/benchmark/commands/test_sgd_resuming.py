"""Killed and repeated trainings by the command line, and folders with damaged or unrelated files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmark.baselines import Curves
from deepnets import ConfigError, FormatError
from deepnets.support import BusyError
from ghn_model.checkpoints import TensorFile
from tests.support.benchmark_runs import command as benchmark
from tests.support.sgd_trainings import SHORT, command

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
from benchmark.commands import sgd as sgd_command
from deepnets.support import Parser
parser = Parser()
sgd_command.add_arguments(parser.add_subparsers(parser_class=Parser))
options = parser.parse_args(sys.argv[1:])
options.do(options)
"""


def without_seconds(path: Path) -> str:
    return str(pd.read_csv(path / "curves.csv", dtype=str).drop(columns="seconds").to_csv())


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_same_rows(nets: Path) -> None:
    names = [f"sgd_nets:{name}" for name in ("plain", "second", "slow", "broken")]
    words = ["sgd", "--model", *names, *SHORT, "--out"]
    command(*words, nets / "whole")
    out = nets / "killed"
    environment = {"PYTHONPATH": f"{ROOT}:{nets}", "OMP_NUM_THREADS": "1", "SGD_TEST_WAITS": "1", "PATH": ""}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words, str(out)], cwd=ROOT, env=environment)
    try:
        until = time.monotonic() + 240
        while not (out / "curves.csv").exists() or "sgd_nets:second" not in (out / "curves.csv").read_text():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = pd.read_csv(out / "curves.csv")
    assert before["network"].unique().tolist() == names[:2]
    command(*words, out)
    assert without_seconds(out) == without_seconds(nets / "whole")
    after = pd.read_csv(out / "curves.csv")
    assert after["seconds"][: len(before)].equals(before["seconds"])  # not trained again
    for name in ("plain", "second", "slow"):
        file = f"random/models-sgd_nets-{name}.safetensors"
        assert TensorFile(out / file).tensors["0.weight"].equal(TensorFile(nets / "whole" / file).tensors["0.weight"])


@pytest.mark.slow
def test_two_interrupts_within_milliseconds_keep_the_state(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training continues from the state that was saved last, with the same rows."""
    (nets / "sgd_pausing.py").write_text(
        "import os, time\nimport sgd_nets\nfrom torch import nn\n\n"
        "class Pausing(nn.Sequential):\n"
        "    def forward(self, images):\n"
        "        time.sleep(0.1 * (self.training and 'SGD_TEST_PAUSES' in os.environ))\n"
        "        return super().forward(images)\n\n"
        "def net(num_classes):\n    return Pausing(*sgd_nets.plain(num_classes))\n"
    )
    options = ["--shots", 3, "--epochs", 40, "--batch-size", 16, "--evaluate-after", 1, "--save-minutes", 0, "--quiet"]
    words = ["sgd", "--model", "sgd_pausing:net", *options, "--out"]
    out, state = nets / "out", nets / "out" / "random" / "models-sgd_pausing-net.state.safetensors"
    with monkeypatch.context() as patch:
        patch.setenv("SGD_TEST_PAUSES", "1")
        process = benchmark(*words, out, cwd=nets, start_new_session=True)
    try:
        end = time.monotonic() + 240
        while not state.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, printed) == (130, "")
    assert errors == "interrupted; completed evaluations are kept; run the same command to resume\n"
    assert not list(out.rglob("*.tmp"))
    saved = json.loads(TensorFile(state).metadata["state"])["rows"]
    assert 1 <= len(saved) < 40
    command(*words, out)
    command(*words, nets / "whole")
    assert without_seconds(out) == without_seconds(nets / "whole")
    seconds = pd.read_csv(out / "curves.csv")["seconds"].tolist()
    expected = pytest.approx([row["seconds"] for row in saved], rel=0, abs=6e-4)  # the table has milliseconds
    assert seconds[: len(saved)] == expected  # not trained again
    assert not state.exists()


@pytest.mark.slow
def test_incomplete_rows_are_removed(nets: Path) -> None:
    out = nets / "out"
    command("sgd", "--model", "sgd_nets:plain", "sgd_nets:second", "sgd_nets:broken", "--out", out, *SHORT)
    whole, settings = (out / "curves.csv").read_bytes(), (out / "settings.json").read_bytes()
    lines = whole.splitlines(keepends=True)
    rows = [0, 0, 2, 2, 4, 5]  # rows that are kept, by the number of complete lines: a training has two
    for cut in range(0, len(whole) + 1, 7):
        (out / "curves.csv").write_bytes(whole[:cut])
        (out / "settings.json").write_bytes(settings)  # those of trainings without rows are removed, too
        with Curves(out).opened() as curves:
            there = whole[:cut].count(b"\n")
            kept = 0 if there == 0 else rows[there - 1]
            assert len(curves.table()) == kept
            if there:
                assert (out / "curves.csv").read_bytes() == b"".join(lines[: kept + 1])
            else:
                assert not (out / "curves.csv").exists()


def test_trainings_with_other_settings_are_not_mixed(nets: Path) -> None:
    words = ["sgd", "--model", "sgd_nets:plain", "--out", nets / "out", *SHORT]
    command(*words)
    with pytest.raises(
        ConfigError,
        match=r"has trainings from random on models with digits with other settings "
        r"\(lr 0.025, not 0.1; shots 3, not 2; .*\); choose another folder",
    ):
        command(*words, "--lr", "0.1", "--shots", "2")
    command(*words, "--lr", "0.1", "--init", "faster=random")
    assert Curves(nets / "out").table()["predictor"].unique().tolist() == ["random", "faster"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Curves(tmp_path).opened(), pytest.raises(BusyError, match="is in use by another process"):
        Curves(tmp_path).opened().__enter__()


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\n", b'"\n'])
def test_unrelated_files_are_not_changed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(FormatError, match=r"curves.csv: is no table"):
        Curves(tmp_path).opened().__enter__()
    assert (tmp_path / "curves.csv").read_bytes() == content
