"""What a hypernetwork reaches, from a folder of results: figures of each split, and the commands that gave them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation import OK, summarize
from benchmark.results import read_rows, read_runs
from deepnets.support import ConfigError, FormatError

__all__ = ["Reached", "read_reached"]

SPLITS = ("val", "test", "wide", "deep", "dense", "bnfree", "predefined")


class Reached(NamedTuple):
    """Three fields of a card.

    Attributes
    ----------
    results
        By split: `mean_top1`, `standard_error`, `best_top1` (percent; None if all failed), `best_index`, `networks` and
        `failures`; by name of a network of `predefined`: `top1`.
    evaluation
        Commands, without what is particular to a machine.
    about
        What the figures are.
    """

    results: dict[str, dict[str, Any]]
    evaluation: list[str]
    about: str


def read_reached(folder: Path | str, digests: Mapping[str, str], name: str, images: str) -> Reached:
    """Read what was reached.

    Parameters
    ----------
    folder
        What `python -m benchmark run` wrote to.
    digests
        SHA-256 of the files whose results count, the one that is preferred first, and what commands call each.
    name
        Of the hypernetwork.
    images
        The set that it was trained on.

    Raises
    ------
    ConfigError
        If there are no results of any of these files on these images, or those of a split are not complete.
    FormatError
        If the files are not what they should be.
    """
    folder = Path(folder)
    chosen: dict[str, tuple[str, dict[str, Any], str]] = {}
    runs = read_runs(folder)
    for digest in reversed(list(digests)):
        for run, about in runs.items():  # the newest is the last
            predictor = about.get("predictor")
            known = isinstance(predictor, dict) and predictor.get("digest") == digest
            if known and about.get("images") == images and not about.get("noise") and about.get("split") in SPLITS:
                chosen[about["split"]] = run, about, digests[digest]
    if not chosen:
        raise ConfigError(
            f"results: {folder} has none of this very file (SHA-256 {next(iter(digests))[:12]}...) on {images}; "
            "evaluate it with python -m benchmark run --predictors, and its path"
        )
    rows = read_rows(folder)
    results: dict[str, dict[str, Any]] = {}
    commands: list[str] = []
    smaller = 0
    for split in (split for split in SPLITS if split in chosen):
        run, about, call = chosen[split]
        part = rows[rows["run"] == run]
        for key in ("networks", "batch_size"):
            if not isinstance(about.get(key), int):
                raise FormatError(f"{folder}: runs.json: {run}: {key} is {about.get(key)!r}; expected an integer")
        if len(part) < about["networks"]:
            raise ConfigError(
                f"results: {split} has {len(part)} of {about['networks']} networks; the command that evaluates them "
                "goes on"
            )
        results |= _figures(split, part)
        smaller += int(((part["status"] == OK) & (part["batch_size"] < about["batch_size"])).sum())
        commands.append(_command(about, call, name))
    return Reached(results, list(dict.fromkeys(commands)), _about(chosen, name, smaller))


def _figures(split: str, part: pd.DataFrame) -> dict[str, dict[str, Any]]:
    if split == "predefined":
        return {str(network): {"top1": _rounded(float(top1))} for network, top1 in zip(part["network"], part["top1"])}
    summary = summarize(part)
    figures = {
        "mean_top1": _rounded(summary.mean),
        "standard_error": _rounded(summary.standard_error),
        "best_top1": _rounded(summary.best),
        "best_index": summary.best_index,
        "networks": summary.networks,
        "failures": summary.failures,
    }
    return {split: figures}


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def _about(chosen: Mapping[str, tuple[str, dict[str, Any], str]], name: str, smaller: int) -> str:
    """In words: on which images, in what batches, which networks, with which weights."""
    runs = [about for _, about, _ in chosen.values()]
    sizes = " or ".join(str(size) for size in sorted({about["batch_size"] for about in runs}))
    whole = all(about.get("split_size") == about["networks"] for about in runs)
    text = (
        f"top-1 accuracy in percent on the test images, batches of {sizes} with their own statistics; "
        f"{'all networks of each split' if whole else 'of each split the first networks'}, none of which was seen in "
        "training; standard errors with population deviation"
    )
    if "val" in chosen:
        text += "; val is on validation images"
    if smaller:
        text += f"; {smaller} networks in smaller batches, for want of memory"
    if before := [split for split in SPLITS if split in chosen and chosen[split][2] != name]:
        whose = "was" if len(before) == 1 else "were"
        text += f"; {', '.join(before)} {whose} evaluated with the file of the training, whose weights are not rounded"
    return text


def _command(about: Mapping[str, Any], call: str, name: str) -> str:
    """How to do the same again, on another machine."""
    spec = str(about["predictor"].get("spec"))
    call = name if call == name else f"{name}={call}"
    try:
        words = shlex.split(str(about.get("command") or ""))
    except ValueError:
        words = []
    if words[:4] != ["python", "-m", "benchmark", "run"]:  # it was run from Python
        words = ["python", "-m", "benchmark", "run", "--predictors", spec, "--splits", str(about["split"])]
        words += ["--images", str(about["images"]), *(["--image-root", "/"] if about["images"] != "digits" else [])]
        words += ["--limit", str(about["limit"])] if about.get("limit") else []
        words += ["--batch", str(about["batch_size"])] if about["batch_size"] != BATCH_SIZE else []
        words += ["--seed", str(about["seed"])] if about.get("seed") else []
    return " ".join(
        call if word == spec or word.endswith(f"={spec}") else shlex.quote(_without_path(word)) for word in words
    )


def _without_path(word: str) -> str:
    """A word of a command, with a placeholder for a path in it."""
    option, equals, value = word.rpartition("=")
    if "/" not in value and "\\" not in value and not value.startswith("~"):
        return word
    return option + equals + ("FILE" if value.endswith((".safetensors", ".pt")) else "FOLDER")
