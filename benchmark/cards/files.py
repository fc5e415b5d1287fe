"""The files of a bundled hypernetwork: weights, card (as JSON and as Markdown) and log.

A card describes what was trained, by which command, and its accuracies next to published ones.  Its values come from
files: from the log, from the metadata of the checkpoint, and from results of evaluating this checkpoint.
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
from benchmark.cards.results import current_figures, read_card_results
from benchmark.cards.training_run import Training, log_text, preset_of, read_training, task_of, training_command
from deepnets.data import image_set_info
from deepnets.support import CheckpointError, ConfigError, parse_json, read_whole, replace_file
from ghn_model import describe, load_checkpoint
from ghn_model.checkpoints import (
    DIGEST,
    PRETRAINED,
    TensorFile,
    file_digest,
    markdown_card,
    read_config,
    save_checkpoint,
)
from ghn_model.tasks import Task
from ghn_model.training import Recipe

__all__ = ["bundle", "make_card"]

TITLES = {"mlp": "MLP", "ghn1": "GHN-1", "ghn2": "GHN-2"}
GIVEN = ("corpus_command", "images_about", "limits", "hardware", "software")
METADATA = ("recipe", "steps", "images", "corpus", "task")
TASK = "predicts all parameters of image classifiers"
TEXT_TASK = "predicts all parameters of language models"
UNKNOWN = "not recorded"
KINDS: dict[str, Any] = {
    **dict.fromkeys(("hardware", "software", "log", "limits", "results_about"), str),
    **dict.fromkeys(("command", "evaluation"), list),
    **dict.fromkeys(("data", "results"), dict),
    "minutes": (int, float),
}
"""Types of the fields of a card that a new card is made from."""


def bundle(
    run: Path | str | None,
    name: str,
    out: Path | str = PRETRAINED,
    *,
    half: bool = True,
    overwrite: bool = False,
    results: Path | str | None = None,
    given: Mapping[str, str] | None = None,
    task: str | Task | type[Task] | None = None,
) -> Path:
    """Write the files of a bundled hypernetwork, all or none.

    Parameters
    ----------
    run
        Folder of the training run; None to update the existing card.
    name
        Name of the hypernetwork, such as "ghn2-cifar10".
    out
        Folder to write to, which is created if missing.  Default: the folder of the bundled hypernetworks.
    half
        Whether to store the weights in half precision.
    overwrite
        Whether to replace files of another training.
    results, given, task
        As for `make_card`.

    Returns
    -------
    The path of the weights, `NAME.safetensors`.  The card is `NAME.json`, and `NAME.md` as Markdown with the
    header of the Hugging Face Hub; the log is `NAME.log.csv`, and the learning curve of a training with
    `--validate-every` is `NAME.curve.csv`.

    Raises
    ------
    ConfigError
        If the name is invalid, files of the training are missing, files of another training exist, or as for
        `make_card`.
    CheckpointError, FormatError
        If a file is damaged.
    """
    out = Path(out)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ConfigError(f"name: expected letters, digits, - and _, such as ghn2-cifar10; got {name!r}")
    path, card, log, curve = (out / f"{name}{suffix}" for suffix in (".safetensors", ".json", ".log.csv", ".curve.csv"))
    if run is None:
        _write_card(card, make_card(None, path, results, given=given, task=task), path)
        return path
    training = read_training(run, task)
    with tempfile.TemporaryDirectory() as folder:
        # Results refer to the digest of the file, and the same tensors can be stored as different bytes: an existing
        # file with the same content is kept.
        new = _weights(training, Path(folder) / path.name, half=half)
        there = _is_same(path, new)
        others = (
            []
            if there or overwrite
            else [each for each in (path, card, card.with_suffix(".md"), log, curve) if each.exists()]
        )
        if others:
            raise ConfigError(
                f"{others[0]}: belongs to another training, or has another precision (--full); choose another name, or "
                "replace it with --overwrite"
            )
        described = make_card(run, path if there else new, results, given=given, task=task)
        out.mkdir(parents=True, exist_ok=True)
        if not there:
            replace_file(path, new.read_bytes())
    replace_file(log, log_text(training.log, training.task)[0])
    if training.curve:
        replace_file(curve, training.curve)
    else:
        curve.unlink(missing_ok=True)
    _write_card(card, described, path)
    return path


def make_card(
    run: Path | str | None,
    path: Path | str,
    results: Path | str | None = None,
    *,
    given: Mapping[str, str] | None = None,
    task: str | Task | type[Task] | None = None,
) -> dict[str, Any]:
    """Return the card of a bundled hypernetwork.

    If a card of the same weights exists, texts and results that are not given are taken from it.

    Parameters
    ----------
    run
        Folder of the training run; None to take its description from the existing card.
    path
        The weights that `bundle` wrote.
    results
        A folder that `python -m benchmark run` wrote, with results of these weights or of the checkpoint in `run`.
    given
        What no file contains: `corpus_command`, the command that built the corpus; `images_about`, a description of the
        images; `limits`, the limitations of the hypernetwork; `hardware` and `software`, for a training that did not
        record them.
    task
        Task of the training, as for `ghn_model.tasks.get_task`; needed for one of your own.

    Returns
    -------
    A dictionary that can be written as JSON.

    Raises
    ------
    ConfigError
        If there are no results of these weights, the weights belong to another training, or `given` or `task`
        contradicts a file.
    CheckpointError, FormatError
        If a file is damaged.
    """
    path, given = Path(path), dict(given or {})
    if unknown := given.keys() - set(GIVEN):
        raise ConfigError(f"given: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(GIVEN)}")
    name, sha256 = path.name.removesuffix(".safetensors"), file_digest(path)
    before = _card_beside(path, sha256)
    digests = {sha256: name}
    if run is not None:
        training = read_training(run, task)
        if not _holds(path, training):
            raise ConfigError(
                f"{path}: has other weights than {training.source}; expected the same weights, in any precision"
            )
        digests.setdefault(training.sha256, "RUN/ghn.safetensors")
        half = any(tensor.dtype == torch.float16 for tensor in TensorFile(path).tensors.values())
        card = _of_training(training, name, sha256, before, half=half)
        images, recorded = training.images, training.metadata
    elif before:
        card, images, recorded = before, str(describe(path).metadata.get("images")), before
    else:
        raise ConfigError(
            f"{path.with_suffix('.json')}: is not the card of these weights; give RUN, the folder of the training"
        )
    preset = preset_of(describe(path).config)
    _add_given(card, given, recorded)
    card["results"] = {split: current_figures(found) for split, found in card["results"].items()}
    if results is not None:
        metric = task_of(describe(path).metadata, path, task).metric.name
        found = read_card_results(results, digests, name, images, metric)
        card["results"], card["evaluation"], card["results_about"] = found
    if images == "cifar10" and preset in PUBLISHED:
        card["published"] = {**PUBLISHED[preset], "source": SOURCE}
    card["about"] = _summary(card, preset, images)
    return card


def _of_training(
    training: Training, name: str, sha256: str, before: Mapping[str, Any], *, half: bool
) -> dict[str, Any]:
    """Return a card without new results; texts and results come from the existing card."""
    recipe, images, metadata = training.recipe, training.images, training.metadata
    log_about = log_text(training.log, training.task)[1]
    command, hardware = _command_and_hardware(training)
    networks = metadata.get("networks")  # earlier versions did not count them
    size, for_texts = image_set_info(images).image_size, training.task.examples == "sequences"
    pixels = f"{size} x {size} pixels and " if size else ""
    card: dict[str, Any] = {
        "sha256": sha256,
        "about": "",
        "task": TEXT_TASK if for_texts else f"{TASK} for {pixels}{training.config.num_classes} classes",
        "command": [*before.get("command", [])[:-1], command],
        "evaluation": before.get("evaluation", []),
        "seed": recipe.seed,
        "hardware": hardware or before.get("hardware", UNKNOWN),
        "software": metadata.get("software") or before.get("software", UNKNOWN),
        "minutes": round(training.seconds / 60, 1),
        "steps": training.steps,
        "networks_seen": networks if isinstance(networks, int) else training.steps * recipe.meta_batch_size,
        f"{training.task.examples}_per_network": recipe.batch_size,
        f"last_training_{training.task.metric.name}": training.last_value,
        "skipped": int(training.log[-1]["skipped"]),
        "log": f"{name}.log.csv",
        **({"log_about": log_about} if log_about else {}),
        **({"curve": f"{name}.curve.csv"} if training.curve else {}),
        "recipe": recipe.to_dict(),
        "data": {
            "networks": _networks(recipe, str(metadata.get("corpus") or "")),
            "corpus": metadata.get("corpus"),
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
        card["unfinished"] = f"the training was stopped after {share} % of its budget"
    return card


def _command_and_hardware(training: Training) -> tuple[str, Any]:
    """Return the command and the hardware of a training; earlier versions recorded those of one of its processes."""
    command, hardware = training_command(training), training.metadata.get("hardware")
    if "processes" not in training.metadata and (several := re.search(r"(\d+) processes", str(hardware))):
        command = re.sub(r"^(python -m )?", f"torchrun --nproc-per-node {several[1]} -m ", command)
        hardware = re.sub("cores$", "cores each", str(hardware))
    return command, hardware


def _add_given(card: dict[str, Any], given: Mapping[str, str], recorded: Mapping[str, Any]) -> None:
    """Add the values that no file contains."""
    for name in ("hardware", "software"):
        if name in given and recorded.get(name) not in (None, UNKNOWN, given[name]):
            raise ConfigError(f"{name}: the training recorded {recorded[name]!r}; omit {given[name]!r}")
        card[name] = given.get(name, card[name])
    card["limits"] = given.get("limits", card["limits"])
    if "images_about" in given:
        card["data"] = {**card["data"], "images": given["images_about"]}
    if "corpus_command" in given:
        card["command"] = [*([given["corpus_command"]] if given["corpus_command"] else []), card["command"][-1]]


def _summary(card: Mapping[str, Any], preset: str, images: str) -> str:
    title = TITLES.get(preset, preset.upper().replace("GHN", "GHN-", 1)) or "Hypernetwork"
    text = f"{title} for {images}, {card['minutes']:.0f} minutes"
    if card["hardware"] != UNKNOWN:
        text += f" on {card['hardware']}"
    test = card["results"].get("test", {})
    if test.get("mean_top1") is not None:
        text += f"; {test['mean_top1']:.0f} % on {test['networks']} networks of test"
    return text


def _networks(recipe: Recipe, corpus: str) -> str:
    """Describe the training networks: of a family, whose identity begins with its name, or of DeepNets-1M."""
    if "/" in corpus:
        return f"{corpus}; seed {recipe.seed}"
    limits = {"parameters": recipe.max_params, "nodes": recipe.max_nodes}
    text = " and ".join(f"{most:,} {what}" for what, most in limits.items() if most)
    return f"the split train{f', those of up to {text}' if text else ''}; seed {recipe.seed}"


# --- files ---


def _weights(training: Training, path: Path, *, half: bool) -> Path:
    """Write the weights of a training, with the metadata that `describe` shows."""
    kept = {key: training.metadata[key] for key in METADATA if key in training.metadata}
    return save_checkpoint(load_checkpoint(training.source), path, kept, half=half)


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two files have the same tensors and metadata."""
    try:
        return TensorFile(path).metadata.get(DIGEST) == TensorFile(other).metadata[DIGEST]
    except CheckpointError:  # a file is missing or damaged
        return False


