"""What the reader returns: `OfficialNetwork`, one network, and `OfficialReport`, the defects of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepnets.architecture import NetworkConfig
from deepnets.graph import Graph
from deepnets.original_format.diagnosis import DEFECTS

__all__ = ["OfficialNetwork", "OfficialReport"]


@dataclass(frozen=True)
class OfficialNetwork:
    """One network of an original file.

    Attributes
    ----------
    config : NetworkConfig
        Its configuration.  `C` of the `wide` split is as stored; users multiply it by 4 for 32-pixel images and by 2
        for 224-pixel images.
    has_width : bool
        Whether the file stores `C`.  Files of `train` do not, nor do other files of the public generator; `config.C`
        and `config.fc_dim` are then placeholders.
    graph : Graph
        Its graph, in canonical order unless the file was read with `rebuild=False`.
    index : int
        Its position in the split.
    num_params : mapping of str to int
        Stored numbers of parameters by image set (`cifar10`, `imagenet`), for `C=32`, `fc_dim=256` and 10 classes.
    stored_nodes : int
        Nodes in the file.  `graph` has more nodes if the file lacks some.
    defects : tuple of str
        Keys of `DEFECTS` that apply to the graph in the file.  `graph` itself has them only with `rebuild=False`.
        Empty if the file was read with `rebuild=True`, which compares nothing.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from deepnets.original_format import read_official, write_official
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     (path,) = write_official(folder, {"train": [graph]})
    ...     with read_official(path) as networks:
    ...         network = networks[0]
    >>> network.index, network.has_width, network.defects, network.scrambled
    (0, False, (), False)
    """

    config: NetworkConfig
    has_width: bool
    graph: Graph
    index: int
    num_params: Mapping[str, int]
    stored_nodes: int
    defects: tuple[str, ...]

    @property
    def scrambled(self) -> bool:
        """Whether the file connects nodes by edges that belong to other nodes."""
        return "scrambled" in self.defects


@dataclass(frozen=True)
class OfficialReport:
    """Result of comparing the graphs of a split with their configurations; `str()` gives a table.

    Attributes
    ----------
    networks : int
        Networks that were compared.
    exact : int
        Networks whose nodes, edges and distances are equal, in canonical order.
    with_dead_nodes : int
        Networks with nodes that do not reach the output.
    defects : mapping of str to int
        Number of networks by key of `DEFECTS`; a network may have several defects.
    widths_chosen : int, default 0
        Networks of an evaluation split without a width in the file, which `import_official` has chosen.

    Examples
    --------
    >>> print(OfficialReport(networks=500, exact=490, with_dead_nodes=80, defects={"order": 10, "cells": 0}))
    500 networks, 490 exact, 80 with dead nodes
          10 order: the graph is right, but its nodes are not in canonical order
    """

    networks: int
    exact: int
    with_dead_nodes: int
    defects: Mapping[str, int]
    widths_chosen: int = 0

    def __str__(self) -> str:
        lines = [f"{self.networks} networks, {self.exact} exact, {self.with_dead_nodes} with dead nodes"]
        lines += [f"{count:8} {defect}: {DEFECTS[defect]}" for defect, count in self.defects.items() if count]
        if self.widths_chosen:
            lines.append(
                f"note: {self.widths_chosen} networks have no width in the file; each has the smallest of 32, 48, 64, "
                "... with 2.5 million parameters on CIFAR-10, as in the original release"
            )
        return "\n".join(lines)
