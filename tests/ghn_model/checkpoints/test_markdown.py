"""Cards as Markdown: the header is YAML, the figures are those of the card, and texts cannot break the page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ghn_model import GHNConfig, list_pretrained
from ghn_model.checkpoints import PRETRAINED, markdown_card, model_card, read_config

CONFIG = GHNConfig(hidden=8)


def header(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    assert text.startswith("---\n")
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


@pytest.mark.parametrize("name", list_pretrained())
def test_bundled_cards_are_written_as_markdown(name: str) -> None:
    text = (PRETRAINED / f"{name}.md").read_text()
    assert text == markdown_card(name, model_card(name), read_config(name))
    card, found = model_card(name), header(text)
    assert (found["license"], found["library_name"]) == ("mit", "deepnets1m")
    (index,) = found["model-index"]
    values = {each["dataset"]["split"]: each["metrics"][0]["value"] for each in index["results"]}
    assert values == {split: each["mean_top1"] for split, each in card["results"].items() if "mean_top1" in each}
    assert all(each["task"]["type"] == "image-classification" for each in index["results"])
    for split, each in card["results"].items():
        (row,) = re.findall(rf"^\| {split} \| ([\d.]+)", text, re.MULTILINE)
        assert float(row) == pytest.approx(each.get("mean_top1", each.get("top1")), abs=0.006)
    assert card["command"][-1] in text


def test_a_single_network_has_no_standard_error() -> None:
    text = (PRETRAINED / "ghn2-digits.md").read_text()
    assert "| wide | 96.66 | 96.66 | 1 | 0 |  |" in text
    assert "| test | 91.90 ± 1.55 | 99.00 | 100 | 0 |  |" in text


def test_published_results_and_failures() -> None:
    card = {
        "results": {
            "test": {"mean_top1": 60.0, "standard_error": 1.5, "best_top1": 70.0, "networks": 10, "failures": 2},
            "vit": {"top1": None},
            "wide": {"mean_top1": 50.0, "networks": 10, "failures": 0},
        },
        "published": {"test": {"mean_top1": 66.88, "standard_error": 0.35, "networks": 500}, "vit": {"top1": 11.41}},
    }
    text = markdown_card("x", card, CONFIG)
    assert "| test | 60.00 ± 1.50 | 70.00 | 10 | 2 | 66.88 ± 0.35 |" in text
    assert "| vit | failed |  | 1 | 1 | 11.41 |" in text
    assert "| wide | 50.00 |  | 10 | 0 |  |" in text


def test_other_metrics() -> None:
    card = {
        "results": {"test": {"mean_perplexity": 16.4, "standard_error": 0.4, "best_perplexity": 15.0, "networks": 12}}
    }
    text = markdown_card("x", card, CONFIG)
    assert "| test | 16.40 ± 0.40 | 15.00 | 12 |" in text
    (result,) = header(text)["model-index"][0]["results"]
    assert result["task"]["type"] == "text-generation"
    assert result["metrics"] == [{"type": "perplexity", "value": 16.4}]


def test_an_empty_card() -> None:
    text = markdown_card("user/name", {}, CONFIG)
    assert header(text) == {
        "library_name": "deepnets1m",
        "tags": ["graph-neural-network", "hypernetwork", "parameter-prediction"],
    }
    assert "# name\n" in text
    assert "## Results" not in text
    assert "## Training" not in text
    assert "| `hidden` | 8 |" in text


def test_commands_can_be_copied() -> None:
    command = "deepnets train --preset ghn2 \\\n    --images digits | tee 'my  log.txt'"
    text = markdown_card(
        "x", {"command": [command, "a\x1b`\x00``\r\nb", None], "about": "a | b", "licence": "a | b"}, CONFIG
    )
    block = re.findall(r"```sh\n(.*?)\n```\n", text, re.DOTALL)
    assert block == ["deepnets train --preset ghn2 \\\n  --images digits | tee 'my  log.txt'\na\n  b"]
    assert "A | b." in text
    assert header(text)["license"] == "a | b"


def test_texts_stay_in_their_place() -> None:
    hostile = 'x\n---\nlicense: other\n# Title | <b>"\\ \x1b[31m'
    card = {
        "about": hostile,
        "licence": hostile,
        "limits": hostile,
        "hardware": hostile,
        "command": [f"python\n```\n{hostile}", 3, None],
        "results": {hostile: {"mean_top1": 1.0, "networks": 2, "failures": 0}, "y": "no mapping"},
        "data": ["no mapping"],
    }
    text = markdown_card("x", card, CONFIG)
    found = header(text)
    assert found["license"].startswith("x --- license: other")
    assert found["model-index"][0]["results"][0]["dataset"]["split"].startswith("x --- license: other")
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# x"]
    assert text.count("\n```") % 2 == 0
    assert "\x1b" not in text
    for line in text.splitlines():
        if line.startswith("| hardware"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3
