"""Bundles and their cards: those that come with the package, and one that is made here."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.cards import PUBLISHED, bundle, make_card, training_command
from deepnets.cli import Parser
from deepnets.errors import ConfigError, FormatError
from ghn_model import GHN
from ghn_model.checkpoints import PRETRAINED, list_pretrained, model_card
from ghn_model.config import GHNConfig
from ghn_model.recipe import Recipe
from ghn_model.train_command import CHANGES, add_arguments
from tests.ghn_model.training_runs import command, run

STEPS = 6


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by the command line: of a hypernetwork with a preset, as small as such are."""
    out = tmp_path_factory.mktemp("run")
    done = run(command(corpus, out, images="digits", preset="ghn1", steps=STEPS, log_steps=1))
    assert done.returncode == 0, done.stderr
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- what comes with the package ---


@pytest.mark.parametrize("name", list_pretrained())
def test_cards_say_what_files_say(name: str) -> None:
    card, path = model_card(name), PRETRAINED / f"{name}.safetensors"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    recipe = Recipe.from_dict(card["recipe"])
    assert card["networks_seen"] == card["steps"] * recipe.meta_batch
    assert (card["images_per_network"], card["seed"], card["licence"]) == (recipe.batch, recipe.seed, "MIT")
    for split, found in card["results"].items():
        assert 0 <= found.get("mean_top1", found.get("top1")) <= found.get("best_top1", 100) <= 100, split
    log = rows(PRETRAINED / card["log"])
    assert int(log[-1]["step"]) == card["steps"]
    assert float(log[-1]["seconds"]) / 60 == pytest.approx(card["minutes"], abs=0.1)
    last = [float(row["top1"]) for row in log[-10:]]
    assert card["last_training_top1"] == pytest.approx(sum(last) / len(last), abs=0.051)


@pytest.mark.parametrize("name", list_pretrained())
def test_commands_of_cards_give_their_recipes(name: str) -> None:
    card = model_card(name)
    parsed, images = recipe_of(card["command"][-1])
    assert name == f"{parsed[0]}-{images}"
    assert parsed[1].to_dict() == card["recipe"]


# --- commands ---


def recipe_of(text: str) -> tuple[tuple[str, Recipe], str]:
    """What the real command line makes of a command."""
    parser = Parser()
    add_arguments(parser.add_subparsers(parser_class=Parser))
    words = text.partition("#")[0].split()
    assert words[:3] == ["python", "-m", "ghn_model"]
    options = parser.parse_args(words[3:])
    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name) is not None}
    return (options.preset, Recipe.preset(options.preset, options.images, **changes)), options.images


@settings(max_examples=40, deadline=None)
@given(
    preset=st.sampled_from(["mlp", "ghn1", "ghn2", "ghn3-t"]),
    images=st.sampled_from(["digits", "cifar10"]),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "meta_batch": st.integers(1, 64),
            "batch": st.integers(2, 512),
            "learning_rate": st.floats(1e-6, 1),
            "clip": st.floats(0, 10),
            "average": st.floats(0, 0.999),
            "max_params": st.integers(0, 10**7),
            "augment": st.booleans(),
            "compile": st.booleans(),
            "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
            "seed": st.integers(0, 99),
        },
    ),
)
def test_commands_give_the_recipe_back(preset: str, images: str, changes: dict[str, Any]) -> None:
    recipe = Recipe.preset(preset, images, **changes)
    text = training_command(GHNConfig.preset(preset, 10, 32), recipe, images, {"steps": 7})
    assert recipe_of(text) == ((preset, recipe), images)
    assert " --steps 7" in text


def test_what_no_option_can_say_is_said() -> None:
    recipe = Recipe.preset("ghn2", optimizer="adamw")
    text = training_command(GHNConfig.preset("ghn2"), recipe, "cifar10", {"steps": 7, "length": {"minutes": 2.5}})
    assert text.startswith(
        "python -m ghn_model train --preset ghn2 --images cifar10 --image-folder FOLDER --minutes 2.5"
    )
    assert text.endswith("# from Python: another optimizer, see recipe")


def test_a_config_of_ones_own_has_no_command() -> None:
    with pytest.raises(ConfigError, match="is of no preset"):
        training_command(GHNConfig.preset("ghn2", hidden=8), Recipe(), "cifar10", {"steps": 7})


# --- from a training to a card ---


