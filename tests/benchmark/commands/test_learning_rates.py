"""Trainings with several learning rates, and the protocols of LoGAH by the command line."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
import torch

from benchmark.baselines import Curves
from benchmark.commands.sgd import add_arguments
from benchmark.commands.training_options import learning_rates, recipe_of
from benchmark.training import PRESET_LRS
from deepnets import ConfigError
from deepnets.support import Parser
from ghn_model import GHN, GHNConfig, save_checkpoint
from ghn_model.checkpoints import TensorFile
from tests.support.sgd_trainings import command

TINY = ["--genotype", "DARTS", "--width", "4", "--cells", "3", "--shots", "2", "--batch-size", "10", "--quiet"]


def options_of(*words: str) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmark")
    add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    return parser.parse_args(["finetune", *words])


@pytest.mark.slow
def test_networks_are_trained_with_each_learning_rate(tmp_path: Path) -> None:
    words = ["finetune", *TINY, "--epochs", "1", "--lrs", "0.01", "5e-05", "--init", "random", "--out", tmp_path]
    command(*words)
    table = Curves(tmp_path).table()
    rates = table[table["epoch"] == 1].set_index("predictor")["learning_rate"].to_dict()
    assert rates == {"random-lr0.01": 0.01, "random-lr5e-05": 5e-05}
    assert (tmp_path / "random-lr5e-05" / "genotypes-DARTS-C4-L3.safetensors").is_file()
    before = (tmp_path / "curves.csv").read_bytes()
    command(*words)
    assert (tmp_path / "curves.csv").read_bytes() == before, "the same command adds nothing"
    command("finetune", *TINY, "--epochs", "1", "--lr", "0.02", "--out", tmp_path)
    assert "random" in Curves(tmp_path).table()["predictor"].tolist()


VIT = """
from deepnets.families import VisionTransformer

def tiny(num_classes=10):
    model = VisionTransformer(layers=2, width=16, heads=2, patch_size=8, num_classes=num_classes)
    model.expected_input_sz = 32
    return model
"""


@pytest.mark.slow
def test_a_vit_is_fine_tuned_from_a_prediction_of_logah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_vits.py").write_text(VIT)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    sizes = {"hidden": 8, "heads": 2, "layers": 1, "rank": 2, "factor_rows": 1024, "max_shape": (64, 64, 16, 16)}
    ghn = GHN(GHNConfig.preset("logah-t", 10, **sizes)).eval()
    save_checkpoint(ghn, tmp_path / "logah.safetensors")
    words = ["finetune", "--protocol", "logah-vit", "--model", "tiny_vits:tiny", "--images", "digits", "--quiet"]
    words += ["--init", str(tmp_path / "logah.safetensors"), "random", "--epochs", "1", "--shots", "3"]
    command(*words, "--lr", "0.1", "--out", tmp_path / "out")
    table = Curves(tmp_path / "out").table()
    assert table["predictor"].tolist() == ["logah", "random"]
    assert table["status"].tolist() == ["ok", "ok"]
    assert table["network"].unique().tolist() == ["tiny_vits:tiny"]
    settings = Curves(tmp_path / "out")._settings()
    assert len(settings) == 2
    for values in settings.values():
        recipe = [values[name] for name in ("optimizer", "momentum", "weight_decay", "lr", "batch_size", "schedule")]
        assert recipe == ["sgd", 0.9, 1e-2, 0.1, 96, "cosine"]
        assert (values["epochs"], values["train"]) == (1, ["train", 30])
    predicted = ghn.predict(importlib.import_module("tiny_vits").tiny())
    norm, moved = float(sum(tensor.square().sum() for tensor in predicted.values())) ** 0.5, {}
    for label in ("logah", "random"):
        (path,) = (tmp_path / "out" / label).glob("*.safetensors")
        state = TensorFile(path).tensors
        moved[label] = float(sum((state[name] - predicted[name]).square().sum() for name in predicted)) ** 0.5
    # One step of SGD with all 30 images, whose gradient is clipped to a norm of 5.
    assert 0 < moved["logah"] <= 1.001 * 0.1 * (5 + 1e-2 * norm) < moved["random"]


def test_protocols_of_logah() -> None:
    options = options_of("--protocol", "logah-vit")
    assert learning_rates(options, "logah-vit") == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert learning_rates(options, "logah-vit-large") == [0.03, 0.04, 0.05, 0.06, 0.1]
    assert learning_rates(options, "logah-vit-imagenet") == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert learning_rates(options, "finetune-100shot") == []
    assert learning_rates(options_of("--protocol", "logah-vit", "--lr", "0.3"), "logah-vit") == []
    recipe = recipe_of(options, "logah-vit")
    assert (recipe.optimizer, recipe.epochs, recipe.weight_decay, recipe.lr) == ("sgd", 100, 1e-2, 0.1)
    large = recipe_of(options, "logah-vit-imagenet")
    assert (large.optimizer, large.epochs, large.weight_decay, large.lr) == ("sgd", 30, 1e-2, 0.1)
    assert (large.batch_size, large.label_smoothing, large.momentum) == (128, 0.1, 0.9)
    assert (large.schedule, large.warmup_epochs, large.color_jitter) == ("cosine", 0, False)
    adamw = recipe_of(options, "logah-vit-adamw")
    assert (adamw.optimizer, adamw.lr, adamw.batch_size, adamw.schedule) == ("adamw", 4e-5, 32, "cosine")
    short = recipe_of(options_of("--protocol", "logah-vit", "--epochs", "10"), "logah-vit")
    assert short.lr_at(10) < 0.01 < short.lr_at(1)
    for name, rates in PRESET_LRS.items():
        assert rates[0] == recipe_of(options, name).lr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lrs", "0.1", "--lr", "0.1"], "--lrs: cannot be combined with --lr"),
        (["--lrs", "0.1", "0.1"], "--lrs: 0.1 is given twice"),
    ],
)
def test_learning_rates_are_checked(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        learning_rates(options_of(*words), "finetune-100shot")
