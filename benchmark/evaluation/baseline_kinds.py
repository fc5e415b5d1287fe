"""Kinds of predictors that are baselines: the initializations and copies of `benchmark.predictors`."""

from __future__ import annotations

from pathlib import Path

from benchmark.evaluation.predictor_context import PredictorContext
from benchmark.evaluation.predictor_kinds import states_digest
from benchmark.evaluation.predictor_objects import Predictor
from benchmark.evaluation.predictor_texts import begins_with
from benchmark.evaluation.predictors import (
    PREDICTORS,
    PredictorInfo,
    PredictorKind,
)
from benchmark.predictors import LSUVInit, MimeticInit, NearestCopy, OrthogonalInit, WeightSelection
from deepnets.data import Images, open_images
from deepnets.support import ConfigError
from ghn_model.checkpoints import file_digest

__all__: list[str] = []


def _argument(spec: str, what: str, *, needed: bool) -> str:
    """Return the part of a text after the kind, which must or must not be there."""
    kind, _, argument = spec.partition(":")
    if needed and not argument:
        raise ConfigError(f"predictor: {spec}: expected {kind}:{what}")
    if argument and not what:
        raise ConfigError(f"predictor: {spec}: expected {kind}, without an argument")
    return argument


# --- orthogonal:GAIN ---


def _describe_orthogonal(spec: str) -> PredictorInfo:
    OrthogonalInit.from_text(_argument(spec, "GAIN", needed=False))
    return PredictorInfo(spec, spec, "orthogonal", about="orthogonal matrices (Saxe et al., 2014)", data="none")


def _open_orthogonal(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return OrthogonalInit.from_text(info.argument)


# --- mimetic ---


def _describe_mimetic(spec: str) -> PredictorInfo:
    _argument(spec, "", needed=False)
    about = "PyTorch's initial values, mimetic initialization of attention (Trockman and Kolter, 2023)"
    return PredictorInfo(spec, spec, "mimetic", about=about, data="none")


def _open_mimetic(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return MimeticInit()


# --- lsuv ---


def _describe_lsuv(spec: str) -> PredictorInfo:
    _argument(spec, "", needed=False)
    about = "layer-sequential unit variance on training images (Mishkin and Matas, 2016)"
    return PredictorInfo(spec, spec, "lsuv", about=about, data="training images")


def _check_lsuv(info: PredictorInfo, images: Images, image_root: Path | str | None) -> None:
    open_images(images.name, "train", root=image_root)


def _open_lsuv(info: PredictorInfo, context: PredictorContext) -> Predictor:
    images = open_images(context.images.name, "train", root=context.image_root, device=context.device)
    return LSUVInit.from_images(images)


# --- select:FILE ---


def _describe_selection(spec: str) -> PredictorInfo:
    path = Path(_argument(spec, "FILE", needed=True))
    WeightSelection.from_file(path)  # an error is reported before the evaluation begins
    about = "weight selection from a larger trained model (Xu et al., 2024)"
    return PredictorInfo(f"select-{path.stem}", spec, "select", file_digest(path), about)


def _open_selection(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return WeightSelection.from_file(info.argument)


# --- copy:FOLDER ---


def _describe_copy(spec: str) -> PredictorInfo:
    folder = Path(_argument(spec, "FOLDER", needed=True))
    if not folder.is_dir():
        raise ConfigError(f"predictor: {spec}: {str(folder)!r} is not a folder")
    about = "parameters of the trained network with the most similar parameters"
    return PredictorInfo(f"copy-{folder.resolve().name}", spec, "copy", states_digest(folder, spec), about)


def _open_copy(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return NearestCopy(info.argument, context.networks)


for _kind in (
    PredictorKind("orthogonal", "orthogonal:GAIN", begins_with("orthogonal"), _describe_orthogonal, _open_orthogonal),
    PredictorKind("mimetic", "mimetic", begins_with("mimetic"), _describe_mimetic, _open_mimetic),
    PredictorKind("lsuv", "lsuv", begins_with("lsuv"), _describe_lsuv, _open_lsuv, _check_lsuv),
    PredictorKind("select", "select:FILE", begins_with("select"), _describe_selection, _open_selection),
    PredictorKind("copy", "copy:FOLDER", begins_with("copy"), _describe_copy, _open_copy),
):
    PREDICTORS.register(_kind.name, _kind)
