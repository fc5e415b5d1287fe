"""What identifies a training, and its comparison with the saved state that it resumes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepnets.corpus import DeepNets1M
from deepnets.families import FamilyNetworks
from deepnets.support import CheckpointError, ConfigError, abbreviated
from ghn_model.config import GHNConfig
from ghn_model.tasks import LogitTask, recorded_name
from ghn_model.training.distributed import Distributed
from ghn_model.training.hypernetwork import class_name, is_ghn
from ghn_model.training.images import Images
from ghn_model.training.recipe import Recipe
from ghn_model.training.state import read_identity
from ghn_model.training.texts import TextStream

__all__ = ["identity_of", "identity_of_networks", "match_identity"]

log = logging.getLogger(__name__)

ADDED = {"num_nets", "width_seed", "wider_nets", "virtual_edges", "image_fingerprint"}
"""What states of earlier versions do not tell."""

CHANGEABLE = {
    "threads": "the weights will differ, by rounding, from those of a training without an interruption; --threads sets "
    "the number",
    "processes": "meta-batches can have other networks, and dropout differs, so the weights will differ from those of "
    "a training without an interruption",
}
"""Numbers that may change when a training is resumed, and the effect of a change."""


def identity_of(
    recipe: Recipe,
    data: Images | TextStream,
    nets: DeepNets1M | FamilyNetworks,
    task: LogitTask,
    hypernetwork: nn.Module,
    distributed: Distributed,
) -> dict[str, Any]:
    """Return what identifies a training, as JSON values, without its initial weights.

    Parameters
    ----------
    recipe, data, nets, task, hypernetwork, distributed
        Those of the training.
    """
    found: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "images": data.name,
        **identity_of_networks(nets),
        **recorded_name(task),
    }
    if isinstance(data, TextStream):
        found |= {"data_digest": data.digest, "sequence_length": data.sequence_length}
    elif fingerprint := getattr(data, "fingerprint", None):
        found["image_fingerprint"] = fingerprint
    if is_ghn(hypernetwork):
        found["config"] = hypernetwork.config.to_dict()
    else:
        found |= {"hypernetwork": class_name(hypernetwork), "virtual_edges": nets.virtual_edges}
    if distributed.device.type == "cpu":
        found["threads"] = torch.get_num_threads()
    found["processes"] = distributed.world_size
    return found


def identity_of_networks(nets: DeepNets1M | FamilyNetworks) -> dict[str, Any]:
    """Return what identifies training networks: the corpus or family, how many are used, and the rule of their widths.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> identity_of_networks(DeepNets1M(split="predefined"))
    {'corpus': 'predefined', 'num_nets': 2, 'width_seed': 0, 'wider_nets': False}
    """
    if isinstance(nets, FamilyNetworks):
        return {"corpus": nets.identity, "num_nets": len(nets)}
    corpus = nets.file.content_digest if nets.file else nets.split
    return {"corpus": corpus, "num_nets": len(nets), "width_seed": nets.seed, "wider_nets": nets.wider_nets}


def match_identity(state_path: Path, hypernetwork: nn.Module, identity: dict[str, Any]) -> None:
    """Check that a saved state is that of a training with the same options.

    What the state of an earlier version does not tell is taken over from it, in place.

    Parameters
    ----------
    state_path : Path
        The saved state.
    hypernetwork : nn.Module
        Hypernetwork that is trained.
    identity : dict
        Description of the training, as given to `save_state`.

    Raises
    ------
    CheckpointError
        If the state is damaged.
    ConfigError
        If it is that of another training.
    """
    saved = read_identity(state_path)
    started = None
    try:
        saved["recipe"] = Recipe.from_dict(saved.get("recipe", {})).to_dict()
        if "config" in saved and is_ghn(hypernetwork):
            # Earlier versions did not store `init`, which was "small".  The state has the weights, so it may differ.
            started = GHNConfig.from_dict({"init": "small", **saved["config"]})
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{state_path}: does not describe its training: {str(error)[:200]}") from error
    if started and is_ghn(hypernetwork):
        hypernetwork.config = hypernetwork.config.replace(init=started.init)
        saved["config"], identity["config"] = started.to_dict(), hypernetwork.config.to_dict()
    if "init" in saved:
        identity.setdefault("init", saved["init"])
    saved |= {name: identity[name] for name in ADDED & identity.keys() - saved.keys()}
    for name in saved | identity:
        before, now = saved.get(name), identity.get(name)
        if name == "recipe":  # the memory format does not change what is trained, and epochs are a budget
            before, now = ({**(values or {}), "channels_last": None, "epochs": None} for values in (before, now))
        if name in CHANGEABLE:
            _warn_if_changed(name, state_path.parent, before, now)
        elif before != now:
            raise ConfigError(
                f"{state_path.parent}: holds a run with another {name}{_difference(before, now)}; use the same options "
                "to resume it, or another folder to start a new one"
            )


def _warn_if_changed(name: str, folder: Path, before: Any, now: Any) -> None:
    """Warn if a number of `CHANGEABLE` differs; earlier versions did not store all of them."""
    if before is not None and now is not None and before != now:
        effect = CHANGEABLE[name]
        log.warning("%s: resumes with %s %s instead of %s; %s", folder, now, name, abbreviated(before), effect)


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({abbreviated(before)}, not {abbreviated(now)})"
    keys = [key for key in before | now if before.get(key) != now.get(key)]
    parts = [f"{key} {abbreviated(before.get(key))}, not {abbreviated(now.get(key))}" for key in keys]
    return f" ({'; '.join(parts)})"
