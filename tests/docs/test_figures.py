"""Figures in the documents are those of the cards, of the publications and of the measurements."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepnets import DeepNets1M

ROOT = Path(__file__).parents[2]
PRETRAINED = ROOT / "ghn_model" / "pretrained"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_have_the_current_figures(figures: ModuleType) -> None:
    for name in figures.DOCUMENTS:
        text = (ROOT / name).read_text()
        assert figures.with_figures(text) == text, f"{name}: run python docs/figures.py"
        assert text.count("<!-- figures:") == text.count("<!-- /figures -->")
    marked = [path for path in ROOT.glob("docs/**/*.md") if "<!-- figures:" in path.read_text()]
    assert {path.relative_to(ROOT).as_posix() for path in marked} <= set(figures.DOCUMENTS)


def test_the_readme_has_the_accuracies_of_the_cards() -> None:
    """Read the table without the code that wrote it."""
    text = (ROOT / "README.md").read_text()
    cards = [json.loads((PRETRAINED / f"{name}-digits.json").read_text()) for name in ("mlp", "ghn1", "ghn2")]
    (row,) = re.findall(r"^\| `test`, 100 networks \| (.*) \|$", text, re.MULTILINE)
    for cell, card in zip(row.split(" | "), cards, strict=True):
        mean, error, best = map(float, re.fullmatch(r"([\d.]+) ± ([\d.]+) \(([\d.]+)\)", cell).groups())
        found = card["results"]["test"]
        assert (mean, error, best) == pytest.approx(
            (found["mean_top1"], found["standard_error"], found["best_top1"]), abs=0.0501
        )
    rows = re.findall(r"^\| (`\w+`, \d+ networks?|ResNet-50|vision transformer) \|", text, re.MULTILINE)
    assert len(rows) == len(cards[0]["results"])


def test_a_changed_card_changes_the_document(figures: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    original = figures.model_card

    def changed(name: str) -> dict[str, Any]:
        card = original(name)
        if name == "ghn2-digits":
            card["results"]["test"].update(mean_top1=12.34, failures=7)
        return card

    monkeypatch.setattr(figures, "model_card", changed)
    assert "12.3 ± 1.6 (99.0), 7 failed" in figures.with_figures(text)
    assert "12.3 ± 1.6" not in text


def test_the_picture_shows_the_current_curves(figures: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = figures.PICTURE.read_text()
    digest = figures.curves_digest()
    assert f"<dc:description>{digest}</dc:description>" in text, "run python docs/figures.py"
    for part in ("networks seen", "processor time in minutes", "GHN-2, published"):
        assert part in text
    rows = figures.curve_of("ghn2-cifar10")
    monkeypatch.setattr(figures, "curve_of", lambda name: [*rows, rows[0]])
    assert figures.curves_digest() != digest
    assert figures.draw_curves() == figures.draw_curves() != text


def test_single_networks_and_failures(figures: ModuleType) -> None:
    assert figures.mean({"top1": None}) == "failed"
    assert figures.mean({"top1": 28.43}, best=True) == "28.4"
    one = {"mean_top1": 91.64, "standard_error": 0.0, "best_top1": 91.64, "networks": 1, "failures": 0}
    assert figures.mean(one, best=True) == "91.6"


def test_curves_of_different_lengths_share_a_table(figures: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def curve_of(name: str) -> list[dict[str, str]]:
        lengths = {"mlp-x": [1000], "ghn1-x": [1000, 20000], "ghn2-x": [20000]}[name]
        return [{"networks": str(n), "core_seconds": "150", "top1": "31.46", "standard_error": "0.52"} for n in lengths]

    monkeypatch.setattr(figures, "curve_of", curve_of)
    cell = "31.5 ± 0.5 (2 min)"
    assert figures.curves("x").splitlines()[2:] == [
        f"| 1,000 | {cell} | {cell} |  |",
        f"| 20,000 |  | {cell} | {cell} |",
    ]


def test_curves_of_continued_trainings_are_joined(figures: ModuleType) -> None:
    for name, start in figures.CONTINUED.items():
        assert f"--init {start} " in figures.model_card(name)["command"][-1]
        with (figures.PRETRAINED / f"{name}.curve.csv").open(newline="") as file:
            own = list(csv.DictReader(file))
        before, rows = figures.curve_of(start), figures.curve_of(name)
        assert rows[: len(before)] == before
        assert [row["top1"] for row in rows[len(before) :]] == [row["top1"] for row in own]
        assert int(rows[-1]["networks"]) == int(before[-1]["networks"]) + int(own[-1]["networks"])
        for column in ("networks", "core_seconds"):
            numbers = [float(row[column]) for row in rows]
            assert numbers == sorted(numbers)


def test_rows_compare_the_same_networks(figures: ModuleType) -> None:
    of = {"mean_top1": 40.0, "standard_error": 1.0, "best_top1": 50.0, "networks": 100, "failures": 0}
    found = {method: {"test": of, "vit": {"top1": 12.0}} for method in figures.METHODS}
    assert figures.row_of(found, "test", "CIFAR-10, ")[:2] == ["CIFAR-10, `test`, 100 networks", "40.0 ± 1.0 (50.0)"]
    assert figures.row_of(found, "vit") == ["vision transformer", "12.0", "12.0", "12.0"]
    found["mlp"] = {"test": {**of, "networks": 50}}
    with pytest.raises(ValueError, match="different numbers of networks"):
        figures.row_of(found, "test")


def test_digests_in_the_readme_are_those_of_the_corpus(figures: ModuleType, corpus: Path) -> None:
    """Evaluation splits have their published sizes in every corpus, so that their digests are those of the README."""
    compared = 0
    for split, networks, _, digest in figures.measurements()["corpus"]["splits"]:
        if split not in ("train", "search"):
            nets = DeepNets1M(corpus, split)
            assert nets.file is not None
            assert nets.file.content_digest.startswith(digest), split
            assert len(nets) == networks
            nets.close()
            compared += 1
    assert compared == 6
