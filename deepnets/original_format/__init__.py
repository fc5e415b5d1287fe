"""Reader and writer of the original release's files: `deepnets1m_{train,search,eval}.hdf5` with `_meta.json`.

    read_official("data/deepnets1m_eval.hdf5", "val")[0].graph     what others made, checked and repaired
    write_official("data", {"train": networks})                    what we made, for others to train on

An HDF5 file holds, for every network, its matrix of shortest-path distances and a table of nodes; the JSON file beside
it holds the architectures.  Each alone determines the graph, so the reader compares the two: files made with the public
generator list nodes and edges in different orders, and the published files have defects of their own (`DEFECTS`).

A file comes from anywhere, so nothing in it is trusted: sizes are checked before memory is taken, links to other files
are refused, and every error names file, split and network.

Source: Knyazev et al., "Parameter Prediction for Unseen Deep Architectures" (NeurIPS 2021), and the released data.
"""

from __future__ import annotations

from deepnets.original_format.conversion import export_official, import_official
from deepnets.original_format.diagnosis import DEFECTS
from deepnets.original_format.metadata import MAX_NODES, SPLITS, official_file
from deepnets.original_format.reader import OfficialNetwork, OfficialReport, OfficialSplit, list_splits, read_official
from deepnets.original_format.writer import OfficialWriter, write_official

__all__ = [
    "DEFECTS",
    "MAX_NODES",
    "SPLITS",
    "OfficialNetwork",
    "OfficialReport",
    "OfficialSplit",
    "OfficialWriter",
    "export_official",
    "import_official",
    "list_splits",
    "official_file",
    "read_official",
    "write_official",
]
