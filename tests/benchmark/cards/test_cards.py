"""Bundles and their cards: those that come with the package, and one that is made here."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmark.cards import PUBLISHED, bundle, make_card
from benchmark.cards.training_run import read_training, training_command
from deepnets.support import CheckpointError, ConfigError, FormatError, Parser
from ghn_model import GHN, load_checkpoint
from ghn_model.checkpoints import PRETRAINED, list_pretrained, save_checkpoint
from ghn_model.checkpoints.files import model_card
from ghn_model.commands import CHANGES
from ghn_model.commands.train import add_arguments
from ghn_model.config import GHNConfig
from ghn_model.training import Recipe
from tests.support.small_corpus import write_small_corpus
from tests.support.training_runs import command, run

STEPS = 6


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by the command line: of a hypernetwork with a preset, as small as such are."""
    out = tmp_path_factory.mktemp("run")
    done = run(command(corpus, out, images="digits", preset="ghn1", steps=STEPS, log_steps=1))
    assert done.returncode == 0, done.stderr
    return out


class Made(NamedTuple):
    """A bundle with a card, and results of it and of the file it was made from."""

    path: Path
    results: Path


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Not to be changed; copy it."""
    folder = tmp_path_factory.mktemp("made")
    given = {"limits": "a test", "corpus_command": "make corpus"}
    path, results = bundle(trained, "ghn1-digits", folder / "bundles", given=given), folder / "results"
    (folder / "small").mkdir()
    data = write_small_corpus(folder / "small", "test", "wide")
    predictors = [str(path), f"raw={trained / 'ghn.safetensors'}"]
    words = ["--splits", "test,wide", "--limit", "3,wide=4", "--data", str(data), "--out", str(results), "--quiet"]
    done = run(["-m", "benchmark", "run", "--predictors", *predictors, *words, "--no-report", "--jobs", "1"])
    assert done.returncode == 0, done.stderr
    return Made(path, results)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """The same, to be changed."""
    shutil.copytree(made.path.parent, tmp_path / "bundles")
    shutil.copytree(made.results, tmp_path / "results")
    return Made(tmp_path / "bundles" / made.path.name, tmp_path / "results")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def card_at(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text()))


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change_runs(results: Path, change: Any) -> None:
    """Change what `runs.json` says about each run."""
    runs = json.loads((results / "runs.json").read_text())
    for about in runs.values():
        change(about)
    (results / "runs.json").write_text(json.dumps(runs))


def altered(trained: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a training whose file says something else; None for nothing."""
    shutil.copytree(trained, folder)
    known = {**load_metadata(trained / "ghn.safetensors"), **changes}
    known = {name: value for name, value in known.items() if value is not None}
    save_checkpoint(load_checkpoint(trained / "ghn.safetensors"), folder / "ghn.safetensors", known)
    return folder


def load_metadata(path: Path) -> dict[str, Any]:
    from ghn_model import describe

    return describe(path).metadata


# --- what comes with the package ---


@pytest.mark.parametrize("name", list_pretrained())
def test_cards_say_what_files_say(name: str) -> None:
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
    assert int(log[-1]["step"]) == card["steps"]
    assert float(log[-1]["seconds"]) / 60 == pytest.approx(card["minutes"], abs=0.1)
    last = [float(row["top1"]) for row in log[-10:]]
    assert card["last_training_top1"] == pytest.approx(sum(last) / len(last), abs=0.051)


@pytest.mark.parametrize("name", list_pretrained())
def test_commands_of_cards_give_their_recipes(name: str) -> None:
    card = model_card(name)
    parsed, images = recipe_of(card["command"][-1])
    assert name == f"{parsed[0]}-{images}"
    assert parsed[1] == Recipe.from_dict(card["recipe"]).replace(channels_last=None)  # cards of a CPU


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


def test_recorded_commands_are_used(trained: Path, tmp_path: Path) -> None:
    command = f"python -m ghn_model train --preset ghn1 --out {tmp_path} --seed 3 --data=/data/corpus"
    expected = "python -m ghn_model train --preset ghn1 --out FOLDER --seed 3 --data=FOLDER"
    for place, recorded in enumerate((command, command.split())):
        folder = altered(trained, tmp_path / f"run{place}", command=recorded)
        assert card_at(bundle(folder, f"x{place}", tmp_path))["command"] == [expected]


