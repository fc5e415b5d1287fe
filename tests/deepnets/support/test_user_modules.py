"""Which modules of the user another one imports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepnets.support import is_of_user, with_imports


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    texts = {
        "first_of_user.py": "import numpy, deepnets, package_of_user.inner\ndef late():\n    import late_of_user\n",
        "package_of_user/__init__.py": "",
        "package_of_user/inner.py": "from . import other\nif True:\n    import last_of_user\n",
        "package_of_user/other.py": "",
        "last_of_user.py": "class Any:\n    import in_class_of_user\n",
        "in_class_of_user.py": "import last_of_user\n",
        "late_of_user.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("first_of_user", "late_of_user"):
        importlib.import_module(name)
    yield
    for name in [name for name in sys.modules if "_of_user" in name]:
        monkeypatch.delitem(sys.modules, name)


def test_imports_are_followed(modules: None) -> None:
    """Directly and through others, but not those in functions, which depend on what has been called."""
    found = with_imports(["first_of_user"])
    inner = {"package_of_user", "package_of_user.inner", "package_of_user.other"}
    assert found == {"first_of_user", *inner, "last_of_user", "in_class_of_user"}
    assert all(map(is_of_user, found))


@pytest.mark.parametrize("name", ["benchmark", "deepnets.support", "torch", "json", "numpy"])
def test_modules_of_packages_are_not_followed(name: str) -> None:
    importlib.import_module(name)
    assert not is_of_user(name)
    assert with_imports([name]) == {name}
