"""Data loaders of the networks of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from deepnets.corpus.sampler import MetaBatchSampler
from deepnets.graph import GraphBatch
from deepnets.support import at_least, checked_integer

__all__ = ["MetaBatchLoader", "data_loader"]


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


def data_loader(
    nets: Any,
    meta_batch_size: int | None = None,
    *,
    num_workers: int = 0,
    seed: int = 0,
    sampler: MetaBatchSampler | None = None,
    **options: Any,
) -> DataLoader[GraphBatch]:
    """Return the data loader of a split; the parameters are those of `DeepNets1M.loader`."""
    if sampler is None and nets.split != "train":
        size = checked_integer("meta_batch_size", 1 if meta_batch_size is None else meta_batch_size, at_least(1))
        return DataLoader(nets, batch_size=size, num_workers=num_workers, collate_fn=GraphBatch, **options)
    sampler = sampler or MetaBatchSampler(nets, 8 if meta_batch_size is None else meta_batch_size, seed=seed)
    return MetaBatchLoader(nets, sampler, num_workers=num_workers, **options)
