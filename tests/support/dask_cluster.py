"""A Dask cluster of processes of this machine, started as described in the documentation of Dask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.processes import PATIENCE, kill_session, until


class DaskCluster:
    """A scheduler and workers, which end with the context."""

    def __init__(self, folder: Path, num_workers: int, threads: int = 1) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", "0")
        until(self.file.exists)
        self.workers = [self._run("worker", "--nthreads", str(threads), "--no-nanny") for _ in range(num_workers)]
        from distributed import Client

        with Client(self.address, timeout=PATIENCE) as client:
            client.wait_for_workers(num_workers, timeout=PATIENCE)

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard", "--scheduler-file", str(self.file)],
            cwd=self.file.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            kill_session(process.pid)
            process.wait()
