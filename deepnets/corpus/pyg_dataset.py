"""`PyGDataset`: a split of the corpus as a dataset of PyTorch Geometric, which reads graphs when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset

from deepnets.architecture import count_flops
from deepnets.graph import MAX_DISTANCE, Graph
from deepnets.support import ConfigError, checked_integer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["COMPUTED", "NetworkData", "PyGDataset"]

COMPUTED = ("num_params", "flops")
"""Targets that are computed from a network, exactly as it is loaded."""


class Graphs(Protocol):
    """The part of `DeepNets1M` that the dataset needs."""

    @property
    def image_size(self) -> int: ...
    @property
    def table(self) -> pd.DataFrame: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Graph: ...
    def network(self, index: int) -> nn.Module: ...


class NetworkData(Data):  # type: ignore[misc]
    """A graph of a `PyGDataset`, with its position in the split, `index`.

    PyTorch Geometric takes attributes whose names contain "index" for indices of nodes, to which a batch adds the
    number of nodes before them.  The position stays as it is.

    Examples
    --------
    >>> from torch_geometric.data import Batch
    >>> Batch.from_data_list([NetworkData(num_nodes=5, index=7), NetworkData(num_nodes=5, index=8)]).index
    tensor([7, 8])
    """

    def __inc__(self, key: str, value: Any, *args: Any, **options: Any) -> Any:
        return 0 if key == "index" else super().__inc__(key, value, *args, **options)


class PyGDataset(Dataset):  # type: ignore[misc]
    """A split of DeepNets-1M for PyTorch Geometric; see `DeepNets1M.to_pyg`.

    A `torch_geometric.data.Dataset` like `OnDiskDataset`, whose database is the corpus file: a graph is read, and
    converted, when it is indexed, and none is kept.  Slices, lists of indices, boolean masks and `shuffle` select
    networks without reading them.

    Parameters
    ----------
    nets
        The split.
    virtual_edges, shapes
        As in `deepnets.Graph.to_pyg`.
    targets, table, transform
        As in `DeepNets1M.to_pyg`.

    Attributes
    ----------
    targets
        Names of the columns of `y`.

    Raises
    ------
    ConfigError
        If a target is unknown, is not a number, `table` does not have one row per network, or `virtual_edges` is out of
        range.

    Examples
    --------
    See `DeepNets1M.to_pyg`.
    """

    def __init__(
        self,
        nets: Graphs,
        virtual_edges: int = 1,
        targets: str | Sequence[str] = (),
        *,
        table: pd.DataFrame | pd.Series | None = None,
        shapes: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(root=None, transform=transform)
        self._nets = nets
        self._virtual_edges = checked_integer("virtual_edges", virtual_edges, range(1, MAX_DISTANCE + 1))
        self._shapes = shapes
        self.targets = (targets,) if isinstance(targets, str) else tuple(targets)
        self._values, self._computed = _known_targets(nets, self.targets, table)

    def len(self) -> int:
        """Return the number of networks of the split."""
        return len(self._nets)

    def get(self, index: int) -> Data:
        """Read a graph.

        Parameters
        ----------
        index
            Position of the network in the split.

        Returns
        -------
        NetworkData
            A `torch_geometric.data.Data` as in `deepnets.Graph.to_pyg`, with `index` (the position) and, if there are
            targets, `y` (1, T) `float32`.
        """
        index = int(index)
        graph = self._nets[index]
        data = NetworkData.from_dict(graph.to_pyg(self._virtual_edges, shapes=self._shapes).to_dict())
        data.index = index
        if self.targets:
            values = self._values_of(index, graph)
            data.y = torch.tensor(values, dtype=torch.float32)[None]
        return data

    def targets_of(self, indices: Iterable[int] | None = None) -> pd.DataFrame:
        """Return the targets of several networks; `float64`, so that numbers of operations are exact.

        Parameters
        ----------
        indices
            Positions in the split.  By default, those of this dataset, in its order.

        Returns
        -------
        pandas.DataFrame
            One row per network, with the index `index` and a column for each target.
        """
        chosen = [int(index) for index in (self.indices() if indices is None else indices)]
        rows = [self._values_of(index) for index in chosen]
        return pd.DataFrame(
            np.array(rows, np.float64).reshape(len(rows), len(self.targets)),
            index=pd.Index(chosen, name="index"),
            columns=list(self.targets),
        )

    def _values_of(self, index: int, graph: Graph | None = None) -> list[float]:
        """Return the targets of a network; those that are computed are kept, 8 bytes each."""
        for name in self._computed:
            values = self._values[name]
            if np.isnan(values[index]):
                values[index] = _computed(name, self._nets, index, graph)
        return [float(self._values[name][index]) for name in self.targets]

    @property
    def y(self) -> Tensor:
        """`(len(self), T) float32`, the targets of all networks of this dataset, computed if necessary."""
        return torch.tensor(self.targets_of().to_numpy(np.float32))


def _computed(name: str, nets: Graphs, index: int, graph: Graph | None) -> int:
    if name == "flops":
        with torch.device("meta"):
            network = nets.network(index).eval()
        return count_flops(network, image_size=nets.image_size)
    graph = graph or nets[index]
    return sum(slot.numel for slots in (graph.unused, *graph.parameters) for slot in slots)


def _known_targets(
    nets: Graphs, names: Sequence[str], table: pd.DataFrame | pd.Series | None
) -> tuple[dict[str, npt.NDArray[np.float64]], tuple[str, ...]]:
    """Return the values of targets, NaN where unknown, and the names of those that are computed when needed."""
    given = pd.DataFrame() if table is None else _indexed(table, len(nets))
    own: pd.DataFrame | None = None
    values: dict[str, npt.NDArray[np.float64]] = {}
    computed = []
    for name in names:
        if name in given:
            column = given[name]
        elif name in COMPUTED:
            computed.append(name)
            values[name] = np.full(len(nets), np.nan)
            continue
        else:
            own = nets.table if own is None else own
            if name not in own:
                known = ", ".join(dict.fromkeys([*map(str, given.columns), *COMPUTED, *own.columns]))
                raise ConfigError(f"targets: unknown {name!r}; expected some of {known}")
            column = own[name]
        if not pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            raise ConfigError(f"targets: {name} is not a number, but {column.dtype}")
        values[name] = column.reindex(range(len(nets))).to_numpy(np.float64, na_value=np.nan)
    return values, tuple(computed)


def _indexed(table: pd.DataFrame | pd.Series, count: int) -> pd.DataFrame:
    """Return a table whose index is the position in the split, without rows of networks beyond the last one."""
    if isinstance(table, pd.Series):
        table = table.to_frame()
    if not isinstance(table, pd.DataFrame):
        raise ConfigError(f"table: expected a pandas.DataFrame, got {type(table).__name__}")
    table = table.set_index("index") if "index" in table.columns else table
    if not pd.api.types.is_integer_dtype(table.index.dtype):
        raise ConfigError(f"table: expected the positions of networks as index, got {table.index.dtype}")
    if not table.index.is_unique:
        twice = int(table.index[table.index.duplicated()][0])
        raise ConfigError(f"table: has several rows for network {twice}; select one predictor and one image set")
    if len(table) and int(table.index.min()) < 0:
        raise ConfigError(f"table: positions of networks count from 0, got {int(table.index.min())}")
    return table[table.index < count]
