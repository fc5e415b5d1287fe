"""Generate DeepNets-1M: sample architectures from the published distributions and write one file per split.

    from generator import BuildPlan, build_corpus
    build_corpus("data", BuildPlan(train_size=20_000))

The command line is `python -m generator build`, also available as `make dataset`.

splits     the rules of every split
sampler    candidate architectures from a stream of random numbers
shards     ranges of candidates, as files
workers    shards made in parallel
selection  which candidates become networks of a split
build      `build_corpus`

The package does not import torch.
"""

from __future__ import annotations

from generator.build import BuildPlan, SplitReport, build_corpus
from generator.splits import SPLITS, SplitSpec
from generator.workers import BACKENDS, Workers

__all__ = ["BACKENDS", "SPLITS", "BuildPlan", "SplitReport", "SplitSpec", "Workers", "build_corpus"]
