"""Random networks, and files in the format of the original release, for the tests of `deepnets.original_format`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deepnets import PRIMITIVES, Genotype, Graph, NetworkConfig, build_graph
from deepnets.original_format import write_official
from deepnets.support import ConfigError


def random_config(rng: np.random.Generator, **fixed: Any) -> NetworkConfig:
    """Return a random network with an output; `fixed` are fields, and `ops` the primitives to choose from."""
    fixed = dict(fixed)
    ops = fixed.pop("ops", PRIMITIVES)
    while True:
        steps = int(rng.integers(1, 4))
        genes = [
            [(str(rng.choice(ops)), int(state)) for step in range(steps) for state in rng.permutation(step + 2)[:2]]
            for _ in range(2)
        ]
        concat = [2 + s for s in range(steps) if s == steps - 1 or rng.random() < 0.7]
        genotype = Genotype(genes[0], concat, genes[1], concat)
        multiplied = int(rng.integers(1, 3))
        vit = "msa" in genotype.primitives
        values = {
            "n_cells": int(rng.integers(3, 7)),
            "C": 8 * int(rng.integers(4, 9)),
            "C_mult": multiplied,
            "ks": int(rng.choice([3, 5, 7])),
            "stem_type": int(rng.integers(2)),
            "stem_pool": bool(rng.integers(2)),
            "norm": [None, "bnorm"][int(rng.integers(2))],
            "preproc": multiplied > 1 or len(concat) > 1 or bool(rng.integers(2)),
            "glob_avg": vit or bool(rng.integers(2)),
            "fc_layers": int(rng.integers(1, 3)),
            "fc_dim": 64 * int(rng.integers(1, 9)),
        }
        try:
            config = NetworkConfig(genotype, **{**values, **fixed})
            build_graph(config)
        except ConfigError:  # no output, or `fixed` does not fit the other fields
            continue
        return config


def random_graphs(n: int, seed: int = 0, **fixed: Any) -> list[Graph]:
    """Return graphs of random networks, every other one without dead nodes."""
    rng = np.random.default_rng(seed)
    graphs = [build_graph(random_config(rng, **fixed)) for _ in range(n)]
    return [graph if i % 2 else graph.pruned() for i, graph in enumerate(graphs)]


def written(folder: Path, graphs: list[Graph], split: str = "val", **options: Any) -> Path:
    """Write a split of these graphs and return the HDF5 file."""
    return write_official(folder, {split: graphs}, **options)[0]


def metadata(path: Path) -> Path:
    """Return the metadata file of an HDF5 file."""
    return path.with_name(f"{path.stem}_meta.json")


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Apply `change` to the metadata of an HDF5 file."""
    content = json.loads(metadata(path).read_text())
    change(content)
    metadata(path).write_text(json.dumps(content))
