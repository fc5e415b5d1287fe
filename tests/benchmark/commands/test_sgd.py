"""Trainings by the command line: rows, saved networks, failures and options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmark.baselines import Curves
from benchmark.baselines.store import COLUMNS
from benchmark.training import evaluate_trained
from deepnets import DeepNetsError, Network
from deepnets.data import load_images
from deepnets.support import import_torchvision
from ghn_model import save_checkpoint
from ghn_model.checkpoints import TensorFile
from tests.support.sgd_trainings import CONFIG, MODULE, SHORT, command, small_ghn


@pytest.mark.slow
def test_networks_of_a_split(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command("sgd", "--split", "test", "--index", "0,2:", "--data", data, "--out", out, *SHORT)
    table = Curves(out).table()
    assert tuple(table.columns) == COLUMNS
    assert table["index"].tolist() == [0, 0, 2, 2]
    assert table["epoch"].tolist() == [1, 2, 1, 2]
    assert set(table["predictor"]) == {"random"}
    assert (table["images"] == "digits").all()
    assert table["top1"].notna().all()
    text = capsys.readouterr().out
    assert "test, digits: top1 in percent, mean ± standard error" in text
    assert f"{out / 'curves.csv'} and curves.png" in text
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    model = Network(CONFIG)
    assert table["num_params"][0] == sum(parameter.numel() for parameter in model.parameters())
    state = TensorFile(out / "random" / "test-0.safetensors").tensors
    accuracy = evaluate_trained(model, state, load_images("digits", "test"))
    assert (accuracy["top1"], accuracy["top5"]) == tuple(table.loc[1, ["top1", "top5"]])


@pytest.mark.slow
def test_starts_are_compared(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    out = tmp_path / "out"
    inits = ["random", f"mine={tmp_path / 'ghn.safetensors'}"]
    command("finetune", "--index", "0:2", "--data", data, "--init", *inits, "--out", out, *SHORT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["epoch", "random", "mine"]
    assert [line.split()[0] for line in lines[2:6]] == ["1", "2", "networks", "failed"]
    table = Curves(out).table()
    order = table[["index", "predictor"]].drop_duplicates().to_numpy().tolist()
    assert order == [[0, "random"], [0, "mine"], [1, "random"], [1, "mine"]]
    assert Curves(out)._settings()["mine on test with digits"]["weight_decay"] == 1e-3  # of finetune-100shot
    # Training can start from a trained network.
    command("finetune", "--index", "0", "--data", data, "--init", f"on={out / 'random'}", "--out", out, *SHORT)
    later = Curves(out).table()
    assert later[later["predictor"] == "on"]["status"].eq("ok").all()
    assert later[: len(table)].equals(table)


@pytest.mark.slow
def test_failures_are_recorded_and_can_be_repeated(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = nets / "out"
    words = ["sgd", "--model", "sgd_nets:broken", "sgd_nets:plain", "--out", out, "--no-save", *SHORT]
    command(*words)
    table = Curves(out).table()
    assert table["status"].tolist() == ["failed", "ok", "ok"]
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["reason"][0].endswith("RuntimeError: no such, luck")
    assert "failed: models sgd_nets:broken from random: model sgd_nets:broken" in capsys.readouterr().out
    assert not (out / "random").exists()
    (nets / "sgd_nets.py").write_text(MODULE.replace("raise", "return plain(num_classes) #"))
    del sys.modules["sgd_nets"]
    command(*words)
    assert Curves(out).table().equals(table)
    command(*words, "--retry-failed")
    assert Curves(out).table()["status"].eq("ok").all()


def test_models_are_adapted_to_small_images(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    seen: list[nn.Module] = []

    def noted(model: nn.Module, *_: Any, **__: Any) -> None:
        seen.append(model)
        raise RuntimeError("that is enough")

    monkeypatch.setattr("benchmark.baselines.runs.initialized", noted)
    names = ["torchvision:resnet18", "sgd_nets:plain", "torchvision:squeezenet1_1,alexnet"]
    with pytest.raises(DeepNetsError, match=r"^every training failed; "):
        command("sgd", "--model", *names, "--out", nets / "out", "--quiet")
    table = Curves(nets / "out").table()
    assert table["split"].tolist() == ["torchvision", "models", "torchvision", "torchvision"]
    assert table["network"].tolist() == ["resnet18", "sgd_nets:plain", "squeezenet1_1", "alexnet"]
    assert table["index"].tolist() == [0, 1, 2, 3]
    assert table["num_params"][0] == 11_173_962
    assert table["reason"].eq("RuntimeError: that is enough").all()
    assert [getattr(model, "expected_input_sz", None) for model in seen] == [32, None, None, 32]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--index", "7"], "index: test has networks 0 to 2, there is no 7"),
        (["--index", "resnet50"], "index: the networks of test have no names; expected 3, 0:10 or 3,17"),
        (["--model", "sgd_nets:plain", "--index", "1"], "--index: is for networks of a --split"),
        (["--model", "sgd_nets:plain", "sgd_nets:plain"], "model: named twice: models-sgd_nets-plain"),
        (["--init", "random", "random"], "--init: random is given twice; give one another label, as in again=random"),
        (["--init", "nowhere"], "init: no such file: 'nowhere'; expected one of random"),
        (["--init", "a b=random"], "init: 'a b' cannot be a label"),
        (["--shots", "999"], "n: class . of digits .train. has only 1.. images, expected 999"),
        (["--image-split", "val", "--train-on", "trainval"], "--train-on: trainval contains the images for evaluation"),
        (["--label-smoothing", "1"], "label_smoothing: expected"),
        (["--split", "nonsense"], "split: unknown 'nonsense'"),
        (["--split", "torchvision:resnet18"], "--split: expected a split of the corpus"),
    ],
)
def test_options_are_checked(nets: Path, data: Path, words: list[str], message: str) -> None:
    with pytest.raises(DeepNetsError, match=message):
        command("sgd", "--data", data, "--out", nets / "out", "--quiet", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "nonsense"], "argument --device: cannot use 'nonsense'"),
        (["--device", "meta"], "argument --device: cannot use 'meta', which holds no values"),
        (["--out", ""], "argument --out: expected the name of a file or folder, got an empty text"),
        (["--seed", str(2**63)], "argument --seed: expected an integer from 0 to 2**63 - 1"),
    ],
)
def test_values_of_options_are_checked(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command("sgd", *words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1-3", "", "1,,2", "1:2:3", "-1"])
def test_indices_are_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("sgd", f"--index={text}")
    assert "argument --index: expected numbers and ranges as in 0:10" in capsys.readouterr().err
