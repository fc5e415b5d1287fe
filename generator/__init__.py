"""Make DeepNets-1M: draw architectures from the published distributions and write them into one file per split.

    from generator import BuildPlan, build_corpus
    build_corpus("data", BuildPlan(train_size=20_000))

or `python -m generator build`, or `make dataset`.  Works without torch.
"""

from __future__ import annotations

from generator.build import BuildPlan, SplitReport, build_corpus
from generator.splits import SPLITS, SplitSpec
from generator.workers import BACKENDS, Workers

__all__ = ["BACKENDS", "SPLITS", "BuildPlan", "SplitReport", "SplitSpec", "Workers", "build_corpus"]
