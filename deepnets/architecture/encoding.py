"""Configurations as NumPy records of fixed size, for compiled code and files.

`decode` is the inverse of `encode`.  It validates the record, so records from files can be decoded safely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture.config import NetworkConfig
from deepnets.architecture.genotype import Genotype
from deepnets.architecture.vocabulary import MAX_STEPS, NORMS, PRIMITIVES
from deepnets.support import checked_integer

__all__ = ["ARCHITECTURE", "NORMAL", "PADDING", "REDUCE", "decode", "encode"]

NORMAL, REDUCE = 0, 1
"""Rows of the fields `ops`, `states` and `concat` for the two kinds of cell."""

PADDING = 255
"""Value of unused entries of `ops` and `states`, in genotypes with fewer than `MAX_STEPS` steps."""

ARCHITECTURE: np.dtype[Any] = np.dtype(
    [
        ("n_cells", "u1"),
        ("ks", "u1"),
        ("stem_type", "u1"),
        ("stem_pool", "u1"),
        ("norm", "u1"),  # index into NORMS
        ("preproc", "u1"),
        ("C_mult", "u1"),
        ("glob_avg", "u1"),
        ("fc_layers", "u1"),
        ("imagenet_stride", "u1"),
        ("C", "<u2"),
        ("fc_dim", "<u2"),
        ("concat", "<u2", (2,)),  # bit s is set if state s is concatenated
        ("steps", "u1"),
        ("ops", "u1", (2, 2 * MAX_STEPS)),  # indices into PRIMITIVES
        ("states", "u1", (2, 2 * MAX_STEPS)),
    ],
    align=True,
)
"""Data type of an encoded configuration."""

_PLAIN = tuple(name for name in ARCHITECTURE.names or () if name not in ("norm", "concat", "steps", "ops", "states"))


def encode(configs: Iterable[NetworkConfig]) -> npt.NDArray[np.void]:
    """Encode configurations.

    Parameters
    ----------
    configs
        n configurations.

    Returns
    -------
    numpy.ndarray
        `(n,)` records of `ARCHITECTURE`.

    Examples
    --------
    >>> from deepnets import GENOTYPES
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=6)
    >>> records = encode([config])
    >>> int(records["n_cells"][0]), decode(records[0]) == config
    (6, True)
    """
    configs = list(configs)
    records = np.zeros(len(configs), ARCHITECTURE)
    records["ops"] = PADDING
    records["states"] = PADDING
    for record, config in zip(records, configs):
        for name in _PLAIN:
            record[name] = getattr(config, name)
        genotype = config.genotype
        record["norm"] = NORMS.index(config.norm)
        record["steps"] = genotype.steps
        for kind, genes in ((NORMAL, genotype.normal), (REDUCE, genotype.reduce)):
            record["ops"][kind, : len(genes)] = [PRIMITIVES.index(op) for op, _ in genes]
            record["states"][kind, : len(genes)] = [state for _, state in genes]
        for kind, concat in ((NORMAL, genotype.normal_concat), (REDUCE, genotype.reduce_concat)):
            record["concat"][kind] = sum(1 << state for state in concat)
    return records


def decode(record: Any) -> NetworkConfig:
    """Decode and validate a configuration.

    Parameters
    ----------
    record
        A scalar of `ARCHITECTURE`, or a mapping with the same fields.

    Returns
    -------
    NetworkConfig

    Raises
    ------
    ConfigError
        If the record is not a valid configuration.

    Examples
    --------
    See `encode`.
    """
    values: dict[str, Any] = {name: int(record[name]) for name in _PLAIN}
    pairs = 2 * checked_integer("steps", int(record["steps"]), range(1, MAX_STEPS + 1))
    genes, concats = [], []
    for kind in (NORMAL, REDUCE):
        ops = np.asarray(record["ops"][kind])[:pairs].tolist()
        states = np.asarray(record["states"][kind])[:pairs].tolist()
        genes.append([(_entry(PRIMITIVES, op), state) for op, state in zip(ops, states)])
        mask = int(record["concat"][kind])
        concats.append([state for state in range(mask.bit_length()) if mask >> state & 1])
    genotype = Genotype(genes[NORMAL], concats[NORMAL], genes[REDUCE], concats[REDUCE])  # type: ignore[arg-type]
    return NetworkConfig(genotype=genotype, norm=_entry(NORMS, int(record["norm"])), **values)


def _entry(table: tuple[Any, ...], index: int) -> Any:
    """An entry of a table, or an invalid value, which the validation of the configuration refuses."""
    return table[index] if 0 <= index < len(table) else f"#{index}"
