"""The installed program `deepnets`: modules of the user do not replace ours, options of all commands, completion."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deepnets import ConfigError, MissingDependencyError
from deepnets.commands import COMMANDS, main
from deepnets.support import DeepNetsError, resume_hint, started_by
from ghn_model import GHN

ROOT = Path(__file__).resolve().parents[3]
CONSOLE = "import sys; sys.argv[0] = '/usr/bin/deepnets'; from deepnets.__main__ import console; console()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules that have the names of our packages."""
    for name in ("benchmark", "ghn_model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the module of the user')")
    (tmp_path / "generator.py").write_text("raise SystemExit('the module of the user')")
    (tmp_path / "mine.py").write_text("from torch import nn\n\n\ndef net(width=3):\n    return nn.Linear(2, width)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("start", [("-c", CONSOLE), ("-m", "deepnets")], ids=["deepnets", "python -m deepnets"])
def test_modules_of_the_user_do_not_replace_ours(folder: Path, start: tuple[str, ...]) -> None:
    done = run(*start, "splits")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("split ")
    for name in ("report", "train"):
        done = run(*start, name, "--help")
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_modules_of_the_user_are_still_found(folder: Path) -> None:
    done = run("-c", CONSOLE, "trace", "--model", "mine:net", "--model-kwarg", "width=5", "--input-size", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine:net: 3 nodes, 2 edges, 15 parameters in 2 tensors\n")


def test_trace_describes_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    words = "trace --model torch.nn:Linear --model-kwarg in_features=2 --model-kwarg out_features=3 --input-size 2"
    main(words.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "torch.nn:Linear: 3 nodes, 2 edges, 9 parameters in 2 tensors"
    assert sorted(line.split() for line in lines[2:]) == [["bias", "1", "3"], ["conv", "1", "6"], ["input", "1", "0"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("draw --genotype DARTS", "--out: is needed"),
        ("draw a.png --out b.png", "--out: is given twice"),
        ("draw a.png --model-kwarg a=1", "--model-kwarg: is for --model"),
        ("draw a.png --genotype DARTS --model torchvision:resnet18", "--model: cannot be combined with --genotype"),
        ("draw a.png --onnx a.onnx --legend-only", "--onnx: cannot be combined with --legend-only"),
        ("draw a.png --index 3 --cells 4", "--cells: is for --genotype"),
        ("draw a.png --genotype DARTS --index 3", "--index: is for networks of the corpus, not for --genotype"),
        ("onnx a.onnx --model torch.nn:Linear --split val", "--split: is for networks of the corpus, not for --model"),
        ("draw a.txt", "picture 'a.txt': expected a file name that ends in one of .png, .svg, .pdf"),
        (
            "trace --model a:b --out a.txt",
            "picture 'a.txt': expected a file name that ends in one of .png, .svg, .pdf",
        ),
        ("onnx a.png --genotype DARTS --cells 2", "path: expected a name that ends in .onnx, got a.png"),
        ("convert --format ppuda --out a.pt", "--checkpoint: is needed"),
        ("export --data nowhere", "--out: is needed"),
    ],
)
def test_options_that_do_not_fit(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if words.startswith("onnx"):
        pytest.importorskip("onnx")
    with pytest.raises(ConfigError) as caught:
        main(words.split())
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info ghn2-digit", "'ghn2-digit': no such file, and the bundled hypernetworks are ghn1-cifar10"),
        ("info user/flowers", "'user/flowers': no such file, and no such repository of the Hugging Face Hub"),
        ("verify a/deepnets1m_tset.h5", "a/deepnets1m_tset.h5: no such file"),
        ("info", "data: holds no corpus files (deepnets1m_SPLIT.h5); build them with `deepnets build --out data`"),
    ],
)
def test_what_does_not_exist(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeepNetsError, match=re.escape(message)):
        main(words.split())


def test_info_describes_the_hypernetwork_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    GHN.from_pretrained("mlp-digits").save(tmp_path / "run" / "ghn.safetensors")
    main(["info", str(tmp_path / "run")])
    assert capsys.readouterr().out.startswith(str(tmp_path / "run" / "ghn.safetensors"))


def test_info_describes_hypernetworks(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "ghn2-digits"])
    assert "  kind         deepnets1m, " in capsys.readouterr().out


def test_verbose_shows_messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from generator import commands

    def speak(_: object) -> None:
        logging.getLogger("generator.build").info("information")
        logging.getLogger("generator.build").debug("details")

    monkeypatch.setattr(commands, "_list_splits", speak)
    for words, messages in (([], []), (["-v"], ["information"]), (["-vv"], ["information", "details"])):
        caplog.clear()
        main(["splits", *words])
        assert caplog.messages == messages
    main(["splits"])
    assert caplog.messages == ["information", "details"]  # nothing has been added


def test_what_is_printed_after_an_interrupt() -> None:
    assert resume_hint(COMMANDS, ["train", "--out", "x"]) == "run the same command again to resume"
    assert resume_hint(COMMANDS, ["info"]) == resume_hint(COMMANDS, []) == ""


def test_the_command_that_is_stored_with_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/.venv/bin/deepnets", "bench", "--out", "a b"])
    monkeypatch.delattr(sys.modules["__main__"], "__spec__", raising=False)
    assert started_by() == "deepnets bench --out 'a b'"
    for world_size, per_node, options in ((2, 2, "--nproc-per-node 2"), (6, 3, "--nnodes 2 --nproc-per-node 3")):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
        monkeypatch.setenv("WORLD_SIZE", str(world_size))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(per_node))
        assert started_by() == f"torchrun {options} -m deepnets bench --out 'a b'"
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert started_by() == "deepnets bench --out 'a b'"
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert started_by() == ""


def test_completion_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "deepnets1m\[completion\]"'):
        main(["completion", "bash"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    main(["completion", shell])
    script = capsys.readouterr().out
    for word in (*COMMANDS, "predictors", "ghn3-xl"):
        assert word in script
