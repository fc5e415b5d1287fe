"""Graphs of many shapes, by name, for the tests of layout and pictures."""

from __future__ import annotations

import random
from functools import cache

from deepnets import GENOTYPES, NODE_TYPES, Genotype, Graph, NetworkConfig, build_graph
from tests.oracles.worked_examples import EXAMPLES

__all__ = ["DEAD", "MAKERS", "graph", "residual"]


def graph_of(types: list[str], sources: list[list[int]], cells: list[int] | None = None) -> Graph:
    """Return a graph without config and parameters."""
    numbers = [NODE_TYPES.index(name) for name in types]
    return Graph(numbers, cells or [0] * len(types), [len(s) for s in sources], [v for s in sources for v in sorted(s)])


def residual(blocks: int) -> Graph:
    types, sources = ["input"], [[]]
    for _ in range(blocks):
        first = len(types) - 1
        types += ["conv", "bn", "conv", "bn", "sum"]
        sources += [[first], [first + 1], [first + 2], [first + 3], [first, first + 4]]
    return graph_of([*types, "glob_avg"], [*sources, [len(types) - 1]])


def densely_connected(layers: int) -> Graph:
    types, sources = ["input", "conv"], [[], [0]]
    outputs = [1]
    for _ in range(layers):
        types += ["concat", "conv"]
        sources += [list(outputs), [len(types) - 2]]
        outputs.append(len(types) - 1)
    return graph_of([*types, "glob_avg"], [*sources, [len(types) - 1]])


def ten_steps() -> Graph:
    rng = random.Random(3)
    operations = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7", "conv_3x3", "cse"]
    genes = [[(rng.choice(operations), s) for i in range(10) for s in rng.sample(range(2 + i), 2)] for _ in range(2)]
    genotype = Genotype(normal=genes[0], normal_concat=[7, 9, 11], reduce=genes[1], reduce_concat=[7, 9, 11])
    return build_graph(NetworkConfig(genotype, n_cells=5))


MAKERS = {
    "one node": lambda: graph_of(["input"], [[]]),
    "chain": lambda: graph_of(["input", *["conv"] * 199], [[], *([i] for i in range(199))]),
    "two sources": lambda: graph_of(["input", "pos_enc", "sum", "conv"], [[], [], [0, 1], [2]]),
    "one cell": lambda: residual(16),
    "dense connections": lambda: densely_connected(12),
    "far cells": lambda: graph_of(["input", *["conv"] * 4], [[], [0], [0], [0, 1], [0, 1, 2, 3]], [0, 2, 5, 5, 9]),
    "ViT": lambda: build_graph(NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)),
    "DARTS": lambda: build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=20, C=36)),
    "PDARTS": lambda: build_graph(NetworkConfig(GENOTYPES["PDARTS"], n_cells=4, stem_type=1, fc_layers=2)),
    "ten steps": ten_steps,
    **{name: lambda name=name: build_graph(EXAMPLES[name].config) for name in EXAMPLES},
}
DEAD = "V4"  # `none` keeps twenty of its nodes from the output


@cache
def graph(name: str) -> Graph:
    return MAKERS[name]()
