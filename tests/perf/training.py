"""The time of the parts of a training step, and the number of networks per second of time and of processor time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from generator import BuildPlan, build_corpus
from tests.perf.timing import Row

RANKS = (1, 2, 4, 8)
TARGETS = {"data": "10", "hypernetwork": "25"}


def steps() -> list[Row]:
    """Time the parts of a step of GHN-2 on digits, on one core, and on the GPU if there is one."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(Path(folder), BuildPlan(splits=("train",), train_size=3_000, seed=0))
        rows += _step(Path(folder), "cpu")
        rows += _sizes(Path(folder))
        if torch.cuda.is_available():
            rows += _step(Path(folder), "cuda")
            rows += _sharing(Path(folder))
    return rows


def _step(data: Path, device: str) -> list[Row]:
    measured = _profiled(data, 1, "--device", device, "--threads", "1", "--workers", "0")
    parts = measured["parts"]
    shares = {"data": parts["data"] + parts["images"], "optimizer": parts["optimizer"] + parts["synchronization"]}
    shares["hypernetwork"] = parts["hypernetwork forward"] + parts["hypernetwork backward"]
    shares["networks"] = parts["networks forward"] + parts["networks backward"]
    where = f"a step of ghn2 on digits, {device}"
    rows = [(f"{where}: networks/s", f"{measured['networks_per_s']:.1f}", "")]
    for name in ("data", "networks", "hypernetwork", "optimizer"):
        share = 100 * shares[name] / sum(parts.values())
        rows.append((f"{where}, {name}: % of its time", f"{share:.0f}", TARGETS.get(name, "")))
    return rows


def _sizes(data: Path) -> list[Row]:
    """Measure networks per second of processor time with the numbers of networks and images of earlier recipes."""
    sizes = ["--meta-batch-size", "4", "--batch-size", "16", "--share-images"]
    sizes += ["--max-params", "150000", "--max-nodes", "120"]
    rows = []
    for channels, dirac in (("64", "--no-dirac"), ("16", "--dirac")):
        config = "--max-shape", channels, channels, "11", "11", dirac
        for resolution, fraction in (("full", "0"), ("half", "0.99")):
            words = "--device", "cpu", "--threads", "1", "--workers", "0", "--low-resolution", fraction, *sizes, *config
            speed = _profiled(data, 1, *words)["networks_per_core_s"]
            where = f"training ghn2, {channels} channels, 4 networks, 16 images, {resolution} resolution, cpu"
            rows.append((f"{where}: networks per core-second", f"{speed:.2f}", ""))
    return rows


def _sharing(data: Path) -> list[Row]:
    """Measure networks per second of ranks that share the GPU, with the published settings except for the images."""
    rows = []
    for ranks in RANKS:
        measured = _profiled(
            data, ranks, "--meta-batch-size", "8", "--batch-size", "64", "--max-params", "0", "--max-nodes", "0"
        )
        rows.append((f"training ghn2 on one GPU, {ranks} ranks: networks/s", f"{measured['networks_per_s']:.1f}", ""))
    return rows


def _profiled(data: Path, ranks: int, *options: str) -> dict[str, Any]:
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    words = ["profile", "--preset", "ghn2", "--images", "digits", "--data", str(data), "--json", *options]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "ghn_model", *words],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])