@pytest.mark.parametrize("minutes", [75.0, 0.1, 1_234_567.5])
def test_commands_that_were_not_recorded(trained: Path, tmp_path: Path, minutes: float) -> None:
    length = {"minutes": minutes, "steps": 1_501_200}
    folder = altered(trained, tmp_path / "run", command=None, images="cifar10", length=length)
    text = training_command(read_training(folder))
    assert text.startswith("python -m ghn_model train --preset ghn1 --images cifar10 --image-root FOLDER --minutes ")
    assert text.endswith(" --steps 1501200  # for other options, see recipe")
    assert float(text.split()[text.split().index("--minutes") + 1]) == minutes


def test_hypernetworks_without_a_preset(trained: Path, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path / "run", command=None, images="my own")
    ghn = GHN(GHNConfig.preset("ghn1", 10, 32, hidden=8))
    save_checkpoint(ghn, folder / "ghn.safetensors", load_metadata(folder / "ghn.safetensors"))
    card = card_at(bundle(folder, "x", tmp_path))
    assert card["about"].startswith("Hypernetwork for my own, ")
    assert "--preset PRESET" in card["command"][-1]
    assert card["task"] == "predicts all parameters of image classifiers for 10 classes"


# --- from a training to a card ---


def card_command(*words: object) -> subprocess.CompletedProcess[str]:
    return run(["-m", "benchmark", "card", *map(str, words)])


def test_first_without_results(made: Made, trained: Path) -> None:
    path = made.path
    assert path.stat().st_size < 0.6 * (trained / "ghn.safetensors").stat().st_size
    card = card_at(path)
    assert (card["sha256"], card["results"], card["evaluation"]) == (digest_of(path), {}, [])
    assert (card["steps"], card["networks_seen"], card["limits"]) == (STEPS, 2 * STEPS, "a test")
    assert card["precision"] == "weights are stored in half precision"
    assert rows(path.parent / card["log"]) == rows(trained / "log.csv")
    corpus_command, training = card["command"]
    assert corpus_command == "make corpus"
    assert training.startswith("python -m ghn_model train --data FOLDER --out FOLDER --device cpu ")
    assert f"--steps {STEPS}" in training
    assert GHN.from_pretrained(str(path)).config == GHNConfig.preset("ghn1", 10, 32)
    assert not {"published", "unfinished", "log_about"} & card.keys()


@pytest.mark.parametrize("with_run", [True, False])
def test_then_with_results(copied: Made, trained: Path, with_run: bool) -> None:
    path, results = copied
    before = card_at(path)
    words = ["--name", "ghn1-digits", "--out", path.parent, "--results", results, "--images-about", "seen"]
    done = card_command(*([trained] if with_run else []), *words)
    assert done.returncode == 0, done.stderr
    card = card_at(path)
    assert card["sha256"] == before["sha256"] == digest_of(path)
    table = [row for row in rows(results / "networks.csv") if (row["split"], row["predictor"]) == ("test", path.stem)]
    top1 = [float(row["top1"]) for row in table]
    mean = sum(top1) / 3
    assert card["results"]["test"] == {
        "mean_top1": pytest.approx(mean, abs=0.005),
        "standard_error": pytest.approx((sum((value - mean) ** 2 for value in top1) / 9) ** 0.5, abs=0.005),
        "best_top1": pytest.approx(max(top1), abs=0.005),
        "best_index": top1.index(max(top1)),
        "networks": 3,
        "failures": 0,
    }
    assert list(card["results"]) == ["test", "wide"]
    assert card["about"].endswith(f"; {card['results']['test']['mean_top1']:.0f} % on 3 networks of test")
    assert "of each split the first networks" in card["results_about"]
    assert "rounded" not in card["results_about"]
    assert card["evaluation"] == [
        "python -m benchmark run --predictors ghn1-digits raw=FILE --splits test,wide --limit 3,wide=4 "
        "--data FOLDER --out FOLDER --quiet --no-report --jobs 1"
    ]
    changed = ("about", "results", "evaluation", "results_about", "data")
    assert {name: card[name] for name in card if name not in changed} == {
        name: before[name] for name in before if name not in changed
    }
    assert card["data"] == {**before["data"], "images": "seen"}
    assert f"{path}\n{path.with_suffix('.json')}\n{path.with_name('ghn1-digits.log.csv')}\n" in done.stdout
    test = card["results"]["test"]
    assert f"{test['mean_top1']:.2f}±{test['standard_error']:.2f} (3)" in done.stdout
    again = make_card(trained, path)  # which forgets nothing
    assert (again["results"], again["limits"], again["data"]) == (card["results"], "a test", card["data"])


