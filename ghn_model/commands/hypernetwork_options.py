"""Options of `train` and `profile` that change fields of the hypernetwork's configuration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from deepnets.architecture import NODE_TYPE_ROWS, VOCABULARIES
from deepnets.commands.model_options import model_argument
from deepnets.support import ConfigError, ListOption, positive
from ghn_model.choices import INITS, NORMALIZATIONS, WINDOWS
from ghn_model.commands.predict import vocabulary_argument

if TYPE_CHECKING:
    from ghn_model.config import GHNConfig

__all__ = ["add_hypernetwork", "check_unused", "config_from", "recipe_kind"]

_OPTIONS = (
    *("hypernet", "decoder", "hidden", "max_shape", "layers", "heads", "layernorm", "weight_norm", "virtual_edges"),
    *("window", "vocabulary", "weight_init", "hypernet_option", "rank", "factor_rows", "vector_decoder"),
    *("normalization", "initializer_range", "node_types", "channel_sizes", "dirac", "width_invariant"),
)
"""Options that set a field of `GHNConfig`, as attributes of the parsed options."""

_FIELDS = {"weight_init": "init", "hypernet_option": "options"}
"""The fields of options with another name."""

_SMALL_TEXT: dict[str, Any] = {"init": "small"}
"""Fields that differ from the preset for the small training on the text "python"."""


def add_hypernetwork(parser: argparse.ArgumentParser) -> None:
    """Add the options for the configuration of the hypernetwork."""
    group = parser.add_argument_group(
        "hypernetwork",
        "Fields of ghn_model.GHNConfig that differ from the preset, or from the hypernetwork of --init.",
    )
    add = group.add_argument
    add(
        "--hypernet",
        metavar="NAME",
        help="encoder: gatedgnn, graphormer, mlp, or module:attribute (default: that of the preset)",
    )
    add(
        "--decoder",
        metavar="NAME",
        help="decoder: conv, mlp, lowrank, or module:attribute (default: that of the preset)",
    )
    add("--hidden", type=positive, help="width of the node embeddings, a multiple of 4 (default: 32; ghn3-t: 64)")
    add(
        "--max-shape",
        action=ListOption,
        type=positive,
        count=4,
        metavar="N",
        help="output and input channels, height and width of the largest tensor that is decoded (default: 64 64 11 11; "
        "for images of 224 pixels 64 64 16 16; cpu: 16 16 instead of 64 64)",
    )
    add("--layers", type=positive, help="layers of the graphormer (default: 3 for ghn3-t)")
    add("--heads", type=positive, help="attention heads of the graphormer, a divisor of --hidden (default: 8)")
    add(
        *("--layernorm", "--ln"),
        action=argparse.BooleanOptionalAction,
        help="layer normalization of the embeddings (default: yes; ghn1: no)",
    )
    add(
        *("--weight-norm", "--norm"),
        action=argparse.BooleanOptionalAction,
        help="scale predicted tensors by their fan-in (default: yes; ghn1: no)",
    )
    add("--virtual-edges", type=positive, help="largest distance of connected nodes (default: 50; ghn1: 1)")
    add(
        "--window",
        choices=WINDOWS,
        help="part of a decoded map that a smaller kernel takes (default: corner; ghn3: centre)",
    )
    add(
        "--vocabulary",
        type=vocabulary_argument,
        metavar="NAME",
        help=f"graphs of traced networks: {', '.join(VOCABULARIES)} (default: complete)",
    )
    add("--weight-init", choices=INITS, help="initial weights (default: published; cpu: small)")
    add("--rank", type=positive, help="columns of the factors of the decoder lowrank (default: 32 for logah-t)")
    add("--factor-rows", type=positive, help="rows of the factors of the decoder lowrank (default: 32768)")
    add(
        "--vector-decoder",
        action=argparse.BooleanOptionalAction,
        help="decoder of vectors of their own, besides the decoder lowrank (default: yes; logah: no)",
    )
    add("--normalization", choices=NORMALIZATIONS, help="normalization of matrices and kernels (default: fan_in)")
    add("--initializer-range", type=float, help="standard deviation for --normalization std (default: 0.02)")
    add(
        "--dirac",
        action=argparse.BooleanOptionalAction,
        help="predict kernels as differences from the identity (default: no; cpu: yes)",
    )
    add(
        "--width-invariant",
        action=argparse.BooleanOptionalAction,
        help="wide layers have the parameters of narrow ones, repeated (default: no; cpu: yes)",
    )
    add("--node-types", choices=tuple(NODE_TYPE_ROWS), help="node types with an embedding (default: published)")
    add(
        "--channel-sizes",
        action=ListOption,
        type=positive,
        metavar="N",
        help="sizes above 8192 with an embedding (default: none)",
    )
    add(
        "--hypernet-option",
        type=model_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of an encoder or decoder of your own; the value is JSON or else a string; may be repeated "
        "(default: none)",
    )


def config_from(
    options: argparse.Namespace,
    num_classes: int,
    image_size: int | None,
    init: GHNConfig | None = None,
    device: str = "cpu",
) -> GHNConfig:
    """Return the configuration that the options select.

    Parameters
    ----------
    options
        The parsed options.
    num_classes, image_size
        Number of classes, and height and width of the images; None for the size of texts.
    init
        Configuration of the hypernetwork that the training starts from, instead of the preset.
    device
        Type of device, which selects the recipe if the options do not.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    from ghn_model.config import GHNConfig

    changes = _changes(options)
    if image_size is None:
        if init is not None:
            return init.replace(**changes)
        if not options.preset.startswith("logah"):
            raise ConfigError(f"--preset: {options.preset} is for images; texts need one such as logah-t")
        small = _SMALL_TEXT if options.texts in (None, "python") else {}
        return GHNConfig.preset(options.preset, task="text", **{**small, **changes})
    if init is not None:
        return init.replace(num_classes=num_classes, **changes)
    is_deepnets = getattr(options, "networks", None) in (None, "train")  # for which the hypernetwork for CPUs is made
    kind = recipe_kind(options, device) if is_deepnets else "published"
    # Small weights learn faster in minutes, on networks of a family, too.
    small = {"init": "small"} if options.images == "digits" and options.recipe != "published" else {}
    return GHNConfig.preset(options.preset, num_classes, image_size, kind=kind, **{**small, **changes})


def recipe_kind(options: argparse.Namespace, device: str) -> str:
    """The kind of recipe that options select on a type of device; for digits, that for a CPU is the default on any."""
    return options.recipe or ("cpu" if device == "cpu" or options.images == "digits" else "published")


def check_unused(options: argparse.Namespace) -> None:
    """Raise a `ConfigError` if options are given that a hypernetwork of the user would ignore."""
    given = [f"--{name.replace('_', '-')}" for name in _given(options) if name != "virtual_edges"]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: cannot be set for a hypernetwork of your own (--hypernetwork); leave them out"
        )


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    changes = {_FIELDS.get(name, name): value for name, value in _given(options).items()}
    return changes | ({"options": dict(changes["options"])} if "options" in changes else {})


def _given(options: argparse.Namespace) -> dict[str, Any]:
    values = {name: getattr(options, name, None) for name in _OPTIONS}
    return {name: value for name, value in values.items() if value is not None and value != []}
