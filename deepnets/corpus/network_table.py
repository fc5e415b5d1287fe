"""The table of a split: one row per network, with its architecture and its sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from deepnets.architecture import NORMS, PRIMITIVES, decode, encode
from deepnets.corpus.layout import Columns
from deepnets.corpus.predefined import RESNET_50, VIT, predefined_statistics
from deepnets.corpus.statistics import compute_statistics
from deepnets.corpus.storage import CorpusFile
from deepnets.corpus.widths import evaluation_factor
from deepnets.graph import count_parameters

__all__ = ["network_table"]


def network_table(file: CorpusFile | None, split: str, image_size: int, count: int) -> pd.DataFrame:
    """Return the table of the first networks of a split; see `DeepNets1M.table`.

    Parameters
    ----------
    file
        The file of the split; None for the split `predefined`.
    split, image_size
        As in `DeepNets1M`.
    count
        Number of networks.

    Examples
    --------
    >>> int(network_table(None, "predefined", 32, 2).num_params[1])
    1012234
    """
    if file is not None:
        return _table(file, split, image_size, {name: values[:count] for name, values in file.columns.items()})
    architectures = encode([VIT])
    statistics, _ = compute_statistics(architectures)
    columns = {name: part[name] for part in (architectures, statistics) for name in part.dtype.names or ()}
    vit = _table(None, split, image_size, columns)
    known = predefined_statistics(RESNET_50)
    whole = pd.concat([vit, vit], ignore_index=True).astype(
        {name: _nullable(kind) for name, kind in vit.dtypes.items()}
    )
    for column in whole:
        whole[column] = whole[column].where(whole.index > RESNET_50, known.get(column, pd.NA))
    return whole[:count]


def _nullable(kind: Any) -> Any:
    """Return the type of pandas that has the same values and missing ones; floats would not hold fingerprints."""
    if isinstance(kind, pd.CategoricalDtype):
        return kind
    return "boolean" if kind == bool else pd.array(np.empty(0, kind)).dtype  # noqa: E721


def _table(file: CorpusFile | None, split: str, image_size: int, columns: Columns) -> pd.DataFrame:
    table = pd.DataFrame({name: values for name, values in columns.items() if values.ndim == 1})
    table["norm"] = pd.Categorical.from_codes(table["norm"], [str(norm) for norm in NORMS])
    for flag in ("stem_pool", "preproc", "glob_avg"):
        table[flag] = table[flag].astype(bool)
    for code, primitive in enumerate(PRIMITIVES):
        table[primitive] = (columns["ops"] == code).sum(axis=(1, 2)).astype(np.uint8)
    if split == "wide":  # the file states the widths of the `test` networks
        stored = [decode(record) for record in file.architectures(slice(len(table)))] if file else []
        for column, size in (("num_params", 32), ("num_params_imagenet", 224)):
            wide = [config.replace(C=config.C * evaluation_factor("wide", size)) for config in stored]
            table[column] = np.array([count_parameters(config, image_size=size) for config in wide], np.uint64)
        table["C"] *= evaluation_factor("wide", image_size)
    return table.drop(columns=["num_rows", "imagenet_stride"])