def test_results_of_the_file_of_the_training(copied: Made, trained: Path) -> None:
    """They count where there are none of the bundle itself, and the card says so."""
    path, results = copied
    change_runs(
        results, lambda about: about["predictor"].update(digest="") if about["predictor"]["label"] != "raw" else None
    )
    with pytest.raises(ConfigError, match="has no results of this file"):
        make_card(None, path, results)
    card = make_card(trained, path, results)
    assert card["results"]["wide"]["networks"] == 4
    assert card["results_about"].endswith(
        "; test, wide were evaluated with the weights of the training, before rounding"
    )
    assert "--predictors FILE ghn1-digits=RUN/ghn.safetensors --splits" in card["evaluation"][0]


def test_evaluations_from_python_have_commands(copied: Made) -> None:
    change_runs(copied.results, lambda about: about.update(command="python -m benchmark -x /tests/a.py", seed=3))
    assert make_card(None, *copied)["evaluation"] == [
        "python -m benchmark run --predictors ghn1-digits --splits test --images digits --limit 3 --seed 3",
        "python -m benchmark run --predictors ghn1-digits --splits wide --images digits --limit 4 --seed 3",
    ]


def change_rows(results: Path, **changes: str) -> None:
    """Change columns of the rows of `wide`."""
    table = results / "networks.csv"
    lines = rows(table)
    for row in lines:
        row.update(changes if row["split"] == "wide" else {})
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def test_a_split_that_failed(copied: Made) -> None:
    """Has no figures, and the card is still JSON."""
    change_rows(copied.results, status="failed", top1="", top5="", reason="why not")
    done = card_command("--name", copied.path.stem, "--out", copied.path.parent, "--results", copied.results)
    assert done.returncode == 0, done.stderr
    wide = card_at(copied.path)["results"]["wide"]
    assert (wide["mean_top1"], wide["best_index"], wide["failures"]) == (None, -1, 4)
    assert done.stdout.splitlines()[-1].split() == ["wide", "failed"]


def test_smaller_batches_are_told(copied: Made) -> None:
    change_rows(copied.results, batch_size="32")
    assert make_card(None, *copied)["results_about"].endswith(
        "; 4 networks were evaluated with smaller batches, because memory ran out"
    )


def test_predefined_networks_have_their_names(copied: Made) -> None:
    change_rows(copied.results, network="vit", top1="11.414")
    change_runs(copied.results, lambda about: about.update(split="predefined") if about["split"] == "wide" else None)
    assert make_card(None, *copied)["results"]["vit"] == {"top1": 11.41}


def test_trainings_that_are_not_over(trained: Path, tmp_path: Path) -> None:
    """The file may be older than the log, if the training was killed."""
    folder = altered(
        trained, tmp_path / "run", command=None, steps=4, progress=0.666, length={"minutes": None, "steps": STEPS}
    )
    path = bundle(folder, "x", tmp_path)
    card = card_at(path)
    assert card["unfinished"] == "the training was stopped after 66 % of its budget"
    assert f"--steps {STEPS}" in card["command"][-1]
    log = rows(tmp_path / "x.log.csv")
    assert [int(row["step"]) for row in log] == [1, 2, 3, 4]
    assert card["last_training_top1"] == pytest.approx(sum(float(row["top1"]) for row in log) / 4, abs=0.051)


