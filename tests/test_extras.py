"""Installations without extras, or with one: what works, and what is said where a package is missing."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from deepnets.commands import COMMANDS
from deepnets.commands import main as deepnets
from deepnets.support import EXTRA_OF, MissingDependencyError, install_command, missing_dependency, naming_extras
from tests.floors import floors, read_project
from tests.support.hidden_packages import hide, run_without
from tests.test_imports import NEED_TORCH, SOURCES, module_of, parsed

ROOT = Path(__file__).parents[1]
PROJECT = read_project()
EXTRAS = PROJECT["optional-dependencies"]
HINT = 'this needs PyTorch: pip install "deepnets1m[torch]"'
DISTRIBUTIONS = {"sklearn": "scikit-learn", "distributed": "dask", "torch_geometric": "torch-geometric"}
NOT_OURS = {"PIL", "tokenizers"}  # of torchvision, and of transformers


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0].lower().replace("_", "-")


def installed_by(extra: str) -> set[str]:
    """The names of the requirements of an extra, and of the extras that it includes."""
    found: set[str] = set()
    for text in EXTRAS[extra]:
        if text.startswith(PROJECT["name"]):
            for other in re.findall(r"[a-z]+", text.partition("[")[2]):
                found |= installed_by(other)
        else:
            found.add(name_of(text))
    return found


LEAN = {name_of(text) for text in PROJECT["dependencies"]}


# --- what is declared -------------------------------------------------------------------------------------------------


def test_torch_is_optional() -> None:
    assert not LEAN & {name_of(DISTRIBUTIONS.get(package, package)) for package in EXTRA_OF}
    assert "torch" in installed_by("torch")
    for extra in ("vision", "pyg", "language", "slurm", "hub", "development"):
        assert "torch" in installed_by(extra), extra
    for extra in ("plotting", "cluster", "onnx", "parquet", "completion"):  # for graphs and files of the corpus
        assert "torch" not in installed_by(extra), extra


def test_extras_that_name_extras_have_floors_of_packages_only() -> None:
    assert not [name for name in floors(PROJECT) if name.startswith("deepnets")]


@pytest.mark.parametrize("package", sorted(EXTRA_OF))
def test_every_hint_names_an_extra_that_installs_the_package(package: str) -> None:
    extra = EXTRA_OF[package]
    installed = installed_by(extra)
    assert package in NOT_OURS or name_of(DISTRIBUTIONS.get(package, package)) in installed
    assert f'pip install "deepnets1m[{extra}]"' in str(missing_dependency(package))


def test_every_extra_that_a_text_names_exists() -> None:
    """In sources, documents and the Makefile: ``pip install "deepnets1m[NAME]"`` and `.[NAME]`."""
    paths = [*SOURCES, ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    paths += [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".py")]
    named = {
        extra
        for path in paths
        for found in re.findall(r"(?:deepnets1m|'\.|/source)\[([a-z,]+)\]", path.read_text(encoding="utf-8"))
        for extra in found.split(",")
    }
    assert len(named) > 8
    assert named <= EXTRAS.keys()


# --- what is imported -------------------------------------------------------------------------------------------------


def lean_sources() -> list[Path]:
    """The modules of `deepnets` and `generator` that can be imported without torch."""
    modules = {path: module_of(path) for path in SOURCES if path.parts[len(ROOT.parts)] in ("deepnets", "generator")}
    need_torch = tuple(f"{name}." for name in NEED_TORCH)
    return [path for path, name in modules.items() if not f"{name}.".startswith(need_torch)]


def test_what_lean_modules_import_is_installed_without_extras() -> None:
    ours = {"deepnets", "generator", "ghn_model", "benchmark"}
    wrong = set()
    for path in lean_sources():
        for node in parsed(path).body:  # imports of functions are optional packages with a hint
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.partition(".")[0]
                if root not in ours and root not in sys.stdlib_module_names and name_of(root) not in LEAN:
                    wrong.add(f"{module_of(path)} imports {root}")
    assert not wrong


def test_optional_packages_are_named_with_their_extra() -> None:
    """Every package that is imported anywhere is of the standard library, lean, or has an extra and a hint."""
    known = LEAN | set(EXTRA_OF) | {"deepnets", "generator", "ghn_model", "benchmark", "PIL", "numpy", "loky"}
    found = set()
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    assert not {name for name in found if name not in sys.stdlib_module_names} - known


# --- without torch ----------------------------------------------------------------------------------------------------

ENTRY_POINTS = """
import importlib, json, os, sys
from deepnets.commands import COMMANDS
from deepnets.commands import main
from deepnets.support import DeepNetsError, MissingDependencyError

found = {}

def attempt(key, call):
    try:
        call()
        found[key] = ""
    except SystemExit as error:
        found[key] = f"exit {error.code}"
    except DeepNetsError as error:
        found[key] = f"{type(error).__name__}: {error}"

sys.stdout = open(os.devnull, "w")
for name in COMMANDS:
    attempt(f"{name} --help", lambda: main([name, "--help"]))
for words in WORDS:
    attempt(" ".join(words), lambda: main(words))
for module, attributes in NAMES.items():
    for attribute in attributes:
        attempt(f"{module}.{attribute}", lambda: getattr(importlib.import_module(module), attribute))
