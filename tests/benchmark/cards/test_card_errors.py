"""Invalid arguments, and damaged files of cards, results, logs and trainings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.__main__ import main
from benchmark.cards import bundle, make_card
from deepnets.support import CheckpointError, ConfigError, DeepNetsError, FormatError, MissingDataError
from ghn_model import load_checkpoint
from ghn_model.checkpoints import save_checkpoint
from tests.support.bundles import STEPS, Made, altered, card_at, change_runs, digest_of


@pytest.mark.slow
def test_invalid_arguments(trained: Path, tmp_path: Path) -> None:
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
    assert bundle(trained, "x", tmp_path).read_bytes() == before  # repeating the call is allowed
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
    with pytest.raises(DeepNetsError, match="nothing"):
        main(["card", str(tmp_path / "nothing"), "--name", "x", "--out", str(tmp_path)])


@pytest.mark.slow
def test_files_of_other_trainings_are_kept(trained: Path, tmp_path: Path) -> None:
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sha256": 3}', "[" * 100_000])
def test_files_that_are_no_cards(copied: Made, trained: Path, text: str) -> None:
    copied.path.with_suffix(".json").write_text(text)
    with pytest.raises(ConfigError, match="is not the card of these weights; give RUN"):
        bundle(None, copied.path.stem, copied.path.parent, results=copied.results)
    assert card_at(bundle(trained, copied.path.stem, copied.path.parent))["limits"] == ""


@pytest.mark.parametrize(
    "change", [{"command": []}, {"results": {"test": 3}}, {"data": None}, {"minutes": "long"}, {"sha256": "0" * 64}]
)
def test_damaged_cards(copied: Made, change: dict[str, Any]) -> None:
    copied.path.with_suffix(".json").write_text(json.dumps({**card_at(copied.path), **change}))
    with pytest.raises(ConfigError, match="is not the card of these weights"):
        make_card(None, *copied)


def test_missing_bundles(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        bundle(None, "x", tmp_path)


@pytest.mark.sampled(2)
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
def test_results_that_do_not_fit(copied: Made, change: dict[str, Any], error: type[Exception], message: str) -> None:
    before = card_at(copied.path)
    change_runs(copied.results, lambda about: about.update(change))
    with pytest.raises(error, match=message):
        bundle(None, copied.path.stem, copied.path.parent, results=copied.results)
    assert card_at(copied.path) == before


@pytest.mark.parametrize("name", ["runs.json", "networks.csv"])
def test_damaged_results(copied: Made, name: str) -> None:
    (copied.results / name).write_text('{"no": ')
    with pytest.raises((FormatError, MissingDataError), match=name):
        make_card(None, *copied)


@pytest.mark.parametrize("text", [None, "", "step,top1\n1,2\n", "step,top1,skipped\none,2,0\n", "\x00\xff"])
def test_invalid_logs(trained: Path, tmp_path: Path, text: str | None) -> None:
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
def test_invalid_metadata(trained: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises((FormatError, ConfigError), match=next(iter(changes))):
        bundle(altered(trained, tmp_path / "run", **changes), "x", tmp_path)
