"""Imports: what works without torch, what an import does, which names are public, and what is documented.

Which package may import which is checked by import-linter, and relative or star imports, `print`, `sys.exit` and global
seeds by ruff: see `pyproject.toml`.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("deepnets", "generator", "ghn_model", "benchmark")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LAZY = (
    "benchmark",
    "deepnets",
    "deepnets.architecture",
    "deepnets.corpus",
    "deepnets.graph",
    "deepnets.onnx_models",
    "deepnets.support",
    "generator",
    "ghn_model",
)
NEED_TORCH = (
    "deepnets.architecture.cell",
    "deepnets.architecture.channel_functions",
    "deepnets.architecture.channels",
    "deepnets.architecture.compact",
    "deepnets.architecture.compact_tensor",
    "deepnets.architecture.depthwise",
    "deepnets.architecture.flops",
    "deepnets.architecture.functional",
    "deepnets.architecture.network",
    "deepnets.architecture.operations",
    "deepnets.corpus.loader",
    "deepnets.corpus.pyg_dataset",
    "deepnets.data",
    "deepnets.families",
    "deepnets.graph.batch",
    "deepnets.onnx_models",
    "deepnets.support.detection_operators",
    "deepnets.support.optional_models",
    "deepnets.tracing",
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


# --- what an import does ---


@pytest.mark.slow
def test_what_the_workers_need_imports_no_torch() -> None:
    modules = [module_of(path) for path in SOURCES if path.parts[len(ROOT.parts)] in ("deepnets", "generator")]
    free = [name for name in modules if not f"{name}.".startswith(tuple(f"{other}." for other in NEED_TORCH))]
    assert len(free) > 30
    program = f"""
import importlib, sys
for name in {free}:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(name + " imports torch")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_does_no_work() -> None:
    """No compilation, no files, no threads: a plain import of the packages is quick and has no effects."""
    program = """
import sys, threading
before = threading.active_count()
import deepnets, generator
sys.exit(threading.active_count() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- what is public ---


@pytest.mark.parametrize("name", LAZY)
def test_every_public_name_can_be_imported(name: str) -> None:
    package = importlib.import_module(name)
    for public_name in package.__all__:
        assert getattr(package, public_name) is not None
    assert set(dir(package)) == {*package.__all__} - {"__version__"}
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Grahp'"):
        _ = package.Grahp


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_the_same_names(name: str) -> None:
    """They read the imports under TYPE_CHECKING, programs the table given to `lazy_exports`."""
    tree = parsed(ROOT.joinpath(*name.split("."), "__init__.py"))
    seen = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    (table,) = (
        ast.literal_eval(node.args[1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_exports"
    )
    assert seen == {(f"{name}.{module}", member) for module, members in table.items() for member in members}


def test_names_of_modules_do_not_hide_public_names() -> None:
    """After `import deepnets.x.y`, the attribute `y` of `deepnets.x` is the module."""
    for package in (path.parent for path in SOURCES if path.name == "__init__.py"):
        modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
        assert not modules & {*getattr(importlib.import_module(module_of(package / "__init__.py")), "__all__", [])}


def public(path: Path) -> tuple[list[str], dict[str, ast.AST]]:
    """The names in `__all__`, and the functions and classes of a source."""
    tree = parsed(path)
    definitions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and isinstance(node.value, ast.List)
    ]
    listed = [item.value for value in lists for item in value.elts if isinstance(item, ast.Constant)]
    return [str(name) for name in listed], {**definitions}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__main__.py"], ids=relative)
def test_every_listed_name_exists(path: Path) -> None:
    listed, _ = public(path)
    module = module_of(path)
    for name in listed:
        assert hasattr(importlib.import_module(module), name), name


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "the module"
    listed, definitions = public(path)
    for name, node in definitions.items():
        if name.startswith("_") or (listed and name not in listed):
            continue
        assert ast.get_docstring(node), name
        for member in getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_") and member.name != "forward":
                assert ast.get_docstring(member), f"{name}.{member.name}"
