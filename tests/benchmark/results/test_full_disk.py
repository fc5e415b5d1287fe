"""Files of a run that cannot grow, as on a disk that becomes full while networks are evaluated."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest

from tests.support.benchmark_runs import command, lasting, table_of
from tests.support.processes import PATIENCE, one_error, until

pytestmark = pytest.mark.slow

WAITING = """
import time
from pathlib import Path
import plugged_in

def predict(model, graph):
    while graph.index == 1 and not Path("go").exists():
        time.sleep(0.05)
    return plugged_in.noisy(model, graph)
"""


def words(data: Path, out: Path, *others: str) -> list[object]:
    predictors = ["--predictors", "waiting:predict", "random"]
    return ["run", *predictors, "--splits", "test", "--limit", 2, "--data", data, "--workers", 1, "--out", out, *others]


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="limits of other processes need Linux")
@pytest.mark.parametrize("file", ["networks.csv", "runs.json", "report.html"])
def test_a_file_that_cannot_grow(data: Path, here: Path, file: str) -> None:
    """One line says so; without the limit, the run resumes with the rows of an undisturbed one.

    The limit is set when the run has its first row, on the process that writes the results, not on its workers.
    """
    (here / "waiting.py").write_text(WAITING)
    out, rows = here / "out", here / "out" / "networks.csv"
    arguments = words(data, out, "--quiet", *([] if file == "report.html" else ["--no-report"]))
    with command(*arguments, cwd=here) as process:
        until(lambda: process.poll() is not None or (rows.exists() and rows.read_bytes().count(b"\n") == 2))
        limit = {
            "networks.csv": rows.stat().st_size + 10,  # the next row is torn
            "runs.json": (out / "runs.json").stat().st_size,  # without a time of the end
            "report.html": 10_000,
        }[file]
        psutil.Process(process.pid).rlimit(resource.RLIMIT_FSIZE, (limit, limit))
        (here / "go").touch()
        printed, errors = process.communicate(timeout=PATIENCE)
    assert one_error(process.returncode, printed, errors).endswith("File too large")
    assert len(table_of(out)) == {"networks.csv": 2, "runs.json": 2, "report.html": 4}[file]
    assert not list(out.glob(".*.tmp"))
    if file == "networks.csv":
        assert rows.stat().st_size == limit
        assert not rows.read_bytes().endswith(b"\n")
    else:
        assert file in errors
        assert not (out / "report.html").exists()

    with command(*arguments, cwd=here) as process:
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0
    assert (out / "report.html").exists() == (file == "report.html")
    with command(*words(data, here / "whole", "--quiet", "--no-report"), cwd=here) as process:
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert lasting(out) == lasting(here / "whole")
    assert len(table_of(out)) == 4