def card_of(trained: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(["-m", "benchmark", "card", str(trained), "--name", "ghn1-digits", *words])


@pytest.mark.slow
def test_from_a_training_to_a_card(trained: Path, corpus: Path, tmp_path: Path) -> None:
    out, results = tmp_path / "bundles", tmp_path / "results"
    done = card_of(trained, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "no results yet" in done.stdout
    path = out / "ghn1-digits.safetensors"
    assert path.stat().st_size < 0.6 * (trained / "ghn.safetensors").stat().st_size
    first = json.loads(path.with_suffix(".json").read_text())
    assert (first["results"], first["steps"], first["log"]) == ({}, STEPS, "ghn1-digits.log.csv")
    assert rows(out / first["log"]) == rows(trained / "log.csv")
    words = ["--images", "digits", "--splits", "test", "predefined", "--limit", "2", "--data", str(corpus)]
    words += ["--jobs", "1", "--no-report", "--quiet"]
    done = run(["-m", "benchmark", "run", "--predictors", str(path), "--out", str(results), *words])
    assert done.returncode == 0, done.stderr
    done = card_of(
        trained, "--out", str(out), "--results", str(results), "--limits", "a test", "--images-about", "seen"
    )
    assert done.returncode == 0, done.stderr
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == first["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    table = [row for row in rows(results / "networks.csv") if row["split"] == "test"]
    top1 = [float(row["top1"]) for row in table]
    assert card["results"]["test"]["mean_top1"] == pytest.approx(sum(top1) / 2, abs=0.005)
    assert card["results"]["test"]["standard_error"] == pytest.approx(abs(top1[0] - top1[1]) / 2 / 2**0.5, abs=0.005)
    assert set(card["results"]) == {"test", "resnet50", "vit"}
    assert (card["limits"], card["data"]["images"]) == ("a test", "seen")
    assert card["evaluation"] == [
        "python -m benchmark run --predictors ghn1-digits --splits test predefined --images digits --limit 2"
    ]
    assert "test" in done.stdout
    assert GHN.from_pretrained(str(path)).config == GHNConfig.preset("ghn1", 10, 32)


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    for name in ("", "../x", "a b"):
        with pytest.raises(ConfigError, match="name: expected letters"):
            bundle(trained, name, tmp_path)
    with pytest.raises(ConfigError, match=r"has no ghn\.safetensors"):
        bundle(tmp_path, "x", tmp_path)
    path = bundle(trained, "x", tmp_path)
    before = path.read_bytes()
    assert bundle(trained, "x", tmp_path).read_bytes() == before  # the same again is no matter
    with pytest.raises(ConfigError, match="is of another training"):
        bundle(trained, "x", tmp_path, half=False)
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="has none of this very file"):
        make_card(trained, path, tmp_path)
    bundle(trained, "x", tmp_path, half=False, overwrite=True)
    assert make_card(trained, path)["precision"] == "weights are stored as trained"
    done = run(["-m", "benchmark", "card", str(tmp_path / "nothing"), "--name", "x", "--out", str(tmp_path)])
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("text", ["", "step,top1\n1,2\n", "step,top1,skipped\none,2,0\n", "\x00\xff"])
def test_logs_that_are_none(trained: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ghn.safetensors").write_bytes((trained / "ghn.safetensors").read_bytes())
    (tmp_path / "run" / "log.csv").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match="log"):
        bundle(tmp_path / "run", "x", tmp_path)


def test_long_logs_are_thinned(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ghn.safetensors").write_bytes((trained / "ghn.safetensors").read_bytes())
    lines = (trained / "log.csv").read_text().splitlines()
    row = lines[1].partition(",")[2]
    (folder / "log.csv").write_text("\n".join([lines[0], *(f"{step},{row}" for step in range(1, 3001))]) + "\n")
    bundle(folder, "x", tmp_path)
    steps = [int(row["step"]) for row in rows(tmp_path / "x.log.csv")]
    assert len(steps) == 500
    assert (steps[0], steps[-10:]) == (1, list(range(2991, 3001)))
    gaps = [after - before for before, after in pairwise(steps[:490])]
    assert {min(gaps), max(gaps)} <= {5, 6, 7}


def test_what_is_published() -> None:
    """The row of the paper that everybody quotes, and where it ends."""
    assert PUBLISHED["ghn2"]["test"] == "66.88±0.35"
    assert PUBLISHED["ghn2"]["resnet50"] == "58.62"
    assert {len(row) for row in PUBLISHED.values()} == {7}
