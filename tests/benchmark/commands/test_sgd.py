"""Trainings from the command line: where they start, what is written, and how they go on after a SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from benchmark.baselines import Curves, curves_text, draw_curves
from benchmark.baselines.curves import mean_curves
from benchmark.baselines.runs import COLUMNS
from benchmark.commands import sgd as sgd_command
from benchmark.commands.sgd import _indices
from benchmark.training import SGDRecipe, Start, evaluate_trained, initialized, open_start, read_state
from deepnets import GENOTYPES, ConfigError, DeepNetsError, FormatError, Network, NetworkConfig
from deepnets.architecture import encode
from deepnets.corpus import compute_statistics, write_corpus
from deepnets.data import load_images
from deepnets.support import BusyError, Parser, import_torchvision
from ghn_model import GHN, GHNConfig, save_checkpoint, vary
from ghn_model.checkpoints import TensorFile, write_tensors

ROOT = Path(__file__).resolve().parents[3]
CONFIG = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=2)
SHORT = ["--shots", "3", "--epochs", "2", "--batch-size", "16", "--evaluate-after", "1", "--quiet"]
MODULE = """
import os, time
from torch import nn

def plain(num_classes):
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, num_classes)),
    )

second = plain

def slow(num_classes):
    if "SGD_TEST_WAITS" in os.environ:
        time.sleep(600)
    return plain(num_classes)

def broken(num_classes):
    raise RuntimeError("no\\nsuch, luck")
