"""Every public name is in the reference, every page in the navigation, and every reference leads somewhere."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "reference").glob("*_*.md")) + sorted((DOCS / "reference").glob("[!i]*.md"))
REFERENCE = {path.stem: path for path in PAGES}
NOT_PUBLIC = re.compile(r"\.commands$")
PACKAGES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("deepnets", "generator", "ghn_model", "benchmark")
    for path in sorted((ROOT / package).rglob("__init__.py"))
]
MODULES = [name for name in [*PACKAGES, "ghn_model.parts"] if not NOT_PUBLIC.search(name)]


def rendered(module: str) -> list[str]:
    """Return the names whose docstrings are on the page of a module."""
    text = REFERENCE[module].read_text()
    (head, members) = re.findall(
        rf"^::: ({re.escape(module)})\n    options:\n      members:(.*?)(?:\n\n|\Z)", text, re.M | re.S
    )[0]
    assert head == module
    return re.findall(r"^        - (\w+)$", members, re.MULTILINE)


def listed(module: str) -> list[str]:
    """Return the names in the tables of the page of a module."""
    cells = re.findall(r"^\| (.+?) \|", REFERENCE[module].read_text(), re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """Names are rendered on the page of their module, or listed with a link; no name is there twice or is outdated."""
    public = sorted(set(importlib.import_module(module).__all__) - {"__version__"})
    assert public
    found = rendered(module) + listed(module)
    assert not set(public) - set(found), f"missing in docs/reference/{module}.md"
    assert sorted(found) == public, f"outdated in docs/reference/{module}.md"


def test_there_is_a_page_for_every_module() -> None:
    assert sorted(REFERENCE) == sorted(MODULES)


def test_references_lead_to_rendered_names() -> None:
    for path in [*DOCS.glob("*.md"), *DOCS.glob("reference/*.md"), *DOCS.glob("tutorials/*")]:
        for target in re.findall(r"\]\[([\w.]+)\]", path.read_text()):
            module, _, name = target.rpartition(".")
            assert module in REFERENCE, f"{path.name}: {target}"
            assert name in rendered(module), f"{path.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    found = re.findall(r"^ +- (?:.+: )?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    scripts = {f"tutorials/{path.stem}.md" for path in (DOCS / "tutorials").glob("*.py")}
    made = {"index.md", "contributing.md", "changelog.md"}
    assert sorted(found) == sorted(pages | scripts | made)


@pytest.mark.parametrize("name", ["docstrings", "hooks"])
def test_examples_of_what_makes_the_site(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(DOCS))
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken links, missing references and docstrings that cannot be parsed are warnings, which are errors."""
    pytest.importorskip("mkdocstrings_handlers.python")
    build = importlib.import_module("mkdocs.commands.build")
    config = importlib.import_module("mkdocs.config")
    monkeypatch.chdir(ROOT)
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    page = (tmp_path / "site/reference/ghn_model.html").read_text()
    assert 'id="ghn_model.GHN.from_pretrained"' in page
    assert "print(len(nets))" not in page
    assert (tmp_path / "site/tutorials/corpus.py").read_text().startswith("# %% [markdown]")
    assert "https://fonts" not in page
