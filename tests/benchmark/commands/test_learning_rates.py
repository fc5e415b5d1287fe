"""Trainings with several learning rates, and the protocols of LoGAH by the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmark.baselines import Curves
from benchmark.commands.sgd import add_arguments
from benchmark.commands.training_options import learning_rates, recipe_of
from benchmark.training import PRESET_LRS
from deepnets import ConfigError
from deepnets.support import Parser
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


def test_protocols_of_logah() -> None:
    options = options_of("--protocol", "logah-vit")
    assert learning_rates(options, "logah-vit") == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert learning_rates(options, "logah-vit-large") == [0.03, 0.04, 0.05, 0.06, 0.1]
    assert learning_rates(options, "finetune-100shot") == []
    assert learning_rates(options_of("--protocol", "logah-vit", "--lr", "0.3"), "logah-vit") == []
    recipe = recipe_of(options, "logah-vit")
    assert (recipe.optimizer, recipe.epochs, recipe.weight_decay, recipe.lr) == ("sgd", 100, 1e-2, 0.1)
    assert recipe_of(options, "logah-vit-imagenet").epochs == 30
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
