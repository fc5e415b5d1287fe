"""Generate DeepNets-1M: sample architectures from the published distributions and write one file per split.

    from generator import BuildPlan, build_corpus
    build_corpus("data", BuildPlan(train_size=20_000))

The command line is `deepnets build`, also `python -m generator build`, and `make dataset` in the repository.

splits     the rules of every split
sampler    candidate architectures from a stream of random numbers
shards     ranges of candidates, as files
workers    shards made in parallel
selection  which candidates become networks of a split
plan       `BuildPlan`, what determines the content of a corpus
build      `build_corpus`

The package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from generator.build import build_corpus as build_corpus
    from generator.plan import BuildPlan as BuildPlan
    from generator.plan import SplitReport as SplitReport
    from generator.splits import SPLITS as SPLITS
    from generator.splits import SplitSpec as SplitSpec
    from generator.workers import BACKENDS as BACKENDS
    from generator.workers import Workers as Workers

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "build": ("build_corpus",),
        "plan": (
            "BuildPlan",
            "SplitReport",
        ),
        "splits": (
            "SPLITS",
            "SplitSpec",
        ),
        "workers": (
            "BACKENDS",
            "Workers",
        ),
    },
)
