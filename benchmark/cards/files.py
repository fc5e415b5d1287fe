"""The three files of a bundled hypernetwork: weights, card, log.

A card says what was trained and how, by which command, and what it reaches beside what is published.  Nothing in it is
typed in that a file knows: figures are from the log, from the file's own metadata, or from results of evaluating the
very file that the card is about.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmark.cards.published_accuracy import PUBLISHED, SOURCE
from benchmark.cards.results import read_reached
from benchmark.cards.training_run import SIZES, Training, log_text, preset_of, read_training, training_command
from deepnets.support import CheckpointError, ConfigError, replace_file
from ghn_model import describe, load_checkpoint
from ghn_model.checkpoints import DIGEST, PRETRAINED, TensorFile, file_digest, save_checkpoint
from ghn_model.training import Recipe

__all__ = ["bundle", "make_card"]

TITLES = {"mlp": "MLP", "ghn1": "GHN-1", "ghn2": "GHN-2"}
GIVEN = ("corpus_command", "images_about", "limits", "hardware", "software")
TASK = "predicts all parameters of image classifiers"
UNKNOWN = "not recorded"
KINDS: dict[str, Any] = {
    **dict.fromkeys(("hardware", "software", "log", "limits", "results_about"), str),
    **dict.fromkeys(("command", "evaluation"), list),
    **dict.fromkeys(("data", "results"), dict),
    "minutes": (int, float),
}
"""Of fields of a card that another one may be made from."""


def bundle(
    run: Path | str | None,
    name: str,
    out: Path | str = PRETRAINED,
    *,
    half: bool = True,
    overwrite: bool = False,
    results: Path | str | None = None,
    given: Mapping[str, str] | None = None,
) -> Path:
    """Write the files of a bundled hypernetwork; nothing is written if anything is wrong.

    Parameters
    ----------
    run
        Folder of the training; None to add to the card that is there.
    name
        Of the hypernetwork, such as "ghn2-cifar10".
    out
        Where to: by default the folder of those that come with the package; made if missing.
    half
        Whether weights are rounded to half precision.
    overwrite
        Whether files of another training may be replaced.
    results, given
        As of `make_card`.

    Returns
    -------
    The file of weights, `NAME.safetensors`; beside it are the card, `NAME.json`, and the log, `NAME.log.csv`.

    Raises
    ------
    ConfigError
        If the name cannot be one, the training has no files, files of another training are there, or as of `make_card`.
    CheckpointError, FormatError
        If files are not what they should be.
    """
    out = Path(out)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ConfigError(f"name: expected letters, digits, - and _, such as ghn2-cifar10; got {name!r}")
    path, card, log = (out / f"{name}{suffix}" for suffix in (".safetensors", ".json", ".log.csv"))
    if run is None:
        replace_file(card, _json(make_card(None, path, results, given=given)))
        return path
    training = read_training(run)
    with tempfile.TemporaryDirectory() as folder:
        # The same content need not be the same bytes, and results are known by the bytes: what is there stays.
        new = _weights(training, Path(folder) / path.name, half=half)
        there = _is_same(path, new)
        others = [] if there or overwrite else [each for each in (path, card, log) if each.exists()]
        if others:
            raise ConfigError(
                f"{others[0]}: is of another training, or in other precision (--full); choose another name, or replace "
                "it with --overwrite"
            )
        text = _json(make_card(run, path if there else new, results, given=given))
        out.mkdir(parents=True, exist_ok=True)
        if not there:
            replace_file(path, new.read_bytes())
    replace_file(log, log_text(training.log)[0])
    replace_file(card, text)
    return path


def make_card(
    run: Path | str | None,
    path: Path | str,
    results: Path | str | None = None,
    *,
    given: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The card of a bundled hypernetwork.

    A card of the same file that lies beside it already gives what is not given again: texts, and results.

    Parameters
    ----------
    run
        Folder of the training; None to take everything about it from the card that is there.
    path
        The file that `bundle` wrote.
    results
        Folder of `python -m benchmark run` in which that file, or the one in `run`, was evaluated.
    given
        What no file knows: `corpus_command`, how the corpus was made; `images_about`, about the images; `limits`, what
        the hypernetwork is not good for; `hardware` and `software` of a training whose file does not say.

    Returns
    -------
    Values for JSON.

    Raises
    ------
    ConfigError
        If there are no results of these files, the weights are of another training, or something is given that a file
        knows.
    CheckpointError, FormatError
        If a file, the log or the results are not what they should be.
    """
    path, given = Path(path), dict(given or {})
    if unknown := given.keys() - set(GIVEN):
        raise ConfigError(f"given: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(GIVEN)}")
    name, sha256 = path.name.removesuffix(".safetensors"), file_digest(path)
    before = _card_beside(path, sha256)
    digests = {sha256: name}
    if run is not None:
        training = read_training(run)
        if not _holds(path, training):
            raise ConfigError(f"{path}: has other weights than {training.source}; expected those, rounded or not")
        digests.setdefault(training.sha256, "RUN/ghn.safetensors")
        half = any(tensor.dtype == torch.float16 for tensor in TensorFile(path).tensors.values())
        card = _of_training(training, name, sha256, before, half=half)
        images, recorded = training.images, training.known
    elif before:
        card, images, recorded = before, str(describe(path).metadata.get("images")), before
    else:
        raise ConfigError(
            f"{path.with_suffix('.json')}: is no card of the file beside it; give RUN, the folder of the training"
        )
    preset = preset_of(describe(path).config, images)
    _say(card, given, recorded)
    if results is not None:
        card["results"], card["evaluation"], card["results_about"] = read_reached(results, digests, name, images)
    if images == "cifar10" and preset in PUBLISHED:
        card["published"] = {**PUBLISHED[preset], "source": SOURCE}
    card["about"] = _in_a_line(card, preset, images)
    return card