def _holds(path: Path, training: Training) -> bool:
    """Return whether a file has the weights of a training, in any precision."""
    ours, theirs = TensorFile(path).tensors, TensorFile(training.source).tensors
    return ours.keys() == theirs.keys() and all(
        tensor.shape == theirs[name].shape and bool((tensor == theirs[name].to(tensor.dtype)).all())
        for name, tensor in ours.items()
    )


def _card_beside(path: Path, sha256: str) -> dict[str, Any]:
    """Return the existing card of this file; empty if there is none, or it is damaged."""
    try:
        card = parse_json(read_whole(path.with_suffix(".json")))
    except (OSError, ValueError):
        return {}
    if not isinstance(card, dict) or card.get("sha256") != sha256:
        return {}
    whole = all(isinstance(card.get(field), kind) for field, kind in KINDS.items())
    return (
        card if whole and card["command"] and all(isinstance(each, dict) for each in card["results"].values()) else {}
    )


def _name_in_code(path: Path) -> str:
    """What `GHN.from_pretrained` is given in the example of a card: a bundled name, or the file beside the card."""
    return path.stem if path.parent.resolve() == PRETRAINED.resolve() else f"{path.stem}.safetensors"


def _write_card(path: Path, card: Mapping[str, Any], weights: Path) -> None:
    """Write a card as JSON and as Markdown."""
    replace_file(path.with_suffix(".md"), markdown_card(_name_in_code(path), card, read_config(weights)))
    replace_file(path, _json(card))


def _json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
