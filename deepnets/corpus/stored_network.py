"""One network of a corpus file: its configuration and parameter slots, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NetworkConfig, decode
from deepnets.graph import Slots, parameter_slots
from deepnets.support import ConfigError, IntegrityError

__all__ = ["StoredNetwork"]


class StoredNetwork:
    """The record of a network, with the functions that `deepnets.Graph` calls on first use.

    The object holds no file handle and can be sent to other processes.

    Parameters
    ----------
    record
        `(1,)` record of `deepnets.architecture.ARCHITECTURE`, as read from a file.
    changes
        Fields that replace those of the record, such as a drawn width.
    where
        File, split and network, for error messages.
    num_classes, image_size
        As in `deepnets.build_graph`.

    Examples
    --------
    >>> from deepnets import GENOTYPES
    >>> from deepnets.architecture import encode
    >>> record = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])
    >>> network = StoredNetwork(record, {"C": 48}, "network 0", num_classes=10, image_size=32)
    >>> network.config().C, network.slots().nodes[1][0].shape
    (48, (144, 3, 3, 3))
    """

    def __init__(
        self, record: npt.NDArray[np.void], changes: Mapping[str, int], where: str, num_classes: int, image_size: int
    ) -> None:
        self._record = record
        self._changes = changes
        self._where = where
        self._num_classes = num_classes
        self._image_size = image_size

    @cached_property
    def _config(self) -> NetworkConfig:
        record = self._record[0]
        values: dict[str, Any] = {name: record[name] for name in self._record.dtype.names or ()}
        try:
            return decode({**values, **self._changes})
        except ConfigError as error:
            raise IntegrityError(f"{self._where}: {error}") from error

    def config(self) -> NetworkConfig:
        """Decode the architecture.

        Raises
        ------
        IntegrityError
            If the record is not a valid architecture.
        """
        return self._config

    def slots(self) -> Slots:
        """Return the parameter slots of the nodes of the graph.

        Raises
        ------
        IntegrityError
            If the record is not a valid architecture.
        """
        _ = self._config  # compiled code must not read an invalid record
        record = self._record.copy()
        for name, value in self._changes.items():
            record[name] = value
        return parameter_slots(record[0], self._num_classes, self._image_size)
