"""`@compiled`: machine code is cached between runs, outdated code is not used, and a cache is not required."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deepnets.support import NOTICES, compilation

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
    """Run the program; return its result, whether the machine code came from the cache, and the log."""
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
    """Change a source without changing its length and its modification time."""
    times = path.stat()
    text = path.read_text()
    assert text.count(old) == 1
    assert len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_machine_code_is_cached_until_a_constant_changes(project: Path) -> None:
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    assert run(project, 3, **environment)[:2] == (7, False)
    assert run(project, 3, **environment)[:2] == (7, True)
    change(project / "deepnets" / "tables" / "numbers.py", "STEP = 1", "STEP = 5")
    assert run(project, 3, **environment)[:2] == (11, False)


@pytest.mark.slow
def test_machine_code_is_used_until_a_source_changes(project: Path) -> None:
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


@pytest.mark.slow
def test_a_constant_of_deepnets(tmp_path: Path) -> None:
    """The compiled code of `deepnets.graph` contains constants of `deepnets.architecture`."""
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
    """Put a file in the place of a folder, so that not even root can create the folder."""
    shutil.rmtree(path, ignore_errors=True)
    path.touch()


@pytest.mark.slow
def test_a_read_only_package_uses_the_user_cache(project: Path, tmp_path: Path) -> None:
    for package in ("deepnets", "program"):
        occupied(project / package / "__pycache__")
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(project, 3, **environment)[:2] == (7, False)
    assert run(project, 3, **environment)[:2] == (7, True)
    change(project / "deepnets" / "tables" / "numbers.py", "STEP = 1", "STEP = 5")
    assert run(project, 3, **environment)[:2] == (11, False)


@pytest.mark.slow
def test_nothing_can_be_written(project: Path, tmp_path: Path) -> None:
    for package in ("deepnets", "program"):
        occupied(project / package / "__pycache__")
    occupied(tmp_path / "home")
    home = str(tmp_path / "home")
    for _ in range(2):
        result, cached, log = run(project, 3, HOME=home, XDG_CACHE_HOME=home, IPYTHONDIR=home)
        assert (result, cached) == (7, False)
        assert "calculate is compiled again in every process" in log


@pytest.mark.parametrize(
    "kind", ["a file", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("below a file", "/proc"))]
)
def test_a_cache_folder_that_cannot_be_written(project: Path, tmp_path: Path, kind: str) -> None:
    occupied(tmp_path / "file")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache", "/proc": Path("/proc/cache")}[
        kind
    ]
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, False)


@pytest.mark.slow
def test_the_cache_folder_can_be_chosen(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, False)
    assert run(project, 3, NUMBA_CACHE_DIR=str(folder))[:2] == (7, True)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("deepnets/architecture/vocabulary.py", "MAX_CELLS = 200", "MAX_CELLS = 201"),
        pytest.param(
            *("deepnets/architecture/codes.py", "MAX_NODE_TYPES = 64", "MAX_NODE_TYPES = 65"), marks=pytest.mark.slow
        ),
        pytest.param(
            *("deepnets/support/errors.py", "import annotations\n", "import annotations\nX = 1\n"),
            marks=pytest.mark.slow,
        ),
        ("generator/splits.py", "import annotations\n", "import annotations\nX = 1\n"),
    ],
)
def test_the_digest_covers_all_sources(tmp_path: Path, file: str, old: str, new: str) -> None:
    """Files that define no compiled function can define constants that compiled code contains."""
    for package in ("deepnets", "generator"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    program = """
import sys
from pathlib import Path
import generator.splits
from deepnets.support import digest_of_sources
path, old, new = Path(sys.argv[1]), *sys.argv[2:]
source = path.read_text()
for text in (source, source.replace(old, new), source):
    path.write_text(text)
    digest_of_sources.cache_clear()
    print(digest_of_sources("generator.splits"))
"""
    assert old in (tmp_path / file).read_text()
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, file, old, new],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, changed, restored = done.stdout.split()
    assert len(before) == 16
    assert changed != before
    assert restored == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", id="empty", marks=pytest.mark.slow),
        pytest.param(b"junk", id="junk"),
        pytest.param(None, id="truncated", marks=pytest.mark.slow),
    ],
)
def test_functions_with_a_damaged_cache_are_compiled_again(tmp_path: Path, damage: bytes | None) -> None:
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


def test_a_long_compilation_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert compilation.notices.name == NOTICES
    now = [0.0]
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now[0])
    watch = compilation._CompilationWatch()
    missed, found, saved = (
        watch.missed(lambda: None),
        watch.missed(lambda: "machine code"),
        watch.compiled(lambda: None),
    )
    messages = []
    with caplog.at_level(logging.INFO, NOTICES):
        for _ in range(6):
            missed()
            now[0] += 1.0
            saved()
            now[0] += 100.0  # other work
            assert found() == "machine code"
            messages.append(len(caplog.messages))
    assert messages == [0, 0, 0, 0, 1, 1]  # after more than three seconds of compilation
    assert caplog.messages[0].startswith("compiling numeric code")


def test_functions_that_others_call_are_compiled_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now[0])
    watch = compilation._CompilationWatch()
    missed, saved = watch.missed(lambda: None), watch.compiled(lambda: None)
    with caplog.at_level(logging.INFO, NOTICES):
        missed()
        now[0] += 2.0
        missed()
        saved()
        now[0] += 2.0
        assert not caplog.messages
        missed()
        assert len(caplog.messages) == 1