def test_older_trainings(trained: Path, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path / "run", progress=None, hardware=None, software=None, length=None)
    path = bundle(folder, "x", tmp_path)
    assert card_at(path)["about"] == "GHN-1 for digits, 0 minutes"
    assert card_at(path)["hardware"] == "not recorded"
    path = bundle(folder, "x", tmp_path, given={"hardware": "an abacus"})
    bundle(folder, "x", tmp_path, given={"hardware": "a slide rule"})
    bundle(folder, "x", tmp_path)
    assert card_at(path)["about"] == "GHN-1 for digits, 0 minutes on a slide rule"
    with pytest.raises(ConfigError, match="hardware: the training recorded"):
        make_card(trained, path, given={"hardware": "an abacus"})


def test_what_is_published_stands_beside_ours(trained: Path, tmp_path: Path) -> None:
    recipe = Recipe.preset("ghn1", "cifar10").to_dict()
    folder = altered(trained, tmp_path / "run", images="cifar10", recipe=recipe)
    card = card_at(bundle(folder, "ghn1-cifar10", tmp_path))
    assert card["published"] == {**PUBLISHED["ghn1"], "source": card["published"]["source"]}
    assert "NeurIPS 2021" in card["published"]["source"]
    assert card["about"].startswith("GHN-1 for cifar10, ")


