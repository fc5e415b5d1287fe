"""The DeepNets-1M corpus: the dataset class, its HDF5 files, and their verification.

dataset       `DeepNets1M`, a split as a sequence of graphs, and `MetaBatchSampler`
storage       `CorpusFile` and `write_corpus`: one HDF5 file per split
wiring        the edges of a graph as rows of a file
statistics    sizes, fingerprints and parameter counts of encoded architectures
widths        rules that choose the width of a network
predefined    the split `predefined`: ResNet-50 and ViT
verification  `verify` and `check_disjoint`

Names are imported on first use; no module imports torch before a network or a batch is requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.corpus.dataset import SPLITS as SPLITS
    from deepnets.corpus.dataset import DeepNets1M as DeepNets1M
    from deepnets.corpus.dataset import MetaBatchSampler as MetaBatchSampler
    from deepnets.corpus.statistics import MEASURE as MEASURE
    from deepnets.corpus.statistics import NUM_CLASSES as NUM_CLASSES
    from deepnets.corpus.statistics import append_rows as append_rows
    from deepnets.corpus.statistics import measure as measure
    from deepnets.corpus.statistics import tabulate as tabulate
    from deepnets.corpus.storage import COLUMNS as COLUMNS
    from deepnets.corpus.storage import FORMAT_VERSION as FORMAT_VERSION
    from deepnets.corpus.storage import Columns as Columns
    from deepnets.corpus.storage import CorpusFile as CorpusFile
    from deepnets.corpus.storage import content_digest as content_digest
    from deepnets.corpus.storage import corpus_path as corpus_path
    from deepnets.corpus.storage import write_corpus as write_corpus
    from deepnets.corpus.verification import check_disjoint as check_disjoint
    from deepnets.corpus.verification import verify as verify
    from deepnets.corpus.widths import WidthRule as WidthRule
    from deepnets.corpus.wiring import WIRING as WIRING
    from deepnets.corpus.wiring import decode_wiring as decode_wiring

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "dataset": (
            "SPLITS",
            "DeepNets1M",
            "MetaBatchSampler",
        ),
        "statistics": (
            "MEASURE",
            "NUM_CLASSES",
            "append_rows",
            "measure",
            "tabulate",
        ),
        "storage": (
            "COLUMNS",
            "FORMAT_VERSION",
            "Columns",
            "CorpusFile",
            "content_digest",
            "corpus_path",
            "write_corpus",
        ),
        "verification": (
            "check_disjoint",
            "verify",
        ),
        "widths": ("WidthRule",),
        "wiring": (
            "WIRING",
            "decode_wiring",
        ),
    },
)
