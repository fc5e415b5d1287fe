"""Cards of the bundles of the package, commands in cards, and the published results."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest

from benchmark.cards import PUBLISHED, bundle
from benchmark.cards.training_run import read_training, training_command
from deepnets.support import Parser
from ghn_model import GHN, describe
from ghn_model.checkpoints import PRETRAINED, list_pretrained, model_card, save_checkpoint
from ghn_model.commands.hypernetwork_options import config_from
from ghn_model.commands.train import add_arguments, recipe_from
from ghn_model.config import GHNConfig
from ghn_model.training import Recipe
from tests.support.bundles import STEPS, Made, altered, card_at, digest_of, load_metadata, rows

# --- bundles of the package ---


@pytest.mark.parametrize("name", list_pretrained())
def test_cards_agree_with_their_files(name: str) -> None:
    card, path = model_card(name), PRETRAINED / f"{name}.safetensors"
    assert card["sha256"] == digest_of(path)
    recipe = Recipe.from_dict(card["recipe"])
    assert card["networks_seen"] == card["steps"] * recipe.meta_batch_size
    assert (card["images_per_network"], card["seed"], card["licence"]) == (recipe.batch_size, recipe.seed, "MIT")
    for split, found in card["results"].items():
        figure = found.get("mean_top1", found.get("top1"))
        assert figure is None or 0 <= figure <= found.get("best_top1", 100) <= 100, split
    if test := card["results"].get("test"):
        assert f"{test['mean_top1']:.0f} % on {test['networks']} networks" in card["about"]
    log = rows(PRETRAINED / card["log"])
    later = card["steps"] - int(log[-1]["step"])  # steps after the last row, if the training was stopped
    assert 0 <= later < (50 if "unfinished" in card else 1)
    share = int(log[-1]["step"]) / card["steps"]
    assert float(log[-1]["seconds"]) / 60 == pytest.approx(share * card["minutes"], abs=0.1)
    last = [float(row["top1"]) for row in log[-10:]]
    assert card["last_training_top1"] == pytest.approx(sum(last) / len(last), abs=0.051)


@pytest.mark.parametrize("name", list_pretrained())
def test_commands_of_cards_give_their_hypernetworks_and_recipes(name: str) -> None:
    card = model_card(name)
    options, recipe = options_of(card["command"][-1])
    assert name.removesuffix("-60k") == f"{options.preset}-{options.images}"
    assert config_from(options, 10, 32) == describe(name).config
    assert recipe == Recipe.from_dict(card["recipe"]).replace(channels_last=None)  # the cards were made on a CPU


# --- commands ---


def options_of(text: str) -> tuple[argparse.Namespace, Recipe]:
    """Return the options and the recipe that the command line parses from a command."""
    parser = Parser()
    add_arguments(parser.add_subparsers(parser_class=Parser))
    words = text.partition("#")[0].split()
    start = words.index("-m")
    assert words[:start] == ["python"] or words[0] == "torchrun"
    assert words[start + 1] in ("deepnets", "ghn_model")
    options = parser.parse_args(words[start + 2 :])
    return options, recipe_from(options, "cpu")


@pytest.mark.slow
def test_recorded_commands_are_used(trained: Path, tmp_path: Path) -> None:
    command = f"python -m ghn_model train --preset ghn1 --out {tmp_path} --seed 3 --data=/data/corpus"
    expected = "python -m ghn_model train --preset ghn1 --out FOLDER --seed 3 --data=FOLDER"
    for place, recorded in enumerate((command, command.split())):
        folder = altered(trained, tmp_path / f"run{place}", command=recorded)
        assert card_at(bundle(folder, f"x{place}", tmp_path))["command"] == [expected]


def test_trainings_with_several_processes(trained: Path, tmp_path: Path) -> None:
    """Earlier versions recorded the command of one process, and multiplied steps with the size of a meta-batch."""
    several = {"hardware": "2 processes with 1 of 2 cores", "command": "python -m ghn_model train --seed 3"}
    for place, changes in enumerate(
        (
            {**several, "processes": None, "networks": None},
            {
                "hardware": "2 processes with 1 of 2 cores each",
                "command": "torchrun --nproc-per-node 2 -m ghn_model train --seed 3",
                "processes": 2,
                "networks": 2 * STEPS,
            },
        )
    ):
        card = card_at(bundle(altered(trained, tmp_path / f"run{place}", **changes), f"x{place}", tmp_path))
        assert card["command"] == ["torchrun --nproc-per-node 2 -m ghn_model train --seed 3"]
        assert card["hardware"] == "2 processes with 1 of 2 cores each"
        assert card["networks_seen"] == 2 * STEPS
    fewer = altered(trained, tmp_path / "fewer", networks=7)
    assert card_at(bundle(fewer, "fewer", tmp_path))["networks_seen"] == 7


@pytest.mark.parametrize("minutes", [75.0, 0.1, 1_234_567.5])
def test_commands_that_were_not_recorded(trained: Path, tmp_path: Path, minutes: float) -> None:
    length = {"minutes": minutes, "steps": 1_501_200}
    folder = altered(trained, tmp_path / "run", command=None, images="cifar10", length=length)
    text = training_command(read_training(folder))
    start = "python -m ghn_model train --preset ghn1 --images cifar10 --image-root FOLDER --weight-init small"
    assert text.startswith(f"{start} --max-shape 16 16 11 11 --dirac --width-invariant --minutes ")
    assert text.endswith(" --steps 1501200  # for other options, see recipe")
    assert float(text.split()[text.split().index("--minutes") + 1]) == minutes
    digits = training_command(read_training(altered(trained, tmp_path / "digits", command=None, length=length)))
    assert digits.startswith("python -m ghn_model train --preset ghn1 --images digits --minutes ")


def test_hypernetworks_without_a_preset(trained: Path, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path / "run", command=None, images="my own")
    ghn = GHN(GHNConfig.preset("ghn1", 10, 32, hidden=8))
    save_checkpoint(ghn, folder / "ghn.safetensors", load_metadata(folder / "ghn.safetensors"))
    card = card_at(bundle(folder, "x", tmp_path))
    assert card["about"].startswith("Hypernetwork for my own, ")
    assert "--preset PRESET" in card["command"][-1]
    assert card["task"] == "predicts all parameters of image classifiers for 10 classes"


# --- published results ---


def test_published_results() -> None:
    """Check the published row of GHN-2 and the number of columns."""
    assert PUBLISHED["ghn2"]["test"] == {
        "mean_top1": 66.88,
        "standard_error": 0.35,
        "best_top1": 77.12,
        "best_index": 210,
        "networks": 500,
        "failures": 0,
    }
    assert PUBLISHED["ghn2"]["resnet50"] == {"top1": 58.62}
    assert {len(row) for row in PUBLISHED.values()} == {7}


@pytest.mark.skipif(
    "DEEPNETS_PUBLISHED" not in os.environ, reason="needs the published files: DEEPNETS_PUBLISHED=FOLDER"
)
def test_published_results_agree_with_the_published_files() -> None:
    from benchmark.literature import load
    from benchmark.literature.tables import accuracies

    table = accuracies(load(os.environ["DEEPNETS_PUBLISHED"]))
    for preset, method in (("mlp", "MLP"), ("ghn1", "GHN-1"), ("ghn2", "GHN-2")):
        for split, found in PUBLISHED[preset].items():
            column = "network" if "top1" in found else "split"
            row = table[(table["method"] == method) & (table[column] == split)].iloc[0]
            names = {"mean_top1": "mean", "top1": "mean", "best_top1": "best"}
            for name, value in found.items():
                assert round(float(row[names.get(name, name)]), 2) == value, (preset, split, name)


def test_the_example_of_a_card_of_ones_own_reads_the_file_beside_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.path.parent)
    text = made.path.with_suffix(".md").read_text(encoding="utf-8")
    (name,) = re.findall(r'GHN\.from_pretrained\("(.*?)"', text)
    assert isinstance(GHN.from_pretrained(name), GHN)
    assert "\n# ghn1-digits\n" in text
