"""Readers of the files of the original release, written from the published description of the format.

They do not use `deepnets.original_format`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepnets.graph import Graph


class NaiveNetwork:
    """A network as the readers of PPUDA and GHN-3 represent it, from the published description of the format."""

    def __init__(self, group: h5py.Group, entry: dict[str, Any], meta: dict[str, Any]) -> None:
        self.adj = group["adj"][()]
        rows = group["nodes"][()]
        self.entry = entry
        self.words = [meta["primitives_ext"][str(row[0])] for row in rows]
        self.types = [self.fix_type(word) for word in self.words]
        self.cells = [int(row[1]) for row in rows]
        self.raw_names = [meta["unique_op_names"][str(row[2])] for row in rows]
        self.names = [self.fix_name(name, cell) for name, cell in zip(self.raw_names, self.cells)]

    @staticmethod
    def fix_type(word: str) -> str:
        if word.startswith("conv_"):
            return "conv"
        if word.startswith(("sep_conv_", "dil_conv_", "max_pool_", "avg_pool_")):
            return word[:-4]
        return "bias" if word == "fc-b" else word

    @staticmethod
    def fix_name(name: str, cell: int) -> str:
        if name.startswith("classifier"):
            return name
        if not name:
            name = "input"
        if name.endswith("to_out.0."):
            name += "weight"
        parts = name.split(".")
        if "_ops" in parts:
            place = parts.index("_ops") + 2
            if parts[place].isdigit():  # a name with _ops has a component after the index
                parts.insert(place, "op")
        name = ".".join([f"cells.{cell}", *parts])
        for word in ("stem", "pos_enc"):
            if word in name:
                name = name[name.index(word) :]
        return name

    @property
    def is_vit(self) -> bool:
        genotype = self.entry["genotype"]
        return any(op == "msa" for op, _ in genotype["normal"] + genotype["reduce"])

    def stem_rows(self) -> tuple[int, int] | None:
        """Return the rows at which the two parts of a two-part stem end."""
        if self.entry["stem_type"] != 1 or self.is_vit:
            return None
        return (4, 6) if self.entry["norm"] else (2, 3)

    def ghn3_repaired(self) -> np.ndarray:
        """Return the adjacency matrix after the repairs that GHN-3's reader makes to published files."""
        edges = self.adj == 1
        rows = self.stem_rows()
        if rows is not None:
            stem0, stem1 = rows
            after0, after1 = np.flatnonzero(edges[stem0]), np.flatnonzero(edges[stem1])
            if len(after1) == 1 and len(after0) > 1 and after0[-1] - after0[-2] > 1:
                edges[stem0, after0[-1]] = False
                edges[stem1, after0[-1]] = True
        for node, kind in enumerate(self.types):
            sources = np.flatnonzero(edges[:, node])
            if len(sources) > 1 and kind not in ("concat", "sum", "cse"):
                edges[sources[1:], node] = False
        return edges if (edges != (self.adj == 1)).any() else self.adj


def naive_networks(path: Path, split: str) -> list[NaiveNetwork]:
    content = json.loads(path.with_name(f"{path.stem}_meta.json").read_text())[split]
    with h5py.File(path, "r") as file:
        return [NaiveNetwork(file[split][str(i)], entry, content["meta"]) for i, entry in enumerate(content["nets"])]


def parameter_table(graph: Graph) -> set[tuple[int, str]]:
    """Return (cell, name) of every parameter, as readers list them: the stem in cell 0, the head in the last one."""
    table = set()
    for slot in [slot for slots in graph.parameters for slot in slots] + list(graph.unused):
        if slot.name.startswith("cells."):
            cell = int(slot.name.split(".")[1])
        else:
            cell = 0 if slot.name.startswith(("stem", "pos_enc")) else graph.config.n_cells - 1
        table.add((cell, slot.name))
    return table


def shortest_paths(edges: np.ndarray, cutoff: int) -> np.ndarray:
    """Return distances, computed by repeated matrix products."""
    distances = np.zeros(edges.shape, np.uint8)
    frontier = edges.astype(np.float32)
    for length in range(1, cutoff + 1):
        if not frontier.any():
            break
        distances[(distances == 0) & (frontier > 0)] = length
        frontier = (frontier @ edges > 0).astype(np.float32)
    return distances