attempt("resnet", lambda: importlib.import_module("deepnets").DeepNets1M(split="predefined")[0])
attempt("loader", lambda: importlib.import_module("deepnets").DeepNets1M(split="predefined").loader())
attempt("to_pyg", lambda: importlib.import_module("deepnets").DeepNets1M(split="predefined")[1].to_pyg())
assert importlib.import_module("deepnets").DeepNets1M(split="predefined")[1].num_nodes == 129
found["torch"] = "torch" in sys.modules
sys.stdout = sys.__stdout__
print(json.dumps(found))
"""
NEED = [
    ["train"],
    ["predict", "--model", "torch.nn:Linear", "--checkpoint", "ghn2-digits", "--out", "x.safetensors"],
    ["list"],
    ["info", "ghn2-digits"],
    ["convert", "ghn2-digits", "--format", "ppuda", "--out", "x.pt"],
    ["profile"],
    ["bench"],
    ["bench", "--splits", "test", "--limit", "2"],
    ["report"],
    ["sgd", "--genotype", "DARTS"],
    ["finetune", "--split", "test"],
    ["properties", "--checkpoint", "ghn2-digits"],
    ["statistics"],
    ["search", "--checkpoint", "ghn2-digits"],
    ["published"],
    ["card", "run", "--name", "x"],
    ["trace", "--model", "torch.nn:Linear"],
]
NAMES = {
    "deepnets": ["Network", "count_flops", "load_model", "trace", "GraphBatch", "FamilyNetworks", "read_onnx"],
    "ghn_model": ["GHN", "list_pretrained", "register_encoder", "load_checkpoint"],
    "benchmark": ["evaluate", "summarize", "register_metric"],
}


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What entry points say without the packages of the extra torch, in an empty folder."""
    folder = tmp_path_factory.mktemp("without-torch")
    hidden = {package for package, extra in EXTRA_OF.items() if extra in ("torch", "vision", "pyg")}
    code = f"WORDS = {NEED!r}\nNAMES = {NAMES!r}\n{ENTRY_POINTS}"
    (line,) = run_without(hidden, code, folder)
    assert not [*folder.iterdir()]  # nothing was begun
    found: dict[str, str] = json.loads(line)
    return found


def test_commands_and_names_that_need_torch_say_so(without_torch: dict[str, str]) -> None:
    keys = [" ".join(words) for words in NEED] + [f"{module}.{name}" for module, all_ in NAMES.items() for name in all_]
    assert {key: without_torch[key] for key in keys} == dict.fromkeys(keys, f"MissingDependencyError: {HINT}")
    assert {words[0] for words in NEED} >= {
        name for name, command in COMMANDS.items() if not command.module.startswith(("deepnets.", "generator."))
    }


def test_help_needs_no_torch(without_torch: dict[str, str]) -> None:
    assert {key: text for key, text in without_torch.items() if key.endswith("--help")} == {
        f"{name} --help": "exit 0" for name in COMMANDS
    }


def test_datasets_without_torch(without_torch: dict[str, str]) -> None:
    assert without_torch["torch"] is False  # type: ignore[comparison-overlap]
    assert without_torch["resnet"].endswith('this needs torchvision: pip install "deepnets1m[vision]"')
    assert without_torch["loader"].endswith(HINT)
    assert 'pip install "deepnets1m[pyg]"' in without_torch["to_pyg"]


@pytest.mark.slow
def test_the_corpus_is_built_and_read_without_extras(tmp_path: Path) -> None:
    code = """
from deepnets import DeepNets1M, build_graph
from deepnets.commands import main
main(["build", "--splits", "deep", "--out", "data", "-q"])
main(["verify", "data"])
main(["export", "--out", "original", "--splits", "deep"])
main(["import", "original", "--out", "imported", "--check", "2"])
nets = DeepNets1M("data", "deep")
assert build_graph(nets.config(0)).num_nodes == nets[0].num_nodes == nets.table["num_nodes"][0]
assert nets[0].to_networkx().number_of_nodes() == nets[0].num_nodes
print(len(nets))
"""
    lines = run_without({*EXTRA_OF} - {"cloudpickle"}, code, tmp_path)  # some versions of joblib need it
    assert lines[-1] == "100"
    assert (tmp_path / "imported/deepnets1m_deep.h5").is_file()


# --- without other extras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("matplotlib", ["draw", "--out", "x.png", "--genotype", "DARTS"]),
        ("matplotlib", ["draw", "--out", "x.png", "--legend-only"]),
        ("matplotlib", ["trace", "--model", "torch.nn:Linear", "--out", "x.png"]),
        ("onnx", ["onnx", "--out", "x.onnx", "--genotype", "DARTS"]),
        ("onnx", ["trace", "--model", "torch.nn:Linear", "--out", "x.onnx"]),
        ("onnx", ["draw", "--out", "x.png", "--onnx", __file__]),
        ("pyarrow", ["parquet", "--out", "x", "--splits", "predefined"]),
        ("shtab", ["completion", "bash"]),
        ("distributed", ["build", "--backend", "dask", "--splits", "val", "--out", "x"]),
        ("ray", ["build", "--backend", "ray", "--splits", "val", "--out", "x"]),
        ("torchvision", ["bench", "--splits", "predefined", "--out", "x"]),
        ("torchvision", ["statistics", "--splits", "predefined", "--out", "x"]),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_a_missing_package_is_named_before_work_is_done(
    package: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if package != "torchvision":
        pytest.importorskip(package if package != "onnx" else "matplotlib")
    monkeypatch.chdir(tmp_path)
    hide(monkeypatch, [package])
    with pytest.raises(MissingDependencyError) as caught:
        deepnets(words)
    assert install_command(EXTRA_OF[package]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]
    assert capsys.readouterr().out == ""


def test_errors_of_other_imports_are_not_hidden() -> None:
    for error in (ModuleNotFoundError("mine", name="mine"), ModuleNotFoundError("torch.x", name="torch.x")):
        with pytest.raises(ModuleNotFoundError) as caught, naming_extras():
            raise error
        assert caught.value is error
