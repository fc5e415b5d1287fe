"""Parquet files of the corpus, for Hugging Face `datasets`, pandas, Polars and DuckDB."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepnets.corpus.dataset import DeepNets1M
from deepnets.corpus.layout import NETWORK_SPLITS
from deepnets.support import (
    ConfigError,
    FormatError,
    MissingDependencyError,
    atomic_write,
    in_one_line,
    install_command,
    replace_file,
)

__all__ = ["export_parquet", "write_parquet"]

_TITLE = "\n\n# DeepNets-1M\n\n"
"""By which the card of an exported corpus is known from the README of another project."""

_ROWS = 1000  # per row group, which is what a reader needs in memory


def write_parquet(nets: DeepNets1M, path: Path | str, *, graphs: bool = False) -> int:
    """Write a split as one Parquet file.

    Parameters
    ----------
    nets
        The split.
    path
        The file; replaced if it exists.
    graphs
        Whether to write the graphs, too.  They are read and written in groups, so that memory does not depend on the
        number of networks.

    Returns
    -------
    int
        Number of rows.  The columns are `index`, those of `DeepNets1M.table`, and `config`, the `NetworkConfig` of
        `nets[i]` in JSON (empty for the predefined ResNet-50), which for `train` has the width of draw 0.  With
        `graphs`, also `node_types` and `cells`, lists of N integers, and `edge_index`, a list of two lists of E
        integers, the sources and the targets.  The types are the same for all splits; the predefined ResNet-50 has no
        values in most columns, so read this split with `pandas.read_parquet(..., dtype_backend="numpy_nullable")`.

    Raises
    ------
    MissingDependencyError
        If pyarrow is not installed (`pip install "deepnets1m[parquet]"`).
    OSError
        If the file cannot be written; an existing one is kept.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import MissingDependencyError
    >>> nets = DeepNets1M(split="predefined", num_nets=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         rows = write_parquet(nets, Path(folder) / "predefined.parquet", graphs=True)
    ...     except MissingDependencyError:
    ...         rows = 2
    >>> rows
    2
    """
    pyarrow, parquet = _import_pyarrow()
    table = nets.table
    norms = table["norm"].astype(object)
    table["norm"] = norms.where(norms.notna() & (norms != "None"), None)
    table.insert(0, "index", range(len(table)))
    writer: Any = None
    with atomic_write(Path(path)) as temporary:
        try:
            for start in range(0, len(table), _ROWS):
                part = _with_networks(nets, table[start : start + _ROWS], graphs)
                block = pyarrow.Table.from_pandas(part, schema=writer and writer.schema, preserve_index=False)
                writer = writer or parquet.ParquetWriter(temporary, _schema(pyarrow, block.schema))
                writer.write_table(block.cast(writer.schema))
        finally:
            if writer is not None:
                writer.close()
    return len(table)


def export_parquet(
    root: Path | str, out: Path | str, splits: Sequence[str], *, graphs: bool = False, overwrite: bool = False
) -> dict[str, Path]:
    """Write splits as a folder that `datasets.load_dataset` reads, by the name of the folder.

    Parameters
    ----------
    root
        Corpus folder.
    out
        Folder to create: `data/SPLIT-00000-of-00001.parquet` for each split, and `README.md`, whose header declares
        all splits that the folder has then.
    splits
        Names of splits.
    graphs
        As in `write_parquet`.
    overwrite
        Whether to replace existing files of `splits`.

    Returns
    -------
    dict
        The file of each split.

    Raises
    ------
    ConfigError
        If no split is given, or one is unknown; if the folder has a file of a split and `overwrite` is not set; or if
        it has a `README.md` that this function did not write, or other splits with other columns, with or without
        graphs.
    MissingDataError
        If a split has not been built.
    MissingDependencyError
        As in `write_parquet`.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> export_parquet("data", "exported", [])
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: splits: expected one or more of train, val, test, search, wide, deep, dense, \
bnfree, predefined, got nothing
    """
    known = ", ".join(NETWORK_SPLITS)
    if not splits or not set(splits) <= set(NETWORK_SPLITS):
        got = ", ".join(split for split in splits if split not in NETWORK_SPLITS) or "nothing"
        raise ConfigError(f"splits: expected one or more of {known}, got {got}")
    _, parquet = _import_pyarrow()
    opened = {split: DeepNets1M(root, split) for split in dict.fromkeys(splits)}
    files = {split: _file_of(out, split) for split in opened}
    for path in files.values():
        if path.exists() and not overwrite:
            raise ConfigError(
                f"{path}: already exists; leave out this split, or replace the file (--overwrite, overwrite=True)"
            )
    for split in NETWORK_SPLITS:
        if split not in opened and _file_of(out, split).exists():
            try:
                names = parquet.read_schema(_file_of(out, split)).names
            except (OSError, ValueError) as error:  # errors of pyarrow are one of these
                raise FormatError(f"{_file_of(out, split)}: cannot be read: {in_one_line(error, 200)}") from error
            if ("node_types" in names) is not graphs:
                raise ConfigError(
                    f"{_file_of(out, split)}: was written {'without' if graphs else 'with'} graphs; splits of one "
                    "folder have the same columns, so choose another folder, or export this split again, too"
                )
    readme = Path(out) / "README.md"
    if readme.exists() and _TITLE.encode() not in readme.read_bytes():
        raise ConfigError(f"{readme}: already exists, and is not that of an exported corpus; choose another folder")
    (Path(out) / "data").mkdir(parents=True, exist_ok=True)
    for split, nets in opened.items():
        write_parquet(nets, files[split], graphs=graphs)
        nets.close()
    replace_file(readme, _card([split for split in NETWORK_SPLITS if _file_of(out, split).exists()], graphs))
    return files


def _file_of(out: Path | str, split: str) -> Path:
    return Path(out) / "data" / f"{split}-00000-of-00001.parquet"


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet files need pyarrow: {install_command('parquet')}", name="pyarrow"
        ) from error
    return pyarrow, pyarrow.parquet


def _with_networks(nets: DeepNets1M, rows: pd.DataFrame, graphs: bool) -> pd.DataFrame:
    """Return rows of the table with columns that are read from single networks."""
    configs = []
    for index in rows["index"]:
        try:
            configs.append(json.dumps(nets.config(int(index)).to_dict()))
        except ConfigError:
            if nets.file is not None:
                raise
            configs.append("")  # the predefined ResNet-50
    rows = rows.assign(config=configs)
    if graphs:
        read = [nets[int(index)] for index in rows["index"]]
        rows["node_types"] = [graph.node_types for graph in read]
        rows["cells"] = [graph.cells for graph in read]
        rows["edge_index"] = [list(graph.edges.T) for graph in read]
    return rows


def _schema(pyarrow: Any, found: Any) -> Any:
    """Return the schema of a file, in which texts are texts even if the first rows have none."""
    fields = [pyarrow.field("norm", pyarrow.string()) if field.name == "norm" else field for field in found]
    return pyarrow.schema(fields)


def _card(splits: Sequence[str], graphs: bool) -> str:
    files = "".join(f"  - split: {split}\n    path: data/{split}-00000-of-00001.parquet\n" for split in splits)
    columns = "`config`, the architecture in JSON" + (
        ", `node_types` (indices into `deepnets.NODE_TYPES`), `cells` and `edge_index` (sources, targets)"
        if graphs
        else ""
    )
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---{_TITLE}"
        "Neural architectures of DeepNets-1M (Knyazev et al., Parameter Prediction for Unseen Deep Architectures,\n"
        f"NeurIPS 2021), one row per network: `index`, the position in its split, sizes, {columns}.\n"
        'Read it with `datasets.load_dataset("this folder")`.\n'
    )
