"""`@compiled`: machine code is kept between runs, never outlives the sources it was made from, and can do without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Two packages, one of which builds on the other, as `generator` on `deepnets`.
LIBRARY = {
    "tables/numbers.py": """
STEP = 1  # built into compiled code
""",
    "helper.py": """
from deepnets.support.compilation import compiled

@compiled
def twice(x):
    return 2 * x
""",
    "unrelated.py": """
VALUE = 1
""",
}
PROGRAM = {
    "kernel.py": """
from deepnets.support.compilation import compiled
from deepnets.helper import twice
from deepnets.tables.numbers import STEP

@compiled
def calculate(x):
    return twice(x) + STEP
"""
}
RUN = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from program.kernel import calculate
result = calculate(int(sys.argv[1]))
stats = calculate.stats
print(result, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for package, sources in (("deepnets", LIBRARY), ("program", PROGRAM)):
        folder = tmp_path / "project" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        for name, source in sources.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(source)
    support = tmp_path / "project" / "deepnets" / "support"
    support.mkdir()
    shutil.copy(ROOT / "deepnets" / "support" / "compilation.py", support)
    return tmp_path / "project"


def run(project: Path, x: int, **environment: str) -> tuple[int, bool, str]:
    """In a fresh process: the result, whether machine code was taken from the disk, and what was logged."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(x)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result, hits, misses = map(int, done.stdout.split())
    assert hits + misses <= 1
    return result, hits == 1, done.stderr


def change(path: Path, old: str, new: str) -> None:
    """Change a source, and nothing else: neither its length nor its time."""
    times = path.stat()
    text = path.read_text()
    assert text.count(old) == 1
    assert len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_machine_code_lasts_as_long_as_its_sources(project: Path) -> None:
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}  # Python trusts times; numba must not
    assert run(project, 3, **environment)[:2] == (7, False)
    assert run(project, 3, **environment)[:2] == (7, True)
    change(project / "deepnets" / "tables" / "numbers.py", "STEP = 1", "STEP = 5")
    assert run(project, 3, **environment)[:2] == (11, False)
    change(project / "deepnets" / "helper.py", "2 * x", "4 * x")
    assert run(project, 3, **environment)[:2] == (17, False)
    assert run(project, 4, **environment)[:2] == (21, True)
    change(project / "program" / "kernel.py", "+ STEP", "- STEP")
    assert run(project, 3, **environment)[:2] == (7, False)
    change(project / "deepnets" / "unrelated.py", "VALUE = 1", "VALUE = 2")
    assert run(project, 3, **environment)[:2] == (7, False)  # every source counts, used or not
    change(project / "deepnets" / "tables" / "numbers.py", "STEP = 5", "STEP = 1")
    change(project / "deepnets" / "helper.py", "4 * x", "2 * x")
    change(project / "program" / "kernel.py", "- STEP", "+ STEP")
    assert run(project, 3, **environment)[:2] == (7, False)  # machine code of other sources is not kept
    assert len(list(project.rglob("*.nbi"))) == len({path.name.split("-")[0] for path in project.rglob("*.nbi")})


def test_a_constant_of_the_library_itself(tmp_path: Path) -> None:
    """The real package: which row of a record describes which kind of cell is built into the walk."""
    shutil.copytree(ROOT / "deepnets", tmp_path / "deepnets", ignore=shutil.ignore_patterns("__pycache__"))
    program = """
import numpy as np
from deepnets.architecture import ARCHITECTURE
from deepnets.graph import contains
record = np.zeros(1, ARCHITECTURE)
record["steps"], record["ops"][0, 1, 0] = 1, 3
print(contains(record[0], 3))
"""

    def found_in_reduction_cells() -> str:
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert found_in_reduction_cells() == "True"
    change(tmp_path / "deepnets" / "architecture" / "encoding.py", "NORMAL, REDUCE = 0, 1", "NORMAL, REDUCE = 0, 0")
    assert found_in_reduction_cells() == "False"


def occupied(path: Path) -> None:
    """Make it impossible, also for root, that a folder is made or written to: there is a file of that name."""
    shutil.rmtree(path, ignore_errors=True)
    path.touch()


def test_a_read_only_package_uses_the_cache_of_the_user(project: Path, tmp_path: Path) -> None:
    for package in ("deepnets", "program"):
        occupied(project / package / "__pycache__")
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(project, 3, **environment)[:2] == (7, False)
    assert run(project, 3, **environment)[:2] == (7, True)
    change(project / "deepnets" / "tables" / "numbers.py", "STEP = 1", "STEP = 5")
    assert run(project, 3, **environment)[:2] == (11, False)


def test_nothing_can_be_written(project: Path, tmp_path: Path) -> None:
    for package in ("deepnets", "program"):
        occupied(project / package / "__pycache__")
    occupied(tmp_path / "home")
    home = str(tmp_path / "home")
    for _ in range(2):
        result, cached, log = run(project, 3, HOME=home, XDG_CACHE_HOME=home, IPYTHONDIR=home)
        assert (result, cached) == (7, False)
        assert "calculate is compiled again in every process" in log


@pytest.mark.parametrize("kind", ["a file", "below a file", "/proc"])
def test_a_cache_folder_that_cannot_be_written(project: Path, tmp_path: Path, kind: str) -> None:
    occupied(tmp_path / "file")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache", "/proc": Path("/proc/cache")}[
        kind
    ]
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, False)


def test_a_cache_folder_of_choice(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, False)
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, True)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("deepnets/architecture/vocabulary.py", "MAX_CELLS = 200", "MAX_CELLS = 201"),
        ("deepnets/architecture/codes.py", "MAX_NODE_TYPES = 64", "MAX_NODE_TYPES = 65"),
        (
            "deepnets/support/errors.py",
            "from __future__ import annotations",
            "from __future__ import annotations\nX = 1",
        ),
        ("generator/splits.py", "import annotations\n", "import annotations\nX = 1\n"),
    ],
)
def test_the_digest_covers_every_source_in_every_folder(tmp_path: Path, file: str, old: str, new: str) -> None:
    """Constants that are compiled in are in files that do not mention compilation."""
    for package in ("deepnets", "generator"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    program = "import generator.splits; from deepnets.support import digest_of_sources as digest; "
    program += "print(digest('generator.splits'))"

    def digest() -> str:
        return subprocess.run(
            [sys.executable, "-B", "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    before = digest()
    assert len(before) == 16
    path = tmp_path / file
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    assert digest() != before
    path.write_text(source)
    assert digest() == before


@pytest.mark.parametrize("damage", [b"", b"junk", None], ids=["empty", "junk", "truncated"])
def test_a_damaged_cache_costs_a_compilation_and_nothing_else(tmp_path: Path, damage: bytes | None) -> None:
    program = "from deepnets.graph.algorithms import find_levels; import numpy as np; "
    program += "print(find_levels(np.array([0, 0, 1], np.int32), np.array([0], np.int32)).tolist())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert run() == "[0, 1]\n"
    files = [path for pattern in ("*.nbi", "*.nbc") for path in tmp_path.rglob(pattern)]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20] if damage is None else damage)
    assert run() == "[0, 1]\n"