def _of_training(
    training: Training, name: str, sha256: str, before: Mapping[str, Any], *, half: bool
) -> dict[str, Any]:
    """A card with everything but what its file reaches, and with what an earlier one was told."""
    config, recipe, images, known = training.config, training.recipe, training.images, training.known
    command = training_command(config, recipe, images, known)
    side, log_about = SIZES[images], log_text(training.log)[1]
    card: dict[str, Any] = {
        "sha256": sha256,
        "about": "",
        "task": f"{TASK} for {side} x {side} pixels and {config.num_classes} classes",
        "command": [*before.get("command", [])[:-1], command],
        "evaluation": before.get("evaluation", []),
        "seed": recipe.seed,
        "hardware": known.get("hardware") or before.get("hardware", UNKNOWN),
        "software": known.get("software") or before.get("software", UNKNOWN),
        "minutes": round(training.seconds / 60, 1),
        "steps": training.steps,
        "networks_seen": training.steps * recipe.meta_batch_size,
        "images_per_network": recipe.batch_size,
        "last_training_top1": training.last_top1,
        "skipped": int(training.log[-1]["skipped"]),
        "log": f"{name}.log.csv",
        **({"log_about": log_about} if log_about else {}),
        "recipe": recipe.to_dict(),
        "data": {
            "networks": _networks(recipe),
            "corpus": known.get("corpus"),
            "images": before.get("data", {}).get("images", images),
        },
        "results": before.get("results", {}),
        "results_about": before.get("results_about", "not evaluated yet"),
        "limits": before.get("limits", ""),
        "precision": f"weights are stored {'in half precision' if half else 'as trained'}",
        "licence": "MIT",
    }
    if training.progress < 1:
        share = math.floor(100 * training.progress)
        card["unfinished"] = f"the training was stopped after {share} % of its length"
    return card


def _say(card: dict[str, Any], given: Mapping[str, str], recorded: Mapping[str, Any]) -> None:
    """Write into a card what no file knows."""
    for name in ("hardware", "software"):
        if name in given and recorded.get(name) not in (None, UNKNOWN, given[name]):
            raise ConfigError(f"{name}: the training says {recorded[name]!r}; leave out {given[name]!r}")
        card[name] = given.get(name, card[name])
    card["limits"] = given.get("limits", card["limits"])
    if "images_about" in given:
        card["data"] = {**card["data"], "images": given["images_about"]}
    if "corpus_command" in given:
        card["command"] = [*([given["corpus_command"]] if given["corpus_command"] else []), card["command"][-1]]


def _in_a_line(card: Mapping[str, Any], preset: str, images: str) -> str:
    title = TITLES.get(preset, preset.upper().replace("GHN", "GHN-", 1))
    text = f"{title} for {images}, {card['minutes']:.0f} minutes"
    if card["hardware"] != UNKNOWN:
        text += f" on {card['hardware']}"
    test = card["results"].get("test", {})
    if test.get("mean_top1") is not None:
        text += f"; {test['mean_top1']:.0f} % on {test['networks']} networks of test"
    return text


def _networks(recipe: Recipe) -> str:
    limits = {"parameters": recipe.max_params, "nodes": recipe.max_nodes}
    text = " and ".join(f"{most:,} {what}" for what, most in limits.items() if most)
    return f"the split train{f', those of up to {text}' if text else ''}; seed {recipe.seed}"


# --- files ---


def _weights(training: Training, path: Path, *, half: bool) -> Path:
    """Write the weights of a training, with what `describe` should know of them."""
    kept = {key: training.known[key] for key in ("recipe", "steps", "images", "corpus") if key in training.known}
    return save_checkpoint(load_checkpoint(training.source), path, kept, half=half)


def _is_same(path: Path, other: Path) -> bool:
    """Whether two files hold the same, byte for byte but for the order in which they do."""
    try:
        return TensorFile(path).metadata.get(DIGEST) == TensorFile(other).metadata[DIGEST]
    except CheckpointError:  # there is none, or none that can be read
        return False


def _holds(path: Path, training: Training) -> bool:
    """Whether a file has the weights of a training, rounded or not."""
    ours, theirs = TensorFile(path).tensors, TensorFile(training.source).tensors
    return ours.keys() == theirs.keys() and all(
        tensor.shape == theirs[name].shape and bool((tensor == theirs[name].to(tensor.dtype)).all())
        for name, tensor in ours.items()
    )


def _card_beside(path: Path, sha256: str) -> dict[str, Any]:
    """The card of this very file that is there already; empty if there is none, or it is damaged."""
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(card, dict) or card.get("sha256") != sha256:
        return {}
    whole = all(isinstance(card.get(field), kind) for field, kind in KINDS.items())
    return (
        card if whole and card["command"] and all(isinstance(each, dict) for each in card["results"].values()) else {}
    )


def _json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
