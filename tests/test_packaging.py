"""The distributions: complete, with one version, floors for all requirements, and the same checks everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import deepnets
from tests.floors import floors, read_project, requirements

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_in_one_place() -> None:
    assert "version" in read_project()["dynamic"]
    stated = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert stated is not None
    assert stated[1] == deepnets.__version__
    for name in ("CITATION.cff", "Dockerfile", "README.md", "constraints.txt"):
        assert f"deepnets1m=={deepnets.__version__}" not in (ROOT / name).read_text()
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_every_requirement_has_a_floor() -> None:
    project = read_project()
    found = floors(project)
    assert len(found) == len({re.split(r"[\[<>=]", text)[0] for text in requirements(project)})
    assert {"torch", "scipy", "submitit", "pytest"} <= found.keys()
    for wrong in ("torch", "torch==2.0", "torch<3", "torch>=2.0,<3"):
        with pytest.raises(ValueError, match="expected a requirement"):
            floors({**project, "dependencies": [wrong]})
    with pytest.raises(ValueError, match="two oldest versions"):
        floors({**project, "dependencies": ["scipy>=1.0", "scipy>=1.1"]})


def test_every_requirement_is_pinned_for_make() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    missing = {name.lower().replace("_", "-") for name in floors(read_project())} - pinned
    assert not missing


def test_commits_are_checked_as_by_make() -> None:
    """The hooks of pre-commit run the commands of `make check`."""
    target = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    commands = {line.removeprefix("\t@$(BIN)/").removesuffix(" .") for line in target.splitlines()[1:]}
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert {*hooks} == commands


def test_the_image_uses_extras_that_exist() -> None:
    (extras,) = re.findall(r"/source\[([a-z,]+)\]", (ROOT / "Dockerfile").read_text())
    assert {*extras.split(",")} <= read_project()["optional-dependencies"].keys()


def tracked() -> list[str]:
    """The files of the repository; skips the test outside of one."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git repository")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it, in a copy without other files."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("distributions")
    source, out = folder / "source", folder / "out"
    out.mkdir()
    for name in tracked():
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(out)!r})); print(b.build_wheel({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_source_distribution_has_every_file(distributions: tuple[Path, Path]) -> None:
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not {*tracked()} - names
    assert sdist.name == f"deepnets1m-{deepnets.__version__}.tar.gz"


@pytest.mark.slow
def test_the_wheel_has_the_packages_only(distributions: tuple[Path, Path]) -> None:
    _, wheel = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert archive.read(entry).decode().split() == [
            "[console_scripts]",
            "deepnets",
            "=",
            "deepnets.__main__:console",
        ]
    packages = ("deepnets", "generator", "ghn_model", "benchmark")
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {*packages}
    data = {name for name in tracked() if name.startswith(packages) and not name.endswith((".py", ".sh"))}
    assert not data - {*names}
