"""Which rows of a folder of results are current: those of the newest run on the same networks and images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmark.evaluation import LIBRARIES
from benchmark.results.reading import CORRUPTION, KEY

__all__ = ["corpus_of", "current_rows"]

_TIMES = ("started", "finished", "asked")
_OF_ONE_RUN = (*_TIMES, "limit", "index", "networks", "split_size", "corpus", "command", "machine")
"""Fields in which runs on models of a library may differ and still belong together."""


def current_rows(rows: pd.DataFrame, runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the current rows, sorted: for each predictor, split and images, those of the newest run with any rows.

    A run on a library evaluates the models that its command names, in their order.  The current rows of a library are
    those of the newest run, and of earlier runs that differ from it only in the models, each model once.  Their indices
    become the positions of the names in alphabetical order, so that a model has the same index for every predictor.

    Parameters
    ----------
    rows
        Rows of `read_rows`.
    runs
        Descriptions of the runs by id, the oldest first.  Runs without a description are the oldest.

    Returns
    -------
    The rows, with the columns of `rows`.

    Examples
    --------
    >>> rows = pd.DataFrame({"run": ["a", "b"], "network": ["vit_b_16", "alexnet"], "index": 0, "top1": [80.0, 60.0]})
    >>> rows = rows.assign(predictor="mine", split="torchvision", images="digits", part="test", noise=0, corruption="")
    >>> current_rows(rows, {"a": {}, "b": {}})[["network", "index"]].values.tolist()
    [['alexnet', 0], ['vit_b_16', 1]]
    """
    key = [*KEY, CORRUPTION]
    ages = {run: age for age, run in enumerate(runs)}
    settings = {age: _settings(about) for age, about in enumerate(runs.values())}
    # Names of metrics have no spaces, so these columns are none of theirs.
    rows = rows.assign(**{"run age": rows["run"].map(ages).fillna(-1).astype(int)})
    rows = rows.assign(**{"newest age": rows.groupby(key)["run age"].transform("max")})
    rows = rows.assign(**{"is model": rows["split"].isin(LIBRARIES) & (rows["network"] != "")})
    alike = rows["run age"].map(settings) == rows["newest age"].map(settings)
    rows = rows[(rows["run age"] == rows["newest age"]) | (rows["is model"] & alike)].sort_values(
        "run age", kind="stable"
    )
    models = rows[rows["is model"]].drop_duplicates([*key, "network"], keep="last").copy()
    for split, names in models.groupby("split")["network"]:
        places = {name: place for place, name in enumerate(sorted(names.unique()))}
        models.loc[models["split"] == split, "index"] = names.map(places)
    others = rows[~rows["is model"]].drop_duplicates([*key, "index"], keep="last")
    found = pd.concat([others, models]).drop(columns=["run age", "newest age", "is model"])
    return found.sort_values([*key, "index"], kind="stable")


def _settings(about: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs that differ only in the models of a library."""
    kept = {name: value for name, value in about.items() if name not in _OF_ONE_RUN}
    return json.dumps([kept, corpus_of(about)], sort_keys=True, default=str)


def corpus_of(about: Mapping[str, Any]) -> str:
    """Return the digest of the corpus of a run; for models of a library, its name and version.

    Examples
    --------
    >>> corpus_of({"split": "timm", "corpus": "timm 1.0.31: resnet18,vit_tiny_patch16_224"})
    'timm 1.0.31'
    """
    corpus = str(about.get("corpus") or "")
    return corpus.partition(":")[0] if about.get("split") in LIBRARIES else corpus
