"""Examples in the documents run, and their links and names of targets exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deepnets.__main__ import main as deepnets_main
from ghn_model import GHN, GHNConfig
from ghn_model.__main__ import main as ghn_model_main
from tests.support.families import imported

ROOT = Path(__file__).parents[1]
PAGES = ("data-card", "design", "benchmark", "families", "protocols", "security", "logah", "own-hypernetwork")
DOCUMENTS = ("README.md", *(f"docs/{page}.md" for page in PAGES), "CONTRIBUTING.md")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


TUTORIAL = "docs/own-hypernetwork.md"  # its examples depend on each other: tests/examples/test_gcn.py
LARGE = "docs/logah.md"
EXAMPLES = [
    pytest.param(document, i, marks=[pytest.mark.slow] if document == LARGE else [])
    for document in DOCUMENTS
    if document != TUTORIAL
    for i in range(len(blocks(document, "python")))
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files named like official checkpoints."""
    files = []
    for name, preset in (("ghn2_imagenet.pt", "ghn2"), ("ghn3tm8.pt", "ghn3-t")):
        files.append(tmp_path_factory.mktemp("checkpoints") / name)
        torch.save({"state_dict": GHN(GHNConfig.preset(preset, 1000, 224)).state_dict()}, files[-1])
    return files


@pytest.fixture
def working_folder(corpus: Path, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a corpus in `data`, as after `make dataset`, and files named like official checkpoints."""
    for link, target in (("data", corpus), *((path.name, path) for path in checkpoints)):
        (tmp_path / link).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("document", "index"), EXAMPLES)
def test_python_examples_run(document: str, index: int, working_folder: Path) -> None:
    block = blocks(document, "python")[index]
    if "transformers" in block:
        pytest.importorskip("transformers")
        imported("transformers")
    source = compile(block, f"example {index} of {document}", "exec")
    exec(source, {"__name__": "example"})


def test_the_reader_in_the_data_card_finds_the_same_graph(working_folder: Path) -> None:
    from deepnets import NODE_TYPES, DeepNets1M

    found: dict[str, object] = {}
    exec(blocks("docs/data-card.md", "python")[0], found)
    graph = DeepNets1M("data", split="test")[0]
    assert (found["edges"] == graph.edges).all()
    assert [name.decode() for name in found["types"]] == [NODE_TYPES[kind] for kind in graph.node_types]


@pytest.mark.slow
def test_shell_examples_of_the_readme(working_folder: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines()]
    commands = [line.split(" -m deepnets ")[1].split() for line in lines if " -m deepnets " in line]
    assert [command[0] for command in commands] == ["export", "import"]
    deepnets_main(commands[0])
    deepnets_main(["import", "original-format", *commands[1][2:]])
    deepnets_main(["verify", "data", "imported", "--quick"])
    deepnets_main(["info"])
    (prediction,) = (line.split(" -m ghn_model ")[1].split() for line in lines if " -m ghn_model " in line)
    ghn_model_main(prediction)
    assert (working_folder / "resnet50.safetensors").stat().st_size > 100e6
    deepnets_main(["draw", "picture.png", "--split", "test", "--index", "7"])
    assert (working_folder / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / document).parent / target).exists(), target


def test_documented_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
