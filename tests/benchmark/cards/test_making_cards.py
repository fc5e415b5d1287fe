"""Making cards of trainings, with and without results."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmark.__main__ import main
from benchmark.cards import PUBLISHED, bundle, make_card
from benchmark.cards.results import current_figures, read_card_results
from benchmark.cards.training_run import preset_of
from benchmark.commands.card import _result
from deepnets.support import ConfigError, FormatError
from ghn_model import GHN
from ghn_model.config import GHNConfig
from ghn_model.training import Recipe
from tests.support import made_up_results as made_up
from tests.support.bundles import STEPS, Made, altered, card_at, card_command, change_runs, digest_of, rows


def test_a_card_without_results(made: Made, trained: Path) -> None:
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
    assert GHN.from_pretrained(str(path)).config == GHNConfig.preset("ghn1", 10, 32, kind="cpu")
    assert not {"published", "unfinished", "log_about"} & card.keys()


@pytest.mark.slow
@pytest.mark.parametrize("with_run", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_results_are_added(copied: Made, trained: Path, with_run: bool) -> None:
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
        "successful_mean_top1": card["results"]["test"]["mean_top1"],
        "successful_standard_error": card["results"]["test"]["standard_error"],
    }
    assert list(card["results"]) == ["test", "wide"]
    assert card["about"].endswith(f"; {card['results']['test']['mean_top1']:.0f} % on 3 networks of test")
    assert "of each split the first networks" in card["results_about"]
    assert "rounded" not in card["results_about"]
    assert card["evaluation"] == [
        "python -m benchmark run --predictors ghn1-digits raw=FILE --splits test,wide --limit 3,wide=4 "
        "--data FOLDER --out FOLDER --quiet --no-report --workers 1"
    ]
    changed = ("about", "results", "evaluation", "results_about", "data")
    assert {name: card[name] for name in card if name not in changed} == {
        name: before[name] for name in before if name not in changed
    }
    assert card["data"] == {**before["data"], "images": "seen"}
    assert f"{path}\n{path.with_suffix('.json')}\n{path.with_name('ghn1-digits.log.csv')}\n" in done.stdout
    test = card["results"]["test"]
    assert f"{test['mean_top1']:.2f}±{test['standard_error']:.2f} (3)" in done.stdout
    again = make_card(trained, path)  # without results, those of the card are kept
    assert (again["results"], again["limits"], again["data"]) == (card["results"], "a test", card["data"])


def test_results_of_the_file_of_the_training(copied: Made, trained: Path) -> None:
    """They are used if there are none of the bundle, and the card states this."""
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
        "deepnets bench --predictors ghn1-digits --splits test --images digits --limit 3 --seed 3",
        "deepnets bench --predictors ghn1-digits --splits wide --images digits --limit 4 --seed 3",
    ]


def test_cards_of_families_name_them(trained: Path, tmp_path: Path) -> None:
    run = altered(trained, tmp_path / "run", corpus="resnet-widths/train 4fdbf003082fe330 6a1b61f68eb6a55d")
    networks = card_at(bundle(run, "x", tmp_path))["data"]["networks"]
    assert networks == "resnet-widths/train 4fdbf003082fe330 6a1b61f68eb6a55d; seed 0"


def test_results_of_texts_are_described_as_such(copied: Made) -> None:
    """A perplexity is no accuracy, and a network that failed has none."""
    split = "family:gpt2-widths/test"
    digest = digest_of(copied.path)
    about = {"predictor": {"digest": digest, "spec": "lm"}, "split": split, "images": "python", "networks": 2}
    about |= {"batch_size": 64, "started": "2026-01-01", "task": "text", "metric": "perplexity"}
    about |= {"data_options": {"tokenizer": "bytes", "sequence_length": 32}}
    options = "--texts python --task text --tokenizer bytes --sequence-length 32"
    lines = [made_up.row("r", "lm", split, i, 50.0, perplexity=value) for i, value in enumerate((16.0, ""))]
    lines[1]["status"] = "failed"
    (copied.results / "runs.json").write_text(json.dumps({"r": about}))
    with (copied.results / "networks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    found = read_card_results(copied.results, {digest: "lm"}, "lm", "python", "perplexity")
    assert found.results[split]["mean_perplexity"] == 16.0
    assert found.about.startswith("perplexity on the test part of the texts, batches of 64; ")
    assert found.evaluation == [f"deepnets bench --predictors lm --splits {split} {options}"]
    assert found.about.endswith("; networks for which the hypernetwork failed have no value, and are in no mean")
    assert _result(found.results[split], "perplexity") == "16.00±0.00 (2, 1 failed)"


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


def test_a_split_that_failed(copied: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """A split in which all networks failed has no figures, and the card is valid JSON."""
    change_rows(copied.results, status="failed", top1="", top5="", reason="why not")
    words = ["--name", copied.path.stem, "--out", str(copied.path.parent), "--results", str(copied.results)]
    main(["card", *words])
    wide = card_at(copied.path)["results"]["wide"]
    assert (wide["mean_top1"], wide["best_index"], wide["failures"]) == (0.0, -1, 4)
    assert (wide["best_top1"], wide["successful_mean_top1"]) == (None, None)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["wide", "0.00±0.00", "(4,", "4", "failed)"]
    assert card_at(copied.path)["results_about"].endswith("; networks for which the hypernetwork failed count as 0")


def test_figures_of_cards_of_earlier_versions() -> None:
    """Their means leave out networks that failed; the current figures are those of the accuracies with zeros."""
    values = np.array([10.0, 50.0, 90.0, 30.0])
    old = {"mean_top1": values.mean(), "standard_error": values.std() / 2, "networks": 6, "failures": 2}
    found = current_figures(old)
    padded = np.concatenate([values, [0.0, 0.0]])
    assert found["mean_top1"] == pytest.approx(padded.mean(), abs=0.005)
    assert found["standard_error"] == pytest.approx(padded.std() / 6**0.5, abs=0.005)
    assert (found["successful_mean_top1"], found["failures"]) == (45.0, 2)
    assert current_figures(found) == found
    assert current_figures({"mean_top1": None, "standard_error": None, "networks": 4, "failures": 4})["mean_top1"] == 0
    assert current_figures({"top1": 11.41}) == {"top1": 11.41}


def test_an_earlier_card_gets_current_figures(copied: Made) -> None:
    card = card_at(copied.path)
    card["results"] = {
        "test": {"mean_top1": 60.0, "standard_error": 5.0, "best_top1": 70.0, "best_index": 1}
        | {"networks": 3, "failures": 1}
    }
    copied.path.with_suffix(".json").write_text(json.dumps(card))
    assert make_card(None, copied.path)["results"]["test"]["mean_top1"] == 40.0


def test_smaller_batches_are_stated(copied: Made) -> None:
    change_rows(copied.results, batch_size="32")
    assert make_card(None, *copied)["results_about"].endswith(
        "; 4 networks were evaluated with smaller batches, because memory ran out"
    )


def test_predefined_networks_have_their_names(copied: Made) -> None:
    change_rows(copied.results, network="vit", top1="11.414")
    change_runs(copied.results, lambda about: about.update(split="predefined") if about["split"] == "wide" else None)
    assert make_card(None, *copied)["results"]["vit"] == {"top1": 11.414}


def test_unfinished_trainings(trained: Path, tmp_path: Path) -> None:
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
    path = bundle(folder, "x", tmp_path, given={"hardware": "one GPU"})
    bundle(folder, "x", tmp_path, given={"hardware": "two GPUs"})
    bundle(folder, "x", tmp_path)
    assert card_at(path)["about"] == "GHN-1 for digits, 0 minutes on two GPUs"
    with pytest.raises(ConfigError, match="hardware: the training recorded"):
        make_card(trained, path, given={"hardware": "one GPU"})


def test_published_results_are_added(trained: Path, tmp_path: Path) -> None:
    recipe = Recipe.preset("ghn1", "cifar10").to_dict()
    folder = altered(trained, tmp_path / "run", images="cifar10", recipe=recipe)
    card = card_at(bundle(folder, "ghn1-cifar10", tmp_path))
    assert card["published"] == {**PUBLISHED["ghn1"], "source": card["published"]["source"]}
    assert "NeurIPS 2021" in card["published"]["source"]
    assert card["about"].startswith("GHN-1 for cifar10, ")


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


def test_learning_curves_are_bundled(trained: Path, tmp_path: Path) -> None:
    """Up to the step of the hypernetwork; that of another training does not stay."""
    folder = altered(trained, tmp_path / "run")
    header, first, last, later = "step,networks,top1", "3,6,11.5", f"{STEPS},12,12.5", f"{STEPS + 1},14,9.0"
    (folder / "curve.csv").write_text("\n".join([header, first, last, later]) + "\n")
    card = card_at(bundle(folder, "x", tmp_path))
    assert (tmp_path / card["curve"]).read_text() == f"{header}\n{first}\n{last}\n"
    (folder / "curve.csv").write_text("step\nsoon\n")
    with pytest.raises(FormatError, match=r"curve.csv: is not a learning curve"):
        bundle(folder, "x", tmp_path)
    (folder / "curve.csv").write_text(f"{header}\n")
    assert "curve" not in card_at(bundle(folder, "x", tmp_path))
    assert not (tmp_path / "x.curve.csv").exists()


def test_trainings_for_cpus_have_their_preset() -> None:
    assert preset_of(GHNConfig.preset("ghn1", kind="cpu", init="published")) == "ghn1"
    assert preset_of(GHNConfig.preset("mlp", kind="cpu", hidden=64)) == ""
    for name in ("dirac", "width_invariant"):  # trained before an option was part of the recipe
        assert preset_of(GHNConfig.preset("ghn2", kind="cpu", **{name: False})) == "ghn2"
    assert preset_of(GHNConfig.preset("logah-t")) == "logah-t"