"""
PROGRAM = """
import sys
from benchmark.commands import sgd as sgd_command
from deepnets.support import Parser
parser = Parser()
sgd_command.add_arguments(parser.add_subparsers(parser_class=Parser))
options = parser.parse_args(sys.argv[1:])
options.do(options)
"""


def command(*words: object) -> None:
    parser = Parser(prog="python -m benchmark")
    sgd_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    options = parser.parse_args([str(word) for word in words])
    options.do(options)


def small_ghn(num_classes: int = 10, seed: int = 0) -> GHN:
    torch.manual_seed(seed)
    config = GHNConfig.preset("ghn2", num_classes).to_dict() | {"hidden": 8, "max_shape": (16, 16, 3, 3)}
    return GHN(GHNConfig.from_dict(config))


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of networks, which is on the path."""
    (tmp_path / "sgd_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sgd_nets", raising=False)
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus of three small networks."""
    records = encode([CONFIG, CONFIG.replace(norm=None), CONFIG.replace(C=4)])
    statistics, rows = compute_statistics(records)
    statistics["candidate"] = np.arange(3)
    columns = {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}
    write_corpus(tmp_path / "deepnets1m_test.h5", {"split": "test", "seed": 0}, columns, [rows])
    return tmp_path


def without_seconds(path: Path) -> str:
    return str(pd.read_csv(path / "curves.csv", dtype=str).drop(columns="seconds").to_csv())


# --- the commands ---


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
    assert (accuracy.top1, accuracy.top5) == tuple(table.loc[1, ["top1", "top5"]])


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
    # A trained network can be trained on.
    command("finetune", "--index", "0", "--data", data, "--init", f"on={out / 'random'}", "--out", out, *SHORT)
    later = Curves(out).table()
    assert later[later["predictor"] == "on"]["status"].eq("ok").all()
    assert later[: len(table)].equals(table)


def test_failures_are_rows_and_can_be_tried_again(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        (["--index", "7"], "index: split test has networks 0 to 2, there is no 7"),
        (["--model", "sgd_nets:plain", "--index", "1"], "--index: is for networks of a --split"),
        (["--model", "sgd_nets:plain", "sgd_nets:plain"], "model: named twice: models-sgd_nets-plain"),
        (["--init", "random", "random"], "--init: random is given twice; give one another label, as in again=random"),
        (["--init", "nowhere"], "init: no such file: 'nowhere'; expected one of random"),
        (["--init", "a b=random"], "init: 'a b' cannot be a label"),
        (["--shots", "999"], "n: class . of digits .train. has only 1.. images, expected 999"),
        (["--image-split", "val", "--train-on", "trainval"], "--train-on: trainval contains the images for evaluation"),
        (["--device", "nonsense"], "--device: cannot use 'nonsense'"),
        (["--label-smoothing", "1"], "label_smoothing: expected"),
        (["--split", "nonsense"], "split: unknown 'nonsense'"),
        (["--split", "torchvision:resnet18"], "--split: expected a split of the corpus"),
    ],
)
def test_options_are_checked(nets: Path, data: Path, words: list[str], message: str) -> None:
    with pytest.raises(DeepNetsError, match=message):
        command("sgd", "--data", data, "--out", nets / "out", "--quiet", *words)


@pytest.mark.parametrize("text", ["a", "1-3", "", "1,,2", "1:2:3", "-1"])
def test_indices_are_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("sgd", f"--index={text}")
    assert "argument --index: expected numbers and ranges as in 0:10" in capsys.readouterr().err


def test_indices() -> None:
    assert _indices("0:3,7,2,:1,8:", 10) == [0, 1, 2, 7, 8, 9]
    assert _indices("8:30", 10) == [8, 9]
    assert _indices("30", 10) == [30]  # not there, which is an error where the split is known


# --- going on ---


def test_after_a_sigkill_the_same_rows_come_out(nets: Path) -> None:
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


def test_rows_that_were_half_written_are_dropped(nets: Path) -> None:
    out = nets / "out"
    command("sgd", "--model", "sgd_nets:plain", "sgd_nets:second", "sgd_nets:broken", "--out", out, *SHORT)
    whole = (out / "curves.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    rows = [0, 0, 2, 2, 4, 5]  # that are kept, by the number of whole lines that are there: a training has two
    for cut in range(0, len(whole) + 1, 7):
        (out / "curves.csv").write_bytes(whole[:cut])
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
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(FormatError, match=r"curves.csv: is no table"):
        Curves(tmp_path).opened().__enter__()
    assert (tmp_path / "curves.csv").read_bytes() == content


# --- where trainings start ---


def saved(tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None], classes: int = 10) -> Path:
    torch.manual_seed(7)
    write(Network(CONFIG, classes).state_dict(), tmp_path / "saved")
    return tmp_path / "saved"


WRITERS: list[Callable[[Any, Path], None]] = [
    lambda state, path: write_tensors(path, state, {}),
    torch.save,
    lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
]


@pytest.mark.parametrize("write", WRITERS)
def test_saved_parameters(tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    start = open_start(str(saved(tmp_path, write)))
    torch.manual_seed(7)
    wanted = Network(CONFIG).state_dict()
    model = Network(CONFIG)
    net = initialized(model, start, num_classes=10)
    assert start.label == "saved"
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in wanted.items())
    assert not torch.equal(model.classifier[0].weight, net.classifier[0].weight)


def test_layers_of_other_classes_stay_random(tmp_path: Path) -> None:
    start = open_start(str(saved(tmp_path, torch.save, classes=7)))
    model = Network(CONFIG)
    net = initialized(model, start, num_classes=10)
    assert torch.equal(net.classifier[0].weight, model.classifier[0].weight)
    assert torch.equal(net.classifier[0].bias, model.classifier[0].bias)
    assert not torch.equal(net.stem[0].weight, model.stem[0].weight)
    for ghn, taken in ((small_ghn(), True), (small_ghn(7), False)):
        net = initialized(model, Start("x", ghn=ghn), num_classes=10)
        predicted = ghn.predict(model, predict_class_layers=taken)
        assert ("classifier.0.weight" in predicted) == taken
        for name, parameter in net.named_parameters():
            assert torch.equal(parameter, predicted.get(name, dict(model.named_parameters())[name]))


def test_noise_and_orthogonal_matrices_are_for_predictions() -> None:
    recipe = SGDRecipe(noise=1e-3, orthogonal_from=2)
    model, ghn = Network(CONFIG), small_ghn()
    net = initialized(model, Start("x", ghn=ghn), num_classes=10, recipe=recipe, seed=5)
    wanted = vary(model, ghn.predict(model), 1e-3, 2, seed=5)
    assert all(torch.equal(parameter, wanted[name]) for name, parameter in net.named_parameters())
    net = initialized(model, Start(), num_classes=10, recipe=recipe)
    assert all(
        torch.equal(parameter, dict(model.named_parameters())[name]) for name, parameter in net.named_parameters()
    )


def test_larger_kernels_are_cut_to_their_middle() -> None:
    large, small = nn.Sequential(nn.Conv2d(3, 4, 7)), nn.Sequential(nn.Conv2d(3, 4, 3))
    net = initialized(small, Start("x", tensors=large.state_dict()), num_classes=10)
    assert torch.equal(net[0].weight, large[0].weight[:, :, 2:5, 2:5])


LINEAR = {"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(4)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.bias": torch.zeros(4)}, "lacks 1 parameters of the network: 0.weight"),
        (
            {"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(4), "x": torch.zeros(1)},
            "has x, which the network does not have",
        ),
        (
            {"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(4)},
            r"0.weight has shape \(4, 3\) in the file, \(4, 2\)",
        ),
        ({"0.weight": torch.zeros(4, 2), "0.bias": torch.full((4,), torch.nan)}, "init mine: 0.bias is not finite"),
    ],
)
def test_parameters_that_do_not_fit(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        initialized(nn.Sequential(nn.Linear(2, 4)), Start("mine", tensors=tensors), num_classes=10)


def test_files_that_are_no_start(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": print}, tmp_path / "code.pt")
    for name in ("text.pt", "list.pt", "code.pt"):
        with pytest.raises(DeepNetsError, match=name):
            open_start(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"test-4.safetensors: no such file"):
        initialized(nn.Linear(2, 2), open_start(str(tmp_path)), num_classes=2, name="test-4")
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    assert open_start(str(tmp_path / "ghn.safetensors")).label == tmp_path.name
    assert read_state(tmp_path / "ghn.safetensors").keys() == small_ghn().state_dict().keys()


# --- tables ---


def test_means_are_over_networks_that_did_not_fail(tmp_path: Path) -> None:
    def row(index: int, epoch: int, top1: float, status: str = "ok") -> dict[str, Any]:
        texts = {"predictor": "a", "split": "test", "network": "", "images": "digits", "status": status, "reason": ""}
        return {**dict.fromkeys(COLUMNS, 1.0), **texts, "index": index, "epoch": epoch, "top1": top1}

    rows = [row(0, 1, 10.0), row(0, 2, np.nan), row(0, 3, 30.0), row(1, 1, 20.0), row(1, 3, 50.0)]
    table = pd.DataFrame([*rows, row(2, 0, np.nan, "failed")])
    means = mean_curves(table)
    assert means["epoch"].tolist() == [1, 3]
    assert means["mean"].tolist() == [15.0, 40.0]
    assert means["standard_error"].tolist() == pytest.approx([5 / 2**0.5, 10 / 2**0.5])
    assert means["networks"].tolist() == [3, 3]
    assert means["failures"].tolist() == [1, 1]
    assert curves_text(table).splitlines()[1:] == [
        "   epoch          a",
        "       1   15.0±3.5",
        "       3   40.0±7.1",
        "networks          3",
        "  failed          1",
    ]
    assert draw_curves(table, tmp_path / "a.png")
    failed = table[table["status"] == "failed"]
    assert curves_text(failed).splitlines()[-1].split() == ["failed", "1"]
    assert not draw_curves(failed, tmp_path / "b.png")
    assert curves_text(table[:0]) == "no network has been trained yet"
