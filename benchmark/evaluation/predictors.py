"""Predictors by name: hypernetworks, functions of the user, saved parameters, initial values, training.

    ghn2-digits                  a bundled hypernetwork (`python -m ghn_model list`)
    runs/mine/ghn.safetensors    the file of a hypernetwork, or an official checkpoint
    untrained:ghn2               a hypernetwork with random weights
    trained:my_module:Net:FILE   a hypernetwork of your own, whose code runs, with the weights of a training
    my_module:predict            an object of a module, whose code runs (see `as_predictor`)
    results/sgd/random           a folder of saved states, SPLIT-INDEX.safetensors or NAME.safetensors
    random                       PyTorch's initial values
    sgd:5                        training for five epochs, from the initial values
    orthogonal, mimetic, lsuv    initializations of the literature (`benchmark.predictors`)
    select:large.safetensors     weights selected from a larger trained model
    copy:results/sgd/random      weights of the most similar trained network of a folder

A label can precede the name: LABEL=my_module:predict.  `register_predictor` adds kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.evaluation.predictor_context import ImageInfo, PredictorContext
from benchmark.evaluation.predictor_objects import Predictor, as_predictor
from benchmark.evaluation.predictor_texts import begins_with, first_line, source_digest
from deepnets.data import Images
from deepnets.support import ConfigError, Registry
from deepnets.tracing import check_vocabulary
from ghn_model.checkpoints import list_pretrained
from ghn_model.ghn import GHN

__all__ = [
    "PREDICTORS",
    "ImageInfo",
    "PredictorContext",
    "PredictorInfo",
    "PredictorKind",
    "check_classes",
    "check_predictor",
    "describe_predictor",
    "find_kind",
    "open_predictor",
    "register_predictor",
]


@dataclass(frozen=True)
class PredictorInfo:
    """Description of a predictor.

    Attributes
    ----------
    label
        Name in tables.
    spec
        The text that names the predictor, without the label.
    kind
        Name of the kind in `PREDICTORS`, such as "hypernetwork", "python" or "random".
    digest
        SHA-256 of the file or source of the predictor, so that results of different versions are kept apart; empty if
        the text alone determines the predictor.
    about
        Description in one line.
    num_classes
        Number of classes that the predictor supports; None for any number.
    vocabulary
        Vocabulary of the graphs that the predictor reads (see `deepnets.trace`).
    data
        The data that the predictor was trained on, as it declares; empty if it declares nothing.

    Examples
    --------
    >>> describe_predictor("baseline=sgd:5").label
    'baseline'
    """

    label: str
    spec: str
    kind: str
    digest: str = ""
    about: str = ""
    num_classes: int | None = None
    vocabulary: str = "complete"
    data: str = ""

    @property
    def argument(self) -> str:
        """The part of `spec` after the first colon."""
        return self.spec.partition(":")[2]

    @classmethod
    def from_dict(cls, fields: Any) -> PredictorInfo:
        """Create a description from the result of `dataclasses.asdict`, which is not trusted.

        Raises
        ------
        TypeError
            If a field has the wrong type.
        """
        info = cls(**fields)
        texts = (info.label, info.spec, info.kind, info.digest, info.about, info.vocabulary, info.data)
        if not all(isinstance(text, str) for text in texts) or type(info.num_classes) not in (int, type(None)):
            raise TypeError("expected texts and a number of classes")
        return info

    def to_dict(self) -> dict[str, str]:
        """Return the fields that `runs.json` stores."""
        return {name: getattr(self, name) for name in ("label", "spec", "kind", "digest", "about", "data")}


@dataclass(frozen=True)
class PredictorKind:
    """A kind of predictors: how texts of the kind are recognized, described and opened.

    Attributes
    ----------
    name
        Name in `PREDICTORS`.
    usage
        How users write it, such as "sgd:EPOCHS".
    matches
        Whether a text (without label) is of this kind.
    describe
        Function from a text to a `PredictorInfo`.
    open
        Function from a `PredictorInfo` and a `PredictorContext` to a predictor.
    describing_runs_code
        Whether `describe` runs code of the user.
    check
        Function of a `PredictorInfo`, images and the folder of the image set that raises an error if the predictor
        cannot be used for them; None if there is nothing to check beyond the number of classes.
    label
        Function from a text (without label) to its label, for kinds whose `describe` runs code of the user, which must
        not choose the label.
    """

    name: str
    usage: str
    matches: Callable[[str], bool]
    describe: Callable[[str], PredictorInfo]
    open: Callable[[PredictorInfo, PredictorContext], Predictor | GHN]
    check: Callable[[PredictorInfo, Images, Path | str | None], None] | None = None
    describing_runs_code: bool = False
    label: Callable[[str], str] = str


PREDICTORS: Registry[PredictorKind] = Registry("predictor")
"""Kinds of predictors by name."""


def register_predictor(
    kind: str,
    open_predictor: Callable[[str, PredictorContext], Any],
    *,
    usage: str = "",
    about: str = "",
    training_data: str = "",
    vocabulary: str = "complete",
) -> None:
    """Add a kind of predictors, named by the texts ``KIND`` and ``KIND:ARGUMENT``.

    Parameters
    ----------
    kind
        Name of the kind, not registered yet.
    open_predictor
        Function of the argument (empty for the text ``KIND``) and a `PredictorContext` that returns a predictor in any
        of the forms of `as_predictor`.  It is called once in every worker process.
    usage
        How users write it, for error messages; by default the name of the kind.
    about
        Description in one line; by default the first line of the function's docstring.
    training_data
        The data that the predictors were trained on, which reports show; "none" if they were not trained.
    vocabulary
        Vocabulary of the graphs of models of libraries that the predictors are given (see `deepnets.trace`).

    Raises
    ------
    ConfigError
        If the kind is registered already, or the vocabulary is unknown.

    Examples
    --------
    >>> def open_constant(argument, context):
    ...     '''All parameters have the same value.'''
    ...     value = float(argument or 0)
    ...     return lambda model, graph: {n: torch.full_like(p, value) for n, p in model.named_parameters()}
    >>> register_predictor("constant", open_constant, usage="constant:VALUE")
    >>> describe_predictor("constant:0.5").about
    'All parameters have the same value.'
    >>> del PREDICTORS._entries["constant"]
    """
    vocabulary = check_vocabulary(vocabulary)

    def described(spec: str) -> PredictorInfo:
        digest, text = source_digest(open_predictor.__module__), about or first_line(open_predictor)
        return PredictorInfo(spec, spec, kind, digest, text, vocabulary=vocabulary, data=training_data)

    def opened(info: PredictorInfo, context: PredictorContext) -> Predictor | GHN:
        return as_predictor(open_predictor(info.argument, context), info.spec, context.device)

    PREDICTORS.register(kind, PredictorKind(kind, usage or kind, begins_with(kind), described, opened))


def describe_predictor(spec: str) -> PredictorInfo:
    """Describe the predictor that a text names; files of hypernetworks are read and hashed.

    Parameters
    ----------
    spec
        A text as in the head of this module, with or without a label.

    Raises
    ------
    ConfigError
        If there is no such predictor.
    CheckpointError
        If it is a file, but not that of a hypernetwork.

    Examples
    --------
    >>> describe_predictor("random").about
    "PyTorch's initial values"
    """
    label, spec, kind = find_kind(spec)
    info = kind.describe(spec)
    return replace(info, label=label or info.label)


def find_kind(spec: str) -> tuple[str, str, PredictorKind]:
    """Return the label in a text that names a predictor (or an empty text), the rest, and the kind of the predictor.

    Raises
    ------
    ConfigError
        If there is no such predictor.

    Examples
    --------
    >>> find_kind("baseline=sgd:5")[:2]
    ('baseline', 'sgd:5')
    """
    label, equals, rest = spec.partition("=")
    if equals and re.fullmatch(r"[^/:]+", label):
        spec = rest
    else:
        label = ""
    # Every module:attribute could also be KIND:ARGUMENT, so attributes of modules come last.
    for kind in sorted(PREDICTORS.values(), key=lambda kind: kind.name == "python"):
        if kind.matches(spec):
            return label, spec, kind
    usages = ", ".join(kind.usage for kind in PREDICTORS.values())
    bundled = ", ".join(list_pretrained())
    raise ConfigError(f"predictor: {spec!r}: expected a bundled hypernetwork ({bundled}), {usages}")


def open_predictor(
    info: PredictorInfo, context: PredictorContext, kind: PredictorKind | None = None
) -> Predictor | GHN:
    """Open a predictor that `describe_predictor` described.

    Parameters
    ----------
    info
        The description.
    context
        Networks, images and device.
    kind
        The kind; by default the registered one.

    Raises
    ------
    ConfigError, CheckpointError
        If the predictor cannot be used for these networks and images.

    Examples
    --------
    >>> import torch
    >>> from benchmark.evaluation import open_networks
    >>> networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    >>> context = PredictorContext(networks, ImageInfo("digits", 10, 32))
    >>> predict = open_predictor(describe_predictor("random"), context)
    >>> sorted(predict(torch.nn.Linear(2, 2), None))
    ['bias', 'weight']
    """
    if context.predict_class_layers:
        check_classes(info.spec, info.num_classes, context.images)
    return (kind or PREDICTORS[info.kind]).open(info, context)


def check_predictor(
    info: PredictorInfo, images: Images, image_root: Path | str | None = None, predict_class_layers: bool = True
) -> None:
    """Check that a predictor can be used for images, without opening it.

    Parameters
    ----------
    info
        The description of the predictor.
    images, image_root
        The images, and the folder of the image set.
    predict_class_layers
        Whether the number of classes must be that of the images.

    Raises
    ------
    ConfigError, MissingDataError
        If it cannot be used.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> check_predictor(PredictorInfo("m", "mine.pt", "hypernetwork", num_classes=100), load_images("digits", "test"))
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: predictor: mine.pt: predicts networks for 100 classes, digits has 10; leave \
out the class layers (--no-class-layers, predict_class_layers=False), or use another hypernetwork
    """
    if predict_class_layers:
        check_classes(info.spec, info.num_classes, images)
    kind = PREDICTORS.get(info.kind)
    if kind is not None and kind.check is not None:
        kind.check(info, images, image_root)


def check_classes(spec: str, num_classes: int | None, images: Images | ImageInfo) -> None:
    """Check the number of classes of a predictor.

    Parameters
    ----------
    spec, num_classes
        The text that names the predictor, or an empty one; and the number of classes that it supports, None for any.
    images
        The images.

    Raises
    ------
    ConfigError
        If the images have another number of classes.
    """
    if num_classes not in (None, images.num_classes):
        raise ConfigError(
            f"predictor: {spec + ': ' if spec else ''}predicts networks for {num_classes} classes, {images.name} has "
            f"{images.num_classes}; leave out the class layers (--no-class-layers, predict_class_layers=False), or use "
            "another hypernetwork"
        )
