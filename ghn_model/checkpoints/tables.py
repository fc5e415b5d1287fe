"""The embedding tables of a hypernetwork, rearranged for other node types or numbers of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deepnets.architecture import LANGUAGE_NODE_TYPES, NODE_TYPE_ROWS, NODE_TYPES
from ghn_model.config import GHNConfig
from ghn_model.encoders import channel_grid, channel_rows

__all__ = ["grow_tables"]


def grow_tables(tensors: Mapping[str, Tensor], old: GHNConfig, new: GHNConfig) -> dict[str, Tensor]:
    """Rearrange the rows of the embedding tables of a hypernetwork for another configuration.

    Rows of the tables are numbered by position, so the number of a row depends on what else there are rows for: the
    number of classes, the `node_types` and the `channel_sizes` of `GHNConfig`.  A row that is new is a copy of the one
    that was used in its place.  Before the hypernetwork is trained, predictions change only for layers with almost as
    many channels as the old or the new number of classes: the row that is nearest to them can be another one.

    Parameters
    ----------
    tensors
        The state_dict of a hypernetwork.
    old, new
        Its configuration, and the one that it is used with.

    Returns
    -------
    The state_dict.  Tables that need no change, and all other tensors, are not copied.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> ghn = GHN("ghn2")
    >>> config = ghn.config.replace(num_classes=100, node_types="language")
    >>> grown = grow_tables(ghn.state_dict(), ghn.config, config)
    >>> grown["embed.weight"].shape
    torch.Size([18, 32])
    >>> table = "shape_enc.embed_channel.weight"
    >>> torch.equal(grown[table][3], ghn.state_dict()[table][4])  # the rows of 16 channels
    True
    """
    grown = dict(tensors)
    types = max(NODE_TYPE_ROWS[new.node_types]) + 1
    _select(grown, "embed.weight", [NODE_TYPE_ROWS[old.node_types][NODE_TYPES.index(name)] for name in _names(types)])
    before = channel_grid(old.num_classes, old.channel_sizes)
    after = channel_grid(new.num_classes, new.channel_sizes)
    rows = channel_rows(after, old.num_classes, old.channel_sizes).tolist()
    _select(grown, "shape_enc.embed_channel.weight", [*rows, len(before)])  # the last row is for nodes without a shape
    return grown


def _names(count: int) -> Sequence[str]:
    """The node types that the first rows of the larger table are for."""
    return LANGUAGE_NODE_TYPES[:count]


def _select(tensors: dict[str, Tensor], name: str, rows: list[int]) -> None:
    if name in tensors and rows != list(range(len(tensors[name]))):
        tensors[name] = tensors[name][torch.tensor(rows, device=tensors[name].device)]