# --- mistakes ---


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    for name in ("", "../x", "a/b", "a b", "-x", "é", "x\n"):
        with pytest.raises(ConfigError, match="name: expected letters"):
            bundle(trained, name, tmp_path)
    with pytest.raises(ConfigError, match=r"has no ghn\.safetensors"):
        bundle(tmp_path, "x", tmp_path)
    with pytest.raises(ConfigError, match="given: unknown licence"):
        bundle(trained, "x", tmp_path, given={"licence": "none"})
    assert list(tmp_path.iterdir()) == []
    path = bundle(trained, "x", tmp_path)
    before = path.read_bytes()
    assert bundle(trained, "x", tmp_path).read_bytes() == before  # the same again is no matter
    with pytest.raises(ConfigError, match="belongs to another training"):
        bundle(trained, "x", tmp_path, half=False)
    with pytest.raises(ConfigError, match="has no results of this file"):
        bundle(trained, "x", tmp_path, half=False, overwrite=True, results=tmp_path)
    assert path.read_bytes() == before
    assert card_at(path)["sha256"] == digest_of(path)
    bundle(trained, "x", tmp_path, half=False, overwrite=True)
    assert card_at(path)["precision"] == "weights are stored as trained"
    (tmp_path / "run").mkdir()
    save_checkpoint(load_checkpoint(path), tmp_path / "run" / "ghn.safetensors")
    shutil.copy(trained / "log.csv", tmp_path / "run")
    with pytest.raises(FormatError, match="no valid recipe: None"):
        bundle(tmp_path / "run", "y", tmp_path)
    done = card_command(tmp_path / "nothing", "--name", "x", "--out", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_files_of_others_stay(trained: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json", ".log.csv"):
        there = tmp_path / f"x{suffix}"
        there.write_text("mine")
        with pytest.raises(ConfigError, match=f"x{suffix}: belongs to another training"):
            bundle(trained, "x", tmp_path)
        assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]
        there.unlink()
    (tmp_path / "x.safetensors").write_text("damaged")
    path = bundle(trained, "x", tmp_path, overwrite=True)
    assert card_at(path)["sha256"] == digest_of(path)


def test_weights_of_another_training(trained: Path, made: Made, tmp_path: Path) -> None:
    other = load_checkpoint(trained / "ghn.safetensors")
    next(other.parameters()).data += 1
    path = save_checkpoint(other, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="has other weights"):
        make_card(trained, path, made.results)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sha256": 3}', "[" * 100_000])
def test_cards_that_are_none(copied: Made, trained: Path, text: str) -> None:
    copied.path.with_suffix(".json").write_text(text)
    with pytest.raises(ConfigError, match="is not the card of these weights; give RUN"):
        bundle(None, copied.path.stem, copied.path.parent, results=copied.results)
    assert card_at(bundle(trained, copied.path.stem, copied.path.parent))["limits"] == ""


@pytest.mark.parametrize(
    "change", [{"command": []}, {"results": {"test": 3}}, {"data": None}, {"minutes": "long"}, {"sha256": "0" * 64}]
)
def test_cards_with_damage(copied: Made, change: dict[str, Any]) -> None:
    copied.path.with_suffix(".json").write_text(json.dumps({**card_at(copied.path), **change}))
    with pytest.raises(ConfigError, match="is not the card of these weights"):
        make_card(None, *copied)


def test_nothing_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        bundle(None, "x", tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predictor": None}, ConfigError, "has no results of this file"),
        ({"noise": 0.1}, ConfigError, "has no results of this file"),
        ({"images": "cifar10"}, ConfigError, "has no results of this file"),
        ({"networks": 9}, ConfigError, "test has 3 of 9 networks"),
        ({"networks": "many"}, FormatError, "networks is 'many'; expected an integer"),
        ({"batch_size": None}, FormatError, "batch_size is None; expected an integer"),
    ],
)
def test_results_that_are_none(copied: Made, change: dict[str, Any], error: type[Exception], message: str) -> None:
    before = card_at(copied.path)
    change_runs(copied.results, lambda about: about.update(change))
    with pytest.raises(error, match=message):
        bundle(None, copied.path.stem, copied.path.parent, results=copied.results)
    assert card_at(copied.path) == before


@pytest.mark.parametrize("name", ["runs.json", "networks.csv"])
def test_damaged_results(copied: Made, name: str) -> None:
    (copied.results / name).write_text('{"no": ')
    with pytest.raises((FormatError, ConfigError), match=name):
        make_card(None, *copied)


@pytest.mark.parametrize("text", [None, "", "step,top1\n1,2\n", "step,top1,skipped\none,2,0\n", "\x00\xff"])
def test_logs_that_are_none(trained: Path, tmp_path: Path, text: str | None) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(trained / "ghn.safetensors", tmp_path / "run")
    if text is not None:
        (tmp_path / "run" / "log.csv").write_text(text, encoding="latin-1")
    with pytest.raises((FormatError, ConfigError), match="log"):
        bundle(tmp_path / "run", "x", tmp_path)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_log_of_another_training(trained: Path, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path / "run", steps=STEPS + 1)
    with pytest.raises(
        FormatError, match=f"ends at step {STEPS}, but ghn.safetensors was trained for {STEPS + 1} steps"
    ):
        bundle(folder, "x", tmp_path)


@pytest.mark.parametrize(
    "changes", [{"recipe": {"schedule": {"what": 1}}}, {"recipe": {"colour": 1}}, {"steps": "6"}, {"progress": "all"}]
)
def test_metadata_that_are_none(trained: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises((FormatError, ConfigError), match=next(iter(changes))):
        bundle(altered(trained, tmp_path / "run", **changes), "x", tmp_path)


def test_long_logs_are_thinned(trained: Path, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path / "run", steps=3000)
    lines = (trained / "log.csv").read_text().splitlines()
    row = lines[1].partition(",")[2]
    (folder / "log.csv").write_text("\n".join([lines[0], *(f"{step},{row}" for step in range(1, 3001))]) + "\n")
    path = bundle(folder, "x", tmp_path)
    steps = [int(row["step"]) for row in rows(tmp_path / "x.log.csv")]
    assert len(steps) == 500
    assert (steps[0], steps[-10:]) == (1, list(range(2991, 3001)))
    gaps = [after - before for before, after in pairwise(steps[:490])]
    assert {min(gaps), max(gaps)} <= {5, 6, 7}
    assert card_at(path)["log_about"] == "500 of 3,000 rows at regular intervals, and the last 10 rows"


# --- what is published ---


def test_what_is_published() -> None:
    """The row of the paper that everybody quotes, and where it ends."""
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
def test_what_is_published_is_what_the_files_say() -> None:
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
