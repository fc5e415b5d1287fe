"""`GHNConfig`: the validated configuration of a hypernetwork."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deepnets.architecture import NODE_TYPE_ROWS, checked_task, has_cifar_stem
from deepnets.graph import MAX_DISTANCE
from deepnets.support import ConfigError, checked_integer
from deepnets.tracing import check_vocabulary
from ghn_model.choices import INITS, NORMALIZATIONS, PRESETS, RECIPES, WINDOWS
from ghn_model.registry import DECODERS, ENCODERS, check_part

__all__ = ["INITS", "NORMALIZATIONS", "PRESETS", "TASKS", "WINDOWS", "GHNConfig"]

TASKS = ("images", "text")
TEXT_SIZES = (32000, 50257, 128256)
"""Vocabularies of Llama 2, GPT-2 and Llama 3, which the shape encoder of LoGAH for texts has rows for."""

_CIFAR_SIDE, _IMAGENET_SIDE = 11, 16  # height and width of the predicted kernels, by the stem of networks
_GHN3 = {"t": (64, 3, 8), "s": (128, 5, 16), "l": (256, 12, 16), "xl": (384, 24, 16)}  # hidden, layers, heads
_LOGAH = {"t": (64, 3, 8, 32), "s": (128, 5, 16, 90), "b": (256, 5, 16, 128), "l": (256, 12, 16, 256)}  # and rank


@dataclass(frozen=True)
class GHNConfig:
    """The configuration of a `GHN`.  The defaults are those of GHN-2 for CIFAR-10.

    Parameters
    ----------
    hypernet
        Encoder, which passes information between nodes: "gatedgnn" (GHN-1, GHN-2), "graphormer" (GHN-3), "mlp" (each
        node alone), a name given to `ghn_model.register_encoder`, or ``"module:attribute"``.
    decoder
        Decoder, which turns a node embedding into a tensor: "conv", the ablation "mlp", "lowrank" (LoGAH), a name given
        to `ghn_model.register_decoder`, or ``"module:attribute"``.
    hidden
        Width of the node embeddings; a multiple of 4, from 4 to 4096.
    max_shape
        Largest tensor that is decoded: output channels, input channels, height, width.  Larger tensors are filled by
        repeating a decoded tensor.  The published hypernetworks have equal numbers of channels, and equal sides.  The
        decoder "lowrank" decodes kernels of any height and width; these two only select the rows of the shape encoder.
    num_classes
        Number of classes of the predicted classifiers.
    virtual_edges
        Largest shortest-path distance at which the encoder connects two nodes; 1 for the edges of the graph alone.
    layernorm
        Whether layer normalization is applied to the embeddings before decoding.
    weight_norm
        Whether predicted tensors are normalized (NeurIPS 2021, appendix B).
    layers, heads
        Number of layers and of attention heads of the "graphormer"; ignored by the other encoders.
    window
        Part of the decoded map that a smaller kernel takes: the upper left "corner", or the "centre" (GHN-3).
    vocabulary
        The operations that are nodes of the graphs that `predict`, `initialize` and `embed` trace, as in
        `deepnets.trace`: "complete", "ghn3", "ppuda" or "logah".  The graphs of DeepNets-1M are equal in all of them.
    init
        Initial values of the weights: "published", those of PyTorch, and for the "graphormer" those of GHN-3; or
        "small", those of GHN-3 for every encoder: embeddings with a smaller variance, and small first predictions.
    options
        Options of encoders and decoders that are defined outside this package: a mapping of JSON values.
    rank, factor_rows
        Size of the factors of "lowrank", r and K in the paper; ignored by the other decoders.  A factor must have twice
        as many rows as `max_shape` has channels, and 16 times as many for kernels of 16 x 16.
    vector_decoder
        Whether vectors, such as biases, have a decoder of their own.  LoGAH has none (False): a row of a map holds the
        weight of a norm and the bias.  With "lowrank", the decoder of vectors decodes `hidden / 2` elements.
    normalization
        How tensors of rank 2 or more are normalized if `weight_norm` is true.

        - "fan_in": scaled by the fan-in of their shape.  With "lowrank", embedding tables are not scaled.
        - "fan_out": scaled by the fan-out instead (first version of LoGAH).
        - "fan_in_residual": as "fan_in", and matrices whose names end in ``c_proj.weight`` or ``o_proj.weight`` are
          divided by the square root of twice the number of blocks (LoGAH for GPT-2).
        - "std": divided by their standard deviation and multiplied by `initializer_range`, except embedding tables and
          position encodings (LoGAH for texts since August 2024).
    initializer_range
        Standard deviation of tensors that "std" normalizes.
    node_types
        Types of nodes that have an embedding of their own: the "published" ones, or those and RMS norms, rotary
        position encodings and gates ("language").
    channel_sizes
        Numbers of channels above 8192, such as sizes of vocabularies, that have an embedding of their own.
    dirac
        Whether kernels are predicted as differences from `torch.nn.init.dirac_`, with which a convolution returns its
        input (Zagoruyko & Komodakis, 2017), except those for images.  Then information passes through deep networks
        before anything is learned, and a channel has the same meaning in all layers and networks.  Not for "lowrank".
    width_invariant
        Whether a layer with more channels than `max_shape` gets the parameters of a layer with that many, repeated, and
        divided by the repetitions of its inputs.  Not for "lowrank".  Networks whose layers all have multiples of these
        compute the same function at any width; not with attention, squeeze-and-excitation or transposed convolutions.

    Raises
    ------
    ConfigError
        If a value is not allowed, or two values contradict each other.

    Examples
    --------
    >>> config = GHNConfig(hidden=64, num_classes=100)
    >>> config.hypernet, config.max_shape
    ('gatedgnn', (64, 64, 11, 11))
    >>> GHNConfig(hidden=30)
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: hidden: must be a multiple of 4 (four sizes are embedded), got 30
    """

    hypernet: str = "gatedgnn"
    decoder: str = "conv"
    hidden: int = 32
    max_shape: tuple[int, int, int, int] = (64, 64, 11, 11)
    num_classes: int = 10
    virtual_edges: int = 50
    layernorm: bool = True
    weight_norm: bool = True
    layers: int = 1
    heads: int = 8
    window: str = "corner"
    vocabulary: str = "complete"
    init: str = "published"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rank: int = 32
    factor_rows: int = 32768
    vector_decoder: bool = True
    normalization: str = "fan_in"
    initializer_range: float = 0.02
    node_types: str = "published"
    channel_sizes: tuple[int, ...] = ()
    dirac: bool = False
    width_invariant: bool = False

    def __post_init__(self) -> None:
        check_part(ENCODERS, self.hypernet)
        check_part(DECODERS, self.decoder)
        choices_of = {"window": WINDOWS, "init": INITS, "normalization": NORMALIZATIONS, "node_types": NODE_TYPE_ROWS}
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        object.__setattr__(self, "vocabulary", check_vocabulary(self.vocabulary))
        for name in ("layernorm", "weight_norm", "vector_decoder", "dirac", "width_invariant"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        limits = {"hidden": range(4, 4097), "num_classes": range(1, 1 << 31), "rank": range(1, 4097)}
        limits |= {"layers": range(1, 257), "heads": range(1, 257)}
        limits |= {"virtual_edges": range(1, MAX_DISTANCE + 1), "factor_rows": range(1, 1 << 25)}
        for name, allowed in limits.items():
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), allowed))
        shape = self.max_shape
        if not isinstance(shape, (tuple, list)) or len(shape) != 4:
            raise ConfigError(f"max_shape: expected four integers, got {shape!r}")
        largest = range(1, 1 << 24 if self.decoder == "lowrank" else 4097)
        object.__setattr__(self, "max_shape", tuple(checked_integer("max_shape", n, largest) for n in shape))
        object.__setattr__(self, "options", _checked_options(self.options))
        if not isinstance(self.channel_sizes, (tuple, list)):
            raise ConfigError(f"channel_sizes: expected integers, got {self.channel_sizes!r}")
        sizes = {checked_integer("channel_sizes", n, range(8193, 1 << 24)) for n in self.channel_sizes}
        object.__setattr__(self, "channel_sizes", tuple(sorted(sizes)))
        spread = self.initializer_range
        if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 < spread < math.inf:
            raise ConfigError(f"initializer_range: expected a positive number, got {spread!r}")
        object.__setattr__(self, "initializer_range", float(spread))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.hidden % 4:
            raise ConfigError(f"hidden: must be a multiple of 4 (four sizes are embedded), got {self.hidden}")
        if self.hypernet == "graphormer":
            if self.hidden % self.heads:
                raise ConfigError(f"heads: must divide hidden ({self.hidden}), got {self.heads}")
            if self.decoder == "mlp":
                raise ConfigError("decoder: the decoder 'mlp' cannot be combined with the encoder 'graphormer'")
        if self.decoder == "lowrank":
            for name in ("dirac", "width_invariant"):
                if getattr(self, name):
                    raise ConfigError(f"{name}: cannot be combined with the decoder 'lowrank'")
            least = 2 * max(self.max_shape[:2])
            if self.factor_rows < least:
                raise ConfigError(f"factor_rows: must be at least {least} for {self.max_shape}, got {self.factor_rows}")
        elif self.width_invariant and self.normalization == "std":
            raise ConfigError("width_invariant: cannot be combined with the normalization 'std'")
        elif not self.vector_decoder:
            raise ConfigError(f"vector_decoder: can be left out with the decoder 'lowrank' only, got {self.decoder!r}")

    @property
    def vector_size(self) -> int:
        """Number of elements of a vector that the decoder of vectors decodes."""
        return self.hidden // 2 if self.decoder == "lowrank" else self.max_shape[0]

    @property
    def scales_kernels(self) -> bool:
        """Whether decoded matrices and kernels are multiplied by a factor that follows from their shape."""
        return self.weight_norm or self.width_invariant

    @property
    def for_texts(self) -> bool:
        """Whether the hypernetwork is made for language models, whose outputs are tokens of any vocabulary."""
        return bool(self.channel_sizes)

    @classmethod
    def preset(
        cls,
        name: str,
        num_classes: int = 10,
        image_size: int = 32,
        task: str = "images",
        *,
        kind: str = "published",
        **changes: Any,
    ) -> GHNConfig:
        """The configuration of a published hypernetwork.

        Parameters
        ----------
        name
            One of `PRESETS`.
        num_classes
            Number of classes of the data set: 10 for CIFAR-10, 1,000 for ImageNet.
        image_size
            Height and width of the images in pixels, 16 to 512.
        task
            "images", or "text" for LoGAH's hypernetworks for language models, which have no number of classes.
        kind
            "published", or "cpu" for trainings of hours on a CPU, as for `ghn_model.training.Recipe.preset`: 16
            channels, small initial weights, `dirac` and `width_invariant`.  LoGAH's do not change.
        changes
            Fields that differ from the published configuration.

        Raises
        ------
        ConfigError
            If the name or a value is not allowed.

        Examples
        --------
        >>> GHNConfig.preset("ghn3-t", num_classes=1000, image_size=224).max_shape
        (64, 64, 16, 16)
        >>> GHNConfig.preset("logah-t", task="text").channel_sizes
        (32000, 50257, 128256)
        >>> GHNConfig.preset("ghn2", hidden=16).hidden
        16
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        if kind not in RECIPES:
            raise ConfigError(f"kind: unknown {kind!r}; use one of {', '.join(RECIPES)}")
        if task not in TASKS or (task == "text" and not name.startswith("logah")):
            known = ", ".join(TASKS) if name.startswith("logah") else "images"
            raise ConfigError(f"task: expected one of {known} for {name}; got {task!r}")
        side = _CIFAR_SIDE if has_cifar_stem(checked_task(num_classes, image_size)[1]) else _IMAGENET_SIDE
        values: dict[str, Any] = {"num_classes": num_classes, "max_shape": (64, 64, side, side)}
        if name == "mlp":
            values["hypernet"] = "mlp"
        elif name == "ghn1":
            values |= {"virtual_edges": 1, "layernorm": False, "weight_norm": False}
        elif name.startswith("ghn3-"):
            hidden, layers, heads = _GHN3[name.removeprefix("ghn3-")]
            values |= {"hypernet": "graphormer", "hidden": hidden, "layers": layers, "heads": heads, "window": "centre"}
            values["max_shape"] = (hidden, hidden, side, side)
        elif name.startswith("logah-"):
            hidden, layers, heads, rank = _LOGAH[name.removeprefix("logah-")]
            values |= {"hypernet": "graphormer", "hidden": hidden, "layers": layers, "heads": heads, "window": "centre"}
            values |= {"decoder": "lowrank", "rank": rank, "max_shape": (2048, 2048, 16, 16), "vector_decoder": False}
        if task == "text":
            values |= {"normalization": "std", "node_types": "language", "channel_sizes": TEXT_SIZES}
            values |= {"virtual_edges": 250, "num_classes": 10}
        if kind == "cpu" and values.get("decoder") != "lowrank":
            values |= {"init": "small", "dirac": True, "width_invariant": True, "max_shape": (16, 16, side, side)}
        return cls(**{**values, **_known(changes)})

    @classmethod
    def from_official(cls, config: Mapping[str, Any]) -> GHNConfig:
        """Convert the `config` of an official checkpoint.

        Parameters
        ----------
        config
            Constructor arguments of the original classes: `max_shape`, `num_classes`, `hypernet`, `decoder`,
            `weight_norm`, `ve`, `layernorm` and `hid` (PPUDA), `layers`, `heads` and `is_ghn2` (GHN-3), `lora`,
            `lora_r`, `max_ck_lora` and `use_1d_decoder` (LoGAH).  Other keys are ignored.  The vocabulary is "logah" if
            `lora` is true, otherwise "ghn3" if there is one of the keys of GHN-3, otherwise "ppuda".

        Raises
        ------
        ConfigError
            If a value is not allowed.

        Examples
        --------
        >>> official = {"max_shape": (64, 64, 11, 11), "num_classes": 10, "ve": True, "layernorm": True, "hid": 32}
        >>> GHNConfig.from_official(official).virtual_edges
        50
        """
        layers = config.get("layers", 0)
        graphormer = bool(layers) and not config.get("is_ghn2", False)
        hypernet = "graphormer" if graphormer else config.get("hypernet", "gatedgnn")
        values = {
            "hypernet": hypernet,
            "decoder": config.get("decoder", "conv"),
            "hidden": config.get("hid", 32),
            "max_shape": config.get("max_shape"),
            "num_classes": config.get("num_classes"),
            "virtual_edges": 50 if config.get("ve", False) else 1,
            "layernorm": bool(config.get("layernorm", False)),
            "weight_norm": bool(config.get("weight_norm", False)),
            "vocabulary": "ghn3" if {"layers", "heads", "is_ghn2"} & config.keys() else "ppuda",
        }
        if graphormer:
            values |= {"layers": layers, "heads": config.get("heads", 8), "window": "centre"}
        if config.get("lora", False):
            values |= {"decoder": "lowrank", "rank": config.get("lora_r"), "factor_rows": config.get("max_ck_lora")}
            values |= {"vector_decoder": bool(config.get("use_1d_decoder", False)), "vocabulary": "logah"}
            values["num_classes"] = config.get("num_classes", 10)  # hypernetworks for language models state none
        return cls(**values)

    def replace(self, **changes: Any) -> GHNConfig:
        """A validated copy with other values for some fields.

        Examples
        --------
        >>> GHNConfig().replace(num_classes=100).num_classes
        100
        """
        return replace(self, **_known(changes))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values; `options` and the fields after it are left out if they have their defaults.

        Examples
        --------
        >>> GHNConfig().to_dict()["max_shape"]
        [64, 64, 11, 11]
        """
        values = {**asdict(self), "max_shape": list(self.max_shape), "channel_sizes": list(self.channel_sizes)}
        for name, default in _LEFT_OUT.items():
            if values[name] == default:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GHNConfig:
        """Inverse of `to_dict`.

        Parameters
        ----------
        values
            Values by field name; fields that are missing take their defaults.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is not allowed.

        Examples
        --------
        >>> GHNConfig.from_dict({"hidden": 16}) == GHNConfig(hidden=16)
        True
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"hypernetwork config: expected a dict, got {type(values).__name__}")
        return cls(**_known(values))


def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values by field name, after a check of the names."""
    names = [field.name for field in fields(GHNConfig)]
    if unknown := [repr(key) for key in values if key not in names]:
        raise ConfigError(f"hypernetwork config: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}")
    return values


_LEFT_OUT: dict[str, Any] = {
    "options": {},
    "rank": 32,
    "factor_rows": 32768,
    "vector_decoder": True,
    "normalization": "fan_in",
    "initializer_range": 0.02,
    "dirac": False,
    "width_invariant": False,
    "node_types": "published",
    "channel_sizes": [],
}
"""Fields that files written before they existed lack; their defaults must not change."""


def _checked_options(options: Any) -> dict[str, Any]:
    """A deep copy of the options as JSON represents them."""
    try:
        if isinstance(options, Mapping) and all(isinstance(key, str) for key in options):
            copied: dict[str, Any] = json.loads(json.dumps(dict(options), allow_nan=False))
            return copied
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"options: expected JSON values: {error}") from error
    raise ConfigError(f"options: expected a mapping with string keys, got {type(options).__name__}")
