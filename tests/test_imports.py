"""The rules of the house, read off the sources: who may import whom, what libraries do not do, what is documented."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepnets

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "deepnets": set(),
    "generator": {"deepnets"},
    "ghn_model": {"deepnets"},
    "benchmark": {"deepnets", "ghn_model"},
}
OURS = {*MAY_IMPORT, "tests"}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
TORCH_FREE = (
    *("blueprint", "cli", "compiled", "conversion", "dataset", "drawing", "drawing_layout", "encoding"),
    *("errors", "fingerprint", "folders", "graph", "memory", "names"),
    *(
        "official",
        "paths",
        "pickles",
        "records",
        "sealed",
        "space",
        "storage",
        "tabulation",
        "verification",
        "walk",
        "widths",
    ),
)
FOR_CONSOLES = {"__main__.py", "cli.py"}


def for_consoles(path: Path) -> bool:
    return path.name in FOR_CONSOLES or path.name.endswith("command.py")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a source, also inside functions and for types alone, absolute ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node.args[0]).removeprefix("f").strip("'\"")


# --- who may import whom ---


def test_there_are_sources() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} >= {"deepnets", "generator"}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = OURS - MAY_IMPORT[package] - {package}
    assert [name for name in imported(parsed(path)) if name.partition(".")[0] in forbidden] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_is_imported_with_a_star_or_by_its_place(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}: star import"


def test_what_the_workers_need_imports_no_torch() -> None:
    generator = sorted(path.stem for path in (ROOT / "generator").glob("*.py") if path.stem != "__init__")
    modules = ["deepnets", *(f"deepnets.{name}" for name in TORCH_FREE), *(f"generator.{name}" for name in generator)]
    program = f"""
import importlib, sys
for name in {modules}:
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


# --- what libraries do not do ---


@pytest.mark.parametrize("path", [path for path in SOURCES if not for_consoles(path)], ids=relative)
def test_libraries_do_not_talk_to_the_console(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            forbidden = {"print", "input", "exit", "quit", "breakpoint", "sys.exit"}
            assert called not in forbidden, f"line {node.lineno}: {called}"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert not ast.unparse(node.exc).startswith("SystemExit"), f"line {node.lineno}: SystemExit"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_global_seeds(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"np.random.seed", "numpy.random.seed", "random.seed"}, f"line {node.lineno}: {called}"


# --- what is public ---


def test_every_public_name_can_be_imported() -> None:
    for name in deepnets.__all__:
        assert getattr(deepnets, name) is not None
    assert dir(deepnets) == sorted(deepnets.__all__)
    with pytest.raises(AttributeError, match="module 'deepnets' has no attribute 'Grahp'"):
        _ = deepnets.Grahp  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    """They read the imports under TYPE_CHECKING, programs the table of homes."""
    tree = parsed(ROOT / "deepnets" / "__init__.py")
    seen = {
        alias.asname: (node.module or "").removeprefix("deepnets.")
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == deepnets._HOME


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
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    listed, _ = public(path)
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
