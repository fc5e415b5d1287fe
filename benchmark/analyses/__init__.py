"""Analyses of architectures: property prediction from embeddings, graph statistics, architecture search.

embeddings           one vector per network, from a hypernetwork
targets              the properties to predict, published or measured
properties           regression of properties, as published
statistics           measures of graphs, and their correlation with accuracy
architecture_search  ranking the networks of a split
figures              pictures of all of them
"""

from __future__ import annotations

from benchmark.analyses.architecture_search import PUBLISHED_BEST, SearchResult, search
from benchmark.analyses.embeddings import PROJECTIONS, cached_embeddings, project
from benchmark.analyses.figures import (
    draw_correlations,
    draw_map,
    draw_predictions,
    draw_scores,
    draw_search,
    has_matplotlib,
)
from benchmark.analyses.properties import MINIMUM, ORDERS, PROPERTIES, PropertyScore, predict_property
from benchmark.analyses.statistics import (
    PUBLISHED,
    STATISTICS,
    SplitStatistics,
    correlations,
    describe_split,
    graph_statistics,
    simple_features,
)
from benchmark.analyses.targets import check_corpus, choose_rows, own_targets, published_targets, read_curves

__all__ = [
    "MINIMUM",
    "ORDERS",
    "PROJECTIONS",
    "PROPERTIES",
    "PUBLISHED",
    "PUBLISHED_BEST",
    "STATISTICS",
    "PropertyScore",
    "SearchResult",
    "SplitStatistics",
    "cached_embeddings",
    "check_corpus",
    "choose_rows",
    "correlations",
    "describe_split",
    "draw_correlations",
    "draw_map",
    "draw_predictions",
    "draw_scores",
    "draw_search",
    "graph_statistics",
    "has_matplotlib",
    "own_targets",
    "predict_property",
    "project",
    "published_targets",
    "read_curves",
    "search",
    "simple_features",
]
