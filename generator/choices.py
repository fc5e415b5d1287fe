"""Names and defaults of options, in one module that imports nothing, so that `--help` is fast."""

from __future__ import annotations

__all__ = ["BACKENDS", "SHARD_SIZE"]

BACKENDS = ("loky", "dask", "ray")
"""Processes of this machine; a Dask cluster; a Ray cluster."""

SHARD_SIZE = 16_384
"""Candidates of a shard, by default."""
