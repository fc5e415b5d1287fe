"""`GHNConfig`: everything that decides the shape of a hypernetwork and what it computes, as plain validated values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from deepnets.graph import MAX_DISTANCE
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["PRESETS", "GHNConfig"]

_CHOICES = {
    "hypernet": ("gatedgnn", "mlp", "graphormer"),
    "decoder": ("conv", "mlp"),
    "window": ("corner", "centre"),
}
_MAP_SIZES = {32: 11, 224: 16}  # side of the predicted kernels, by side of the images
_GHN3 = {"t": (64, 3, 8), "s": (128, 5, 16), "l": (256, 12, 16), "xl": (384, 24, 16)}  # width, layers, heads

PRESETS = ("mlp", "ghn1", "ghn2", *(f"ghn3-{size}" for size in _GHN3))
"""The published hypernetworks (Knyazev et al., NeurIPS 2021, table 2; ICML 2023, table 1)."""


@dataclass(frozen=True)
class GHNConfig:
    """The configuration of a `GHN`; the defaults are those of GHN-2 for CIFAR-10.

    Parameters
    ----------
    hypernet
        How nodes learn of each other: "gatedgnn" (GHN-1, GHN-2), "graphormer" (GHN-3), or "mlp" (not at all).
    decoder
        How an embedding becomes a tensor: "conv", or the ablation "mlp".
    hidden
        Width of the node embeddings, h; a multiple of 4.
    max_shape
        Largest tensor that is predicted as a whole: channels out and in, height, width.  Larger ones are tiled.
    num_classes
        Outputs of the classifiers that are predicted.
    virtual_edges
        Longest shortest path that nodes are joined by; 1 for the graph's own edges alone.
    layernorm
        Whether embeddings are normalised before they are decoded.
    weight_norm
        Whether predicted tensors are scaled by their fan-in (NeurIPS 2021, appendix B).
    layers, heads
        Of a graphormer.
    window
        Which part of a predicted map a smaller kernel takes: the upper left "corner", or the "centre" (GHN-3).

    Raises
    ------
    ConfigError
        If a value is not allowed, or two of them do not go together.
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

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name in ("layernorm", "weight_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        limits = {"hidden": range(4, 4097), "num_classes": at_least(1), "layers": range(1, 257), "heads": range(1, 257)}
        limits["virtual_edges"] = range(1, MAX_DISTANCE + 1)
        for name, allowed in limits.items():
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), allowed))
        shape = self.max_shape
        if not isinstance(shape, (tuple, list)) or len(shape) != 4:
            raise ConfigError(f"max_shape: expected four integers, got {shape!r}")
        object.__setattr__(self, "max_shape", tuple(checked_integer("max_shape", n, range(1, 4097)) for n in shape))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.hidden % 4:
            raise ConfigError(f"hidden: must be a multiple of 4 (four sizes are embedded), got {self.hidden}")
        if self.max_shape[0] != self.max_shape[1] or self.max_shape[2] != self.max_shape[3]:
            raise ConfigError(f"max_shape: channels, and height and width, must be equal, got {self.max_shape}")
        if self.hypernet == "graphormer":
            if self.hidden % self.heads:
                raise ConfigError(f"heads: must divide hidden ({self.hidden}), got {self.heads}")
            if self.decoder != "conv":
                raise ConfigError("decoder: a graphormer has the decoder 'conv'")

    @classmethod
    def preset(cls, name: str, num_classes: int = 10, image_size: int = 32, **changes: Any) -> GHNConfig:
        """The configuration of a published hypernetwork.

        Parameters
        ----------
        name
            One of `PRESETS`.
        num_classes, image_size
            Of the task: 10 classes of 32-pixel images for CIFAR-10, 1,000 of 224 pixels for ImageNet.
        changes
            Other fields.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        side = _MAP_SIZES[checked_integer("image_size", image_size, tuple(_MAP_SIZES))]
        values: dict[str, Any] = {"num_classes": num_classes, "max_shape": (64, 64, side, side)}
        if name == "mlp":
            values["hypernet"] = "mlp"
        elif name == "ghn1":
            values |= {"virtual_edges": 1, "layernorm": False, "weight_norm": False}
        elif name != "ghn2":
            hidden, layers, heads = _GHN3[name.removeprefix("ghn3-")]
            values |= {"hypernet": "graphormer", "hidden": hidden, "layers": layers, "heads": heads, "window": "centre"}
            values["max_shape"] = (hidden, hidden, side, side)
        return cls(**{**values, **changes})

    @classmethod
    def from_official(cls, config: Mapping[str, Any]) -> GHNConfig:
        """Read the `config` of an official checkpoint: the keywords its class was made with.

        Keys of PPUDA (`max_shape`, `num_classes`, `hypernet`, `decoder`, `weight_norm`, `ve`, `layernorm`, `hid`), of
        GHN-3 (`layers`, `heads`, `is_ghn2`); others are ignored.
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
        }
        if graphormer:
            values |= {"layers": layers, "heads": config.get("heads", 8), "window": "centre"}
        return cls(**values)

    def replace(self, **changes: Any) -> GHNConfig:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return {**asdict(self), "max_shape": list(self.max_shape)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GHNConfig:
        """Inverse of `to_dict`; missing keys take their defaults, unknown ones are a `ConfigError`."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"hypernetwork config: expected a dict, got {type(values).__name__}")
        names = [field.name for field in fields(cls)]
        unknown = [repr(key) for key in values if key not in names]
        if unknown:
            raise ConfigError(
                f"hypernetwork config: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}"
            )
        return cls(**values)
