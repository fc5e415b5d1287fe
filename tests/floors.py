"""The oldest versions that `pyproject.toml` allows, as constraints for pip: `make test-floors` installs and tests them.

python -m tests.floors > floors.txt
pip install --constraint floors.txt ".[development]"

Old versions of torch cannot be had everywhere, or only with gigabytes of libraries for GPUs.  Packages named as
arguments keep the version in `constraints.txt`; torchvision belongs to one version of torch, so name both:

python -m tests.floors torch torchvision > floors.txt

The floors of these two have been tested nowhere but with this version of torch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["floors", "main", "pinned", "requirements"]

ROOT = Path(__file__).resolve().parents[1]
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*(>=\s*(?P<floor>[0-9][0-9.]*))?$")


def read_project(path: Path = ROOT / "pyproject.toml") -> dict[str, Any]:
    """Return the table `project` of a `pyproject.toml`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return project


def requirements(project: dict[str, Any]) -> list[str]:
    """Return the requirements of a project and of all its extras, except for the project itself."""
    found = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        found += [text for text in extra if not text.startswith(project["name"])]
    return found


def floors(project: dict[str, Any]) -> dict[str, str]:
    """Return the oldest allowed version of every requirement, by its name.

    Raises
    ------
    ValueError
        If a requirement has no oldest version, or two different ones.
    """
    found: dict[str, str] = {}
    for text in requirements(project):
        match = _REQUIREMENT.fullmatch(text)
        if match is None or match["floor"] is None:
            raise ValueError(f"{text}: expected a requirement of the form NAME>=VERSION")
        if found.setdefault(match["name"], match["floor"]) != match["floor"]:
            raise ValueError(f"{match['name']}: has two oldest versions, {match['floor']} and {found[match['name']]}")
    return found


def pinned(path: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Return the versions of a file of constraints, by the names of the packages."""
    lines = [line.partition(";")[0].partition("==") for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: version.strip() for name, equals, version in lines if equals}


def main(keep: Sequence[str] = ()) -> None:
    """Print the constraints; the packages in `keep` have their versions of `constraints.txt`."""
    for name, floor in sorted(floors(read_project()).items()):
        print(f"{name}=={pinned()[name] if name in keep else floor}")


if __name__ == "__main__":
    main(sys.argv[1:])
