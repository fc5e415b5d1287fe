"""Examples in the documents run, and their links and names of targets exist.

Those of the README run in a new process in a folder with a corpus, as after its first command, and nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepnets.__main__ import main as deepnets_main
from ghn_model import GHN, GHNConfig
from ghn_model.__main__ import main as ghn_model_main
from tests.support.families import imported

ROOT = Path(__file__).parents[1]
README = "README.md"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "tutorials").glob("*.py"))
DOCUMENTS = (README, *PAGES, "CONTRIBUTING.md", "CHANGELOG.md")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


TUTORIAL = "docs/own-hypernetwork.md"  # its examples depend on each other: tests/examples/test_gcn.py
LARGE = "docs/logah.md"
EXAMPLES = [
    pytest.param(document, i, marks=[pytest.mark.slow] if document == LARGE else [])
    for document in DOCUMENTS
    if document not in (TUTORIAL, README)
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


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(blocks(README, "python"))))
def test_the_readme_runs_as_it_is(index: int, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(corpus)
    (tmp_path / "example.py").write_text(blocks(README, "python")[index])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short() -> None:
    assert len((ROOT / README).read_text().splitlines()) <= 145
    assert len(blocks(README, "python")) == 3


def test_commands_of_the_readme_are_targets_with_their_variables() -> None:
    """Every command of the README is a target of the Makefile, with variables that it has."""
    makefile = (ROOT / "Makefile").read_text()
    text = (ROOT / README).read_text()
    commands = [line.partition("#")[0] for block in blocks(README, "sh") for line in block.splitlines()]
    commands += re.findall(r"`(make [^`]*)`", text)
    assert len(commands) >= 6
    for command in commands:
        make, target, *variables = shlex.split(command)
        assert make == "make"
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), command
        for variable in variables:
            assert re.search(rf"^{variable.partition('=')[0]} +\?=", makefile, re.MULTILINE), variable


def test_the_reader_of_files_finds_the_same_graph(working_folder: Path) -> None:
    from deepnets import NODE_TYPES, DeepNets1M

    found: dict[str, object] = {}
    exec(blocks("docs/file-formats.md", "python")[0], found)
    graph = DeepNets1M("data", split="test")[0]
    assert (found["edges"] == graph.edges).all()
    assert [name.decode() for name in found["types"]] == [NODE_TYPES[kind] for kind in graph.node_types]


@pytest.mark.slow
def test_shell_examples_for_files_of_the_originals(working_folder: Path) -> None:
    lines = [line.partition("#")[0] for block in blocks("docs/migration.md", "sh") for line in block.splitlines()]
    commands = {line.split()[1]: line.split()[1:] for line in lines if line}
    assert set(commands) == {"predict", "import", "export"}
    deepnets_main([word.replace("FOLDER", "original-format") for word in commands["export"]])
    deepnets_main([word.replace("FOLDER", "original-format") for word in commands["import"]])
    deepnets_main(["verify", "data", "imported", "--quick"])
    deepnets_main(["info"])
    ghn_model_main(commands["predict"])
    assert (working_folder / "resnet50.safetensors").stat().st_size > 100e6
    pytest.importorskip("matplotlib")
    deepnets_main(["draw", "picture.png", "--split", "test", "--index", "7"])
    assert (working_folder / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("document", [*DOCUMENTS, *SCRIPTS])
def test_links_exist(document: str) -> None:
    """Files exist, and headings in them; pages that the site makes from scripts are linked as scripts."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        path = (ROOT / document).parent / target if target else ROOT / document
        if path.name == "index.md" and not path.exists():
            path = ROOT / README  # the home page of the site
        assert path.exists(), target
        if heading:
            assert heading in headings(path), f"{target}#{heading}"


def headings(path: Path) -> set[str]:
    """Return the anchors of the headings of a page, as Python-Markdown makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("document", [*DOCUMENTS, *SCRIPTS])
def test_documented_targets_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^[ #]*)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
