"""The kind of predictors `trained:MODULE:ATTRIBUTE:FILE`: hypernetworks of the user's own with trained weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from torch import nn

from benchmark.evaluation.predictor_context import PredictorContext
from benchmark.evaluation.predictor_kinds import declared_images
from benchmark.evaluation.predictor_objects import HypernetworkPredictor, Predictor
from benchmark.evaluation.predictor_texts import begins_with, first_line, source_digest
from benchmark.evaluation.predictors import (
    PREDICTORS,
    PredictorInfo,
    PredictorKind,
)
from deepnets.architecture import GENOTYPES, NetworkConfig
from deepnets.graph import build_graph
from deepnets.support import ConfigError, import_attribute, is_attribute
from ghn_model.checkpoints import file_digest

__all__: list[str] = []

USAGE = "trained:MODULE:ATTRIBUTE:FILE"
WEIGHTS_FILE = "hypernetwork.safetensors"


class _Parts(NamedTuple):
    """The class of a hypernetwork, as module:attribute, and the file of its weights."""

    name: str
    path: Path


def _parts(spec: str) -> _Parts:
    module, _, rest = spec.partition(":")[2].partition(":")
    attribute, _, file = rest.partition(":")
    name = f"{module}:{attribute}"
    if not is_attribute(name) or not file:
        raise ConfigError(f"predictor: {spec}: expected {USAGE}, as in trained:mine:GCN:runs/gcn/{WEIGHTS_FILE}")
    return _Parts(name, Path(file))


def _label(spec: str) -> str:
    """Return the name of the run, or of a file that has another name than those of runs."""
    path = _parts(spec).path
    return path.resolve().parent.name if path.name == WEIGHTS_FILE else path.stem


def _load(spec: str) -> nn.Module:
    """Make the hypernetwork and load its weights."""
    from ghn_model.ghn import GHN
    from ghn_model.training import load_weights
    from ghn_model.training.hypernetwork import HypernetworkModule, build_hypernetwork

    name, path = _parts(spec)
    hypernetwork = build_hypernetwork(import_attribute(name, "predictor"))
    if isinstance(hypernetwork, GHN):
        raise ConfigError(f"predictor: {spec}: {name} is a GHN; use the name of its file alone")
    load_weights(hypernetwork.hypernetwork if isinstance(hypernetwork, HypernetworkModule) else hypernetwork, path)
    return hypernetwork


def _describe(spec: str) -> PredictorInfo:
    from ghn_model.training.hypernetwork import read_metadata

    name, path = _parts(spec)
    hypernetwork = _load(spec)
    metadata = read_metadata(path)
    classes = metadata.get("num_classes")
    num_classes = classes if type(classes) is int and classes > 0 else None
    _check(hypernetwork, num_classes or 10)
    found = import_attribute(name, "predictor")
    sources = source_digest(name.partition(":")[0], found) + file_digest(path)
    digest = hashlib.sha256(sources.encode()).hexdigest()
    about = first_line(found)
    return PredictorInfo(_label(spec), spec, "trained", digest, about, num_classes, data=declared_images(metadata))


def _check(hypernetwork: nn.Module, num_classes: int) -> None:
    """Check the predictions for small networks, so that an error is reported before the evaluation begins."""
    from ghn_model.training.checking import check_predictions

    predict = HypernetworkPredictor(hypernetwork)
    for genotype, cells in GENOTYPES.items():
        graph = build_graph(NetworkConfig(cells, n_cells=3, C=16), num_classes)
        name = f"a network of the genotype {genotype}"
        check_predictions(hypernetwork, [predict(hypernetwork, graph)], [graph], names=[name], values=True)


def _open(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return HypernetworkPredictor(_load(info.spec).to(context.device).eval())


_KIND = PredictorKind(
    "trained", USAGE, begins_with("trained"), _describe, _open, describing_runs_code=True, label=_label
)
PREDICTORS.register(_KIND.name, _KIND)
