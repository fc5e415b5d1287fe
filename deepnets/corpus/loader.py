"""The data loader of a split that is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from deepnets.graph import GraphBatch

__all__ = ["MetaBatchLoader"]


class MetaBatchLoader(DataLoader[GraphBatch]):
    """A `DataLoader` of meta-batches that gives the same batches with any number of worker processes.

    Worker processes draw meta-batches ahead of the training.  When an iteration ends, for example by `break`, the
    sampler is set back to the last meta-batch that was used, so that the next iteration goes on there.

    Parameters
    ----------
    nets : DeepNets1M
        The networks.
    sampler : MetaBatchSampler
        The sampler; any sampler without the attribute `position` is left alone.
    **options
        Further arguments of `torch.utils.data.DataLoader`.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> from deepnets.corpus import MetaBatchSampler
    >>> nets = DeepNets1M(split="predefined", num_nets=1)
    >>> sampler = MetaBatchSampler(nets, 1)
    >>> loader = MetaBatchLoader(nets, sampler)
    >>> isinstance(loader, DataLoader)
    True
    """

    def __init__(self, nets: Any, sampler: Any, **options: Any) -> None:
        super().__init__(nets, batch_sampler=sampler, collate_fn=GraphBatch, **options)

    def __iter__(self) -> Iterator[GraphBatch]:  # type: ignore[override]
        sampler: Any = self.batch_sampler
        first, used = getattr(sampler, "position", None), 0
        try:
            for batch in super().__iter__():
                used += 1
                yield batch
        finally:
            if first is not None:
                sampler.position = first + used
