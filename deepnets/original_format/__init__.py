"""Reader and writer of the original release's files: `deepnets1m_{train,search,eval}.hdf5` with `_meta.json`.

    read_official("data/deepnets1m_eval.hdf5", "val")[0].graph     a network of the release, checked and repaired
    write_official("data", {"train": networks})                    files for tools that read the original format
    import_official, export_official                               whole splits to and from corpus files

An HDF5 file holds, for every network, the matrix of shortest-path distances and a table of nodes.  The JSON file beside
it holds the architectures.  Either file determines the graph, so the reader compares the two: files made with the
public generator list nodes and edges in different orders, and the published files have other defects (`DEFECTS`).

Files are untrusted input: sizes are checked before memory is allocated, links to other files are refused, and every
error names the file, the split and the network.

Source: Knyazev et al., "Parameter Prediction for Unseen Deep Architectures" (NeurIPS 2021), and the released data.

contents    files of a folder           metadata    the JSON file, read in one pass
reader      `read_official`             vocabulary  names of node types and parameters in the files
network     what the reader returns     writer      `write_official`
diagnosis   comparison of graphs        output      the file that the writer writes
conversion  `import_official` and `export_official`
"""

from __future__ import annotations

from deepnets.original_format.contents import find_official, list_splits
from deepnets.original_format.conversion import export_official, import_official
from deepnets.original_format.diagnosis import DEFECTS
from deepnets.original_format.metadata import MAX_NODES, official_file
from deepnets.original_format.network import OfficialNetwork, OfficialReport
from deepnets.original_format.reader import OfficialSplit, read_official
from deepnets.original_format.writer import OfficialWriter, write_official

__all__ = [
    "DEFECTS",
    "MAX_NODES",
    "OfficialNetwork",
    "OfficialReport",
    "OfficialSplit",
    "OfficialWriter",
    "export_official",
    "find_official",
    "import_official",
    "list_splits",
    "official_file",
    "read_official",
    "write_official",
]
