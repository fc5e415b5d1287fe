"""Registries, and objects given as module:attribute."""

from __future__ import annotations

import collections
import sys
from pathlib import Path
from typing import Any

import pytest

from deepnets import ConfigError
from deepnets.support import Registry, import_attribute, is_attribute


def test_a_registry_is_a_mapping() -> None:
    numbers: Registry[int] = Registry("number")
    numbers.register("one", 1)
    numbers.register("two", 2)
    assert dict(numbers) == {"one": 1, "two": 2}
    assert list(numbers) == ["one", "two"]
    assert ("one" in numbers, "three" in numbers, numbers.get("three"), numbers.get("two")) == (True, False, None, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one", "number: 'one' is already registered; choose another name"),
        ("a:b", "number: expected a name without a colon, got 'a:b'"),
        ("", "number: expected a name without a colon, got ''"),
    ],
)
def test_invalid_names(name: str, message: str) -> None:
    numbers: Registry[int] = Registry("number")
    numbers.register("one", 1)
    with pytest.raises(ConfigError, match=f"^{message}"):
        numbers.register(name, 2)
    assert dict(numbers) == {"one": 1}


def test_unknown_names() -> None:
    numbers: Registry[int] = Registry("number")
    numbers.register("one", 1)
    numbers.register("two", 2)
    with pytest.raises(ConfigError, match=r"^number: unknown 'three'; use one of one, two, or 'module:attribute'$"):
        numbers["three"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("a:b", True), ("a.b:c.d", True), ("a", False), (":b", False), ("a:", False), ("a/b:c", False)),
        *(("a:5", False), ("", False), ("a:b:c", False)),
    ],
)
def test_attributes(text: str, expected: bool) -> None:
    assert is_attribute(text) is expected


def test_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_things.py").write_text("class A:\n    value = 3\n")
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_attribute("own_things:A.value", "thing") == 3
    with pytest.raises(ConfigError, match=r"^thing: own_things has no attribute 'B'$"):
        import_attribute("own_things:B", "thing")
    with pytest.raises(ConfigError, match=r"^thing: own_broken cannot be imported: RuntimeError: two lines$"):
        import_attribute("own_broken:B", "thing")


def test_built_in_entries_do_not_change_where_modules_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    shapes: Registry[Any] = Registry("shape", {"counter": "collections:Counter"})
    assert shapes["counter"] is collections.Counter
    assert str(tmp_path) not in sys.path
    (tmp_path / "shape_of_user.py").write_text("square = 4")
    assert shapes["shape_of_user:square"] == 4
