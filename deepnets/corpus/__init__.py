"""The DeepNets-1M corpus: the dataset class, its HDF5 files, and their verification.

dataset         `DeepNets1M`, a split as a sequence of graphs
network_table   the table of a split
pyg_dataset     `PyGDataset`, a split as a dataset of PyTorch Geometric
parquet         `export_parquet` and `write_parquet`, tables for Hugging Face datasets
sampler         `MetaBatchSampler`, random meta-batches for training
loader          the data loader that uses them
layout          columns and attributes of a corpus file
storage         `CorpusFile`, the file of a split
stored_network  configuration and parameters of one network of a file
writing         `write_corpus`
wiring          the edges of a graph as rows of a file
statistics      sizes, fingerprints and wiring of encoded architectures
widths          rules for the widths of networks
predefined      the split `predefined`: ResNet-50 and a vision transformer
verification    `verify`, and checks of all files of a folder

Names are imported on first use.  Torch is imported when a network or a batch is requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.corpus.dataset import DeepNets1M as DeepNets1M
    from deepnets.corpus.layout import COLUMNS as COLUMNS
    from deepnets.corpus.layout import FORMAT_VERSION as FORMAT_VERSION
    from deepnets.corpus.layout import NETWORK_SPLITS as NETWORK_SPLITS
    from deepnets.corpus.layout import Columns as Columns
    from deepnets.corpus.layout import corpus_path as corpus_path
    from deepnets.corpus.parquet import export_parquet as export_parquet
    from deepnets.corpus.parquet import write_parquet as write_parquet
    from deepnets.corpus.sampler import MetaBatchSampler as MetaBatchSampler
    from deepnets.corpus.statistics import NUM_CLASSES as NUM_CLASSES
    from deepnets.corpus.statistics import STATISTICS as STATISTICS
    from deepnets.corpus.statistics import append_rows as append_rows
    from deepnets.corpus.statistics import compute_sizes as compute_sizes
    from deepnets.corpus.statistics import compute_statistics as compute_statistics
    from deepnets.corpus.statistics import evaluation_width as evaluation_width
    from deepnets.corpus.statistics import evaluation_widths as evaluation_widths
    from deepnets.corpus.storage import CorpusFile as CorpusFile
    from deepnets.corpus.storage import content_digest as content_digest
    from deepnets.corpus.verification import SharedNetworks as SharedNetworks
    from deepnets.corpus.verification import check_disjoint as check_disjoint
    from deepnets.corpus.verification import check_one_corpus as check_one_corpus
    from deepnets.corpus.verification import find_shared_networks as find_shared_networks
    from deepnets.corpus.verification import verify as verify
    from deepnets.corpus.widths import WidthRule as WidthRule
    from deepnets.corpus.wiring import WIRING as WIRING
    from deepnets.corpus.wiring import decode_wiring as decode_wiring
    from deepnets.corpus.writing import write_corpus as write_corpus

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "dataset": ("DeepNets1M",),
        "layout": (
            "COLUMNS",
            "FORMAT_VERSION",
            "NETWORK_SPLITS",
            "Columns",
            "corpus_path",
        ),
        "parquet": (
            "export_parquet",
            "write_parquet",
        ),
        "sampler": ("MetaBatchSampler",),
        "statistics": (
            "NUM_CLASSES",
            "STATISTICS",
            "append_rows",
            "compute_sizes",
            "compute_statistics",
            "evaluation_width",
            "evaluation_widths",
        ),
        "storage": (
            "CorpusFile",
            "content_digest",
        ),
        "verification": (
            "SharedNetworks",
            "check_disjoint",
            "check_one_corpus",
            "find_shared_networks",
            "verify",
        ),
        "widths": ("WidthRule",),
        "wiring": (
            "WIRING",
            "decode_wiring",
        ),
        "writing": ("write_corpus",),
    },
)
