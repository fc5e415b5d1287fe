"""The overhead of an evaluation, in addition to the forward passes of the networks."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmark.evaluation import SplitNetworks
from benchmark.evaluation.rows import evaluate_one
from benchmark.results import Machine, run
from deepnets import DeepNets1M
from deepnets.architecture import CompactModel
from deepnets.data import load_images
from generator import BuildPlan, build_corpus
from ghn_model import GHN, use_batch_statistics
from tests.perf.timing import Row

NETWORKS = 4


def overhead() -> list[Row]:
    """Compare a row, and a run in separate processes, with a plain loop over the same batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            build_corpus(Path(folder), BuildPlan(splits=("test",), seed=0))
            return _overhead(Path(folder))
    finally:
        torch.set_num_threads(threads)


def _overhead(data: Path) -> list[Row]:
    torch.manual_seed(0)
    ghn = GHN("ghn2").eval()
    images = load_images("digits", "test")
    nets = DeepNets1M(data, "test")
    batches = [images_.contiguous(memory_format=torch.channels_last) for images_, _ in images.batches(64)]
    networks = SplitNetworks(data, "test", num_classes=10, image_size=32)
    evaluate_one(networks, 0, ghn, images)
    ratios, parts, gains = [], [], []
    for index in range(NETWORKS):
        predicted = ghn.predict(nets.network(index).eval(), graph=nets[index])
        model, copy = (use_batch_statistics(nets.network(index).eval()) for _ in range(2))
        plain, bare, whole, before = [], [], [], []
        for _ in range(2):  # alternate, and take the fastest of each, as the machine may be busy
            compact = CompactModel(partial(torch.func.functional_call, copy, predicted), copy)
            for passes, function in ((plain, partial(torch.func.functional_call, model, predicted)), (bare, compact)):
                started = time.perf_counter()
                with torch.no_grad():
                    for batch in batches:
                        function(batch)
                passes.append(time.perf_counter() - started)
            started = time.perf_counter()
            row = evaluate_one(networks, index, ghn, images)
            whole.append(time.perf_counter() - started)
            before.append(row["graph_seconds"] + row["build_seconds"] + row["predict_seconds"])
        ratios.append(min(whole) / min(bare) - 1)
        gains.append(min(plain) / min(bare))
        parts.append(min(before) / min(whole))
    rows = [
        ("forward passes of networks of test, equal channels once: times as fast", f"{statistics.mean(gains):.1f}", ""),
        (
            "evaluating a network of test beyond its forward passes: % of these",
            f"{100 * statistics.median(ratios):.0f}",
            "10",
        ),
        ("  of which graph, building and prediction: % of the whole", f"{100 * statistics.median(parts):.1f}", ""),
    ]
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        path = run(["untrained:ghn2"], ["test"], data=data, out=out, limit=2 * NETWORKS, machine=Machine(workers=2))
        wall = time.perf_counter() - started
        busy = float(pd.read_csv(path)["evaluate_seconds"].sum()) / 2
    rows.append(("a run of 8 networks on 2 cores: s, of which forward passes", f"{wall:.1f}, {busy:.1f}", ""))
    isolated, together = [], []
    bundled = GHN.from_pretrained("ghn2-digits")
    for _ in range(3):
        with tempfile.TemporaryDirectory() as out:
            started = time.perf_counter()
            run(["ghn2-digits"], ["test"], data=data, out=out, limit=20, machine=Machine(workers=1, threads=1))
            isolated.append(time.perf_counter() - started)
        started = time.perf_counter()
        for index in range(20):
            evaluate_one(networks, index, bundled, images)
        together.append(time.perf_counter() - started)
    cost = 100 * (statistics.median(isolated) / statistics.median(together) - 1)
    label = "ghn2-digits on 20 networks in processes of their own, beyond the same in one process: %"
    return [*rows, (label, f"{cost:.0f}", "10")]
