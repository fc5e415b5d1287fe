"""Speed, size and memory of the corpus: sampling, building, reading, graphs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import networkx as nx

from deepnets import Network, NetworkConfig, build_graph
from deepnets.architecture import decode
from deepnets.corpus import verify
from deepnets.families import FamilyNetworks
from generator import BuildPlan, Workers, build_corpus
from generator.shards import ShardTask, make_shard
from generator.splits import SPLITS
from tests.perf.timing import Row, median


def sampling() -> list[Row]:
    """Sample networks, from the index of a candidate to its record, in one process."""
    rows = []
    for split, count in (("train", 16_384), ("deep", 4_096), ("dense", 4_096)):
        task = ShardTask(SPLITS[split], 0, 0, count)
        networks = len(make_shard(task).statistics)
        seconds = median(lambda task=task: make_shard(task), 7)
        target = "5,000" if split == "train" else ""
        rows.append((f"networks per second and core, index to record, {split}", f"{networks / seconds:,.0f}", target))
    return rows


def families() -> list[Row]:
    """Draw the sets of LoGAH by their rules."""

    def configurations(name: str) -> list[dict[str, object]]:
        nets = FamilyNetworks(name, "train")
        return [nets.config(index) for index in range(len(nets))]

    rows = []
    for name in ("vits-1k", "gpts-1k"):
        count = len(configurations(name))
        seconds = median(lambda name=name: configurations(name), 7)
        rows.append((f"{count:,} configurations of {name}: ms", f"{1e3 * seconds:.0f}", "1,000"))
    return rows


def building(folder: Path, size: int) -> list[Row]:
    """Build the full training split with two workers, and verify it."""
    workers = Workers(num_workers=2, progress=True)
    build_corpus(folder / "warm", BuildPlan(splits=("train",), train_size=50), workers=workers)
    started = time.perf_counter()
    (report,) = build_corpus(folder, BuildPlan(splits=("train",), train_size=size), workers=workers)
    seconds = time.perf_counter() - started
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    started = time.perf_counter()
    verify(report.path, progress=True)
    checked = time.perf_counter() - started
    name = f"{size:,} networks, 2 workers"
    return [
        (f"{name}: seconds", f"{seconds:.0f}", "240 for the million"),
        (f"{name}: MB", f"{report.size_bytes / 1e6:.1f}", "160 for the million"),
        (f"{name}: peak memory of the parent, MB", f"{peak:.0f}", ""),
        (f"{name}: seconds to verify every byte and graph", f"{checked:.0f}", ""),
    ]


READER = """
import json, sys, time
from pathlib import Path
import numpy as np
from deepnets import DeepNets1M
start = time.perf_counter()
nets = DeepNets1M(sys.argv[1], "train")
opened = time.perf_counter() - start
memory = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
indices = np.random.default_rng(0).integers(len(nets), size=4_000).tolist()
nets[indices[0]].distances(50)
start = time.perf_counter()
for i in indices:
    nets[i].distances(50)
print(json.dumps([opened, memory, len(indices) / (time.perf_counter() - start), len(nets)]))
"""


def reading(folder: Path) -> list[Row]:
    """Open the file and read random graphs, each time in a new process."""
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", READER, folder], check=True, capture_output=True).stdout)
        for _ in range(5)
    ]
    opened, memory, rate, networks = (statistics.median(values) for values in zip(*runs))
    return [
        (f"opening {networks:,.0f} networks: seconds", f"{opened:.2f}", "2"),
        (f"opening {networks:,.0f} networks: memory of the process, MB", f"{memory:.0f}", "300"),
        ("random graphs per second and process, distances to 50 included", f"{rate:,.0f}", "2,000"),
    ]


def graphs() -> list[Row]:
    """Time single steps on networks of the training split."""
    records = make_shard(ShardTask(SPLITS["train"], 1, 0, 120)).architectures
    configs = [decode(record) for record in records]
    built = [build_graph(config) for config in configs]
    digraphs = [graph.to_networkx() for graph in built[:20]]

    def each(function: Callable[[object], object], values: list, runs: int = 5) -> float:
        return median(lambda: [function(value) for value in values], runs) / len(values) * 1e6

    def with_parameters(config: NetworkConfig) -> object:
        return build_graph(config).parameters

    ours = each(lambda graph: graph.distances(50), built[:20])
    theirs = each(lambda graph: dict(nx.all_pairs_shortest_path_length(graph, 50)), digraphs, 3)
    return [
        ("build_graph, µs", f"{each(build_graph, configs):,.0f}", ""),
        (
            "build_graph with parameter names and shapes, µs",
            f"{each(lambda c: build_graph(c).parameters, configs):,.0f}",
            "",
        ),
        ("distances up to 50, µs", f"{ours:,.0f}", ""),
        ("the same with networkx, times as long", f"{theirs / ours:,.0f}", ""),
        (
            "Network (PyTorch modules with initialised parameters), ms",
            f"{each(Network, configs[:20], 3) / 1e3:,.1f}",
            "",
        ),
    ]
