"""Where the time of a training step goes, and how many networks are trained on in a second."""

from __future__ import annotations

import csv
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from deepnets import DeepNets1M
from deepnets.images import load_images
from generator import BuildPlan, build_corpus
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN
from ghn_model.image_stream import ImageStream
from ghn_model.meta_batches import DrawnNetworks, meta_batches
from ghn_model.objective import Objective
from ghn_model.optimization import Optimization
from ghn_model.ranks import Ranks
from ghn_model.recipe import Recipe
from tests.perf.timing import Row

STEPS = 24
RANKS = (1, 2, 4, 8)


def steps() -> list[Row]:
    """A step of GHN-2 on digits, part by part, on one core, and on the GPU if there is one."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(Path(folder), BuildPlan(splits=("train",), train_size=3_000, seed=0))
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            rows += _step(Path(folder), torch.device(device))
        if torch.cuda.is_available():
            rows += _sharing(Path(folder))
    return rows


def _step(data: Path, device: torch.device) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = Recipe.preset("ghn2", "digits")
        config = GHNConfig.preset("ghn2", 10, 32)
        torch.manual_seed(0)
        ghn = GHN(config).to(device).train()
        nets = DrawnNetworks(DeepNets1M(data, virtual_edges=config.virtual_edges), recipe.max_params, recipe.max_nodes)
        stream = ImageStream(load_images("digits", "train", device=device), recipe.batch)
        ranks = Ranks(str(device))
        optimization = Optimization(ghn, recipe, ranks)
        objective = Objective()
        batches = meta_batches(nets, config, recipe.meta_batch, for_gpu=device.type == "cuda")
        parts: dict[str, list[float]] = {name: [] for name in ("data", "networks", "hypernetwork", "optimizer")}

        def timed(what: Callable[[], object]) -> tuple[float, object]:
            started = time.perf_counter()
            result = what()
            if device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - started, result

        for step in range(STEPS):
            waited, batch = timed(lambda: next(batches).to(device))
            more, (images, labels) = timed(functools.partial(stream.at, step))  # type: ignore[misc]
            images = images.contiguous(memory_format=torch.channels_last)
            backward = functools.partial(objective.backward, ghn, batch, images, labels)  # type: ignore[arg-type]
            both, outcome = timed(backward)
            figures = torch.stack([outcome.loss, outcome.loss])  # type: ignore[attr-defined]
            last, _ = timed(functools.partial(optimization.step, figures))
            hyper = outcome.hyper_seconds  # type: ignore[attr-defined]
            for name, seconds in zip(parts, (waited + more, both - hyper, hyper, last), strict=True):
                parts[name].append(seconds)
    finally:
        torch.set_num_threads(threads)
    medians = {name: statistics.median(seconds[4:]) for name, seconds in parts.items()}
    total = sum(medians.values())
    targets = {"data": "10", "hypernetwork": "25"}
    where = f"a step of ghn2 on digits, {device.type}"
    rows = [
        (f"{where}, {name}: % of its time", f"{100 * seconds / total:.0f}", targets.get(name, ""))
        for name, seconds in medians.items()
    ]
    return [(f"{where}: networks/s", f"{recipe.meta_batch / total:.1f}", ""), *rows]


def _sharing(data: Path) -> list[Row]:
    """Networks per second of ranks that share the GPU."""
    rows = []
    for ranks in RANKS:
        with tempfile.TemporaryDirectory() as out:
            launch = (
                ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
            )
            words = ["train", "--preset", "ghn2", "--images", "digits", "--data", str(data), "--out", out]
            words += ["--meta-batch", "8", "--steps", "80", "--log-steps", "40", "--quiet", "--workers", "2"]
            command = [sys.executable, "-m", *launch, "ghn_model", *words]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            with (Path(out) / "log.csv").open() as file:
                last = list(csv.DictReader(file))[-1]
        rows.append(
            (f"training ghn2 on one GPU, {ranks} ranks: networks/s", f"{float(last['networks_per_s']):.1f}", "")
        )
    return rows
