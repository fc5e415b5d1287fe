"""Analyses of architectures: property prediction from embeddings, graph statistics, architecture search.

embeddings           one vector per network, computed by a hypernetwork
targets              properties of networks, published or from own results
properties           prediction of properties, as published
statistics           statistics of graphs, and their correlation with accuracy
architecture_search  ranking of the networks of a split
figures              charts of all of them
"""

from __future__ import annotations

from benchmark.analyses.architecture_search import PUBLISHED_BEST, SearchResult, search
from benchmark.analyses.embeddings import PROJECTIONS, cached_embeddings, project
from benchmark.analyses.figures import draw_correlations, draw_map, draw_predictions, draw_scores, draw_search
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
from benchmark.analyses.targets import (
    check_corpus,
    choose_rows,
    own_targets,
    published_targets,
    read_accuracies,
    read_curves,
)
from benchmark.report.style import has_matplotlib

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
    "read_accuracies",
    "read_curves",
    "search",
    "simple_features",
]
