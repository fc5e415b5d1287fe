"""Commands on machines where `/dev/shm` is missing or read-only, as in some containers.

They run in a mount namespace of their own, in which nothing else of the machine changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.benchmark_runs import lasting
from tests.support.processes import PATIENCE, ROOT, digests, one_error
from tests.support.small_corpus import write_small_corpus
from tests.support.training_runs import command as training

HIDING = {
    "missing": """
        mkdir "$0/dev"
        for name in null zero full random urandom; do
            : > "$0/dev/$name"
            mount --bind "/dev/$name" "$0/dev/$name"
        done
        ln -s /proc/self/fd "$0/dev/fd"
        mount --rbind "$0/dev" /dev
    """,
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
}
"""Shell commands that hide `/dev/shm`; $0 is a folder for temporary files."""


def hidden(state: str, folder: Path, *words: object) -> list[str]:
    script = f'set -e\n{HIDING[state]}\nexec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder), *map(str, words)]


def can_be_hidden() -> bool:
    if shutil.which("unshare") is None:
        return False
    script = f"{HIDING['read-only']} && ! touch /dev/shm/file 2>/dev/null"
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return subprocess.run(words, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_be_hidden(), reason="mount namespaces are not permitted here"),
]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, env=environment
    )


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command of a run, without the folder of its results."""
    data = write_small_corpus(tmp_path_factory.mktemp("small"), "test")
    options = ["--splits", "test", "--limit", 2, "--data", data, "--workers", 2, "--quiet", "--no-report"]
    return [sys.executable, "-m", "benchmark", "run", "--predictors", "random", *options]


@pytest.fixture(scope="module")
def expected(words: list[object], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("expected") / "out"
    done = run(*words, "--out", out)
    assert done.returncode == 0, done.stderr
    return lasting(out)


@pytest.mark.parametrize("state", HIDING)
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_networks_are_evaluated_one_after_another(
    words: list[object], expected: str, tmp_path: Path, state: str, backend: str
) -> None:
    """Without shared memory, joblib starts neither threads nor processes, and says so; rows are the same."""
    out = tmp_path / "out"
    done = run(*hidden(state, tmp_path, *words, "--out", out, "--backend", backend))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert lasting(out) == expected


def test_a_corpus_is_built(tmp_path: Path) -> None:
    words = ["--splits", "search", "--search-size", 40, "--shard-size", 10, "--workers", 2, "--quiet"]
    build = [sys.executable, "-m", "generator", "build", *words, "--out"]
    for state in HIDING:
        (tmp_path / state).mkdir()
        done = run(*hidden(state, tmp_path / state, *build, tmp_path / f"data-{state}"))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert run(*build, tmp_path / "expected").returncode == 0
    for state in HIDING:
        assert digests(tmp_path / f"data-{state}") == digests(tmp_path / "expected")


def test_a_training_with_worker_processes_says_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    for state in HIDING:
        (tmp_path / state).mkdir()
        words = training(corpus, tmp_path / f"run-{state}", steps=2, workers=2, log_steps=1)
        done = run(*hidden(state, tmp_path / state, sys.executable, *words))
        line = one_error(done.returncode, done.stdout, done.stderr)
        assert line.startswith("error: worker processes need semaphores, which Linux has in /dev/shm (")
        assert line.endswith("; use --workers 0")
