"""The results of a hypernetwork for its card: statistics of each split, and the commands that evaluated it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.accuracy import BATCH_SIZE
from benchmark.cards.training_run import portable
from benchmark.choices import EVALUATION_COMMANDS
from benchmark.evaluation import OK, summarize
from benchmark.metrics import METRICS
from benchmark.results import read_rows, read_runs
from benchmark.results.descriptions import stated_options
from deepnets.support import ConfigError, FormatError

__all__ = ["CardResults", "current_figures", "read_card_results"]

SPLITS = ("val", "test", "wide", "deep", "dense", "bnfree", "predefined")


class CardResults(NamedTuple):
    """Three fields of a card.

    Attributes
    ----------
    results
        By split: `mean_top1` and `standard_error` over all networks, of which those that failed count as 0; `best_top1`
        (None if all failed), `best_index`, `networks`, `failures`; `successful_mean_top1` and
        `successful_standard_error` over the networks that did not fail (None if all failed).  By name of a network of
        `predefined`: `top1` (None if it failed).  Accuracies are in percent.
    evaluation
        Commands, with placeholders for paths.
    about
        A description of the results.
    """

    results: dict[str, dict[str, Any]]
    evaluation: list[str]
    about: str


def read_card_results(
    folder: Path | str, digests: Mapping[str, str], name: str, images: str, metric: str = "top1"
) -> CardResults:
    """Read the results of a hypernetwork from a folder of results.

    Parameters
    ----------
    folder
        A folder that `python -m benchmark run` wrote.
    digests
        SHA-256 digests of the checkpoints whose results are accepted, the preferred one first, and the name of each in
        commands.
    name
        Name of the hypernetwork.
    images
        Name of the image set, or of the texts, that it was trained on.
    metric
        Name of the metric of its task, which takes the place of top1 in the names of the fields.

    Raises
    ------
    ConfigError
        If there are no results of these checkpoints on these images, or the results of a split are incomplete.
    FormatError
        If a file is damaged.
    """
    folder = Path(folder)
    chosen: dict[str, tuple[str, dict[str, Any], str]] = {}
    runs = read_runs(folder)
    for digest in reversed(list(digests)):
        for run, about in runs.items():  # from the oldest to the newest
            predictor = about.get("predictor")
            known = isinstance(predictor, dict) and predictor.get("digest") == digest
            belongs = _belongs_in_card(about.get("split"))
            if known and about.get("images") == images and not _is_changed(about) and belongs:
                chosen[about["split"]] = run, about, digests[digest]
    if not chosen:
        raise ConfigError(
            f"results: {folder} has no results of this file (SHA-256 {next(iter(digests))[:12]}...) on {images}; "
            "evaluate it with deepnets bench --predictors FILE"
        )
    rows = read_rows(folder)
    results: dict[str, dict[str, Any]] = {}
    commands: list[str] = []
    smaller = failed = 0
    for split in (*(split for split in SPLITS if split in chosen), *sorted(chosen.keys() - set(SPLITS))):
        run, about, call = chosen[split]
        part = rows[rows["run"] == run].drop_duplicates("index", keep="last")
        for key in ("networks", "batch_size"):
            if not isinstance(about.get(key), int):
                raise FormatError(f"{folder}: runs.json: {run}: {key} is {about.get(key)!r}; expected an integer")
        if len(part) < about["networks"]:
            raise ConfigError(
                f"results: {split} has {len(part)} of {about['networks']} networks; run the evaluation again to "
                "complete them"
            )
        results |= _figures(split, part, metric)
        failed += int((part["status"] != OK).sum()) if split != "predefined" else 0
        smaller += int(((part["status"] == OK) & (part["batch_size"] < about["batch_size"])).sum())
        commands.append(_command(about, call, name))
    return CardResults(results, list(dict.fromkeys(commands)), _about(chosen, name, metric, smaller, failed))


def _belongs_in_card(split: Any) -> bool:
    """Whether a card can contain the results of a split: it was not trained on."""
    return split in SPLITS or (isinstance(split, str) and split.startswith("family:") and not split.endswith("/train"))


def _figures(split: str, part: pd.DataFrame, metric: str) -> dict[str, dict[str, Any]]:
    if split == "predefined":
        return {str(network): {metric: _rounded(float(value))} for network, value in zip(part["network"], part[metric])}
    summary = summarize(part, metric)
    figures = {
        f"mean_{metric}": _rounded(summary.mean),
        "standard_error": _rounded(summary.standard_error),
        f"best_{metric}": _rounded(summary.best),
        "best_index": summary.best_index,
        "networks": summary.networks,
        "failures": summary.failures,
        f"successful_mean_{metric}": _rounded(summary.successful_mean),
        "successful_standard_error": _rounded(summary.successful_standard_error),
    }
    return {split: figures}


def current_figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a split in the current form.

    In cards of earlier versions, `mean_top1` and `standard_error` are over the networks that did not fail.

    Parameters
    ----------
    found
        The figures of a split, or of a network of `predefined`, as in `results` of a card of any version.

    Returns
    -------
    The figures, with networks that failed counted as 0 in `mean_top1` and `standard_error`.

    Examples
    --------
    >>> old = {"mean_top1": 60.0, "standard_error": 5.0, "networks": 3, "failures": 1}
    >>> found = current_figures(old)
    >>> found["mean_top1"], found["standard_error"], found["successful_mean_top1"]
    (40.0, 16.6667, 60.0)
    """
    if "mean_top1" not in found or "successful_mean_top1" in found:
        return dict(found)
    mean, error = found["mean_top1"], found["standard_error"]
    total, failures = int(found["networks"]), int(found.get("failures", 0))
    others = {"successful_mean_top1": mean, "successful_standard_error": error}
    if mean is None or error is None:
        return {**found, "mean_top1": 0.0, "standard_error": 0.0, **others}
    if not failures:
        return {**found, **others}
    share = (total - failures) / total
    variance = share * (error**2 * (total - failures) + mean**2) - (share * mean) ** 2  # of the population, with zeros
    figures = {"mean_top1": _rounded(share * mean), "standard_error": _rounded((variance / total) ** 0.5)}
    return {**found, **figures, **others}


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _about(
    chosen: Mapping[str, tuple[str, dict[str, Any], str]], name: str, metric: str, smaller: int, failed: int
) -> str:
    """Describe the results: metric, data, batch sizes, networks and weights."""
    runs = [about for _, about, _ in chosen.values()]
    sizes = " or ".join(str(size) for size in sorted({about["batch_size"] for about in runs}))
    whole = all(about.get("split_size") == about["networks"] for about in runs)
    part = "selected networks" if any(about.get("index") for about in runs) else "the first networks"
    known = METRICS.get(metric)
    figure = f"{known.label}{' in percent' if known.unit.strip() == '%' else ''}" if known else metric
    is_text = any(about.get("task") == "text" for about in runs)
    data = "test part of the texts" if is_text else "test images"
    text = (
        f"{figure} on the {data}, batches of {sizes}{'' if is_text else ' with their own statistics'}; "
        f"{'all networks of each split' if whole else f'of each split {part}'}, none of which was seen in "
        "training; standard errors with population deviation"
    )
    if on_val := [split for split, (_, about, _) in chosen.items() if about.get("part") == "val"]:
        verb, what = "is" if len(on_val) == 1 else "are", "texts" if is_text else "images"
        text += f"; {', '.join(on_val)} {verb} on validation {what}"
    if failed:
        worst = 0.0 if known is None else known.worst
        what = "have no value, and are in no mean" if worst is None else f"count as {worst:g}"
        text += f"; networks for which the hypernetwork failed {what}"
    if smaller:
        text += f"; {smaller} networks were evaluated with smaller batches, because memory ran out"
    if before := [split for split in SPLITS if split in chosen and chosen[split][2] != name]:
        whose = "was" if len(before) == 1 else "were"
        text += f"; {', '.join(before)} {whose} evaluated with the weights of the training, before rounding"
    return text


def _is_changed(about: Mapping[str, Any]) -> bool:
    """Whether a run was on changed images, or left out class layers."""
    return bool(about.get("noise") or about.get("corruption")) or about.get("predict_class_layers") is False


def _command(about: Mapping[str, Any], call: str, name: str) -> str:
    """Return the command of an evaluation, with placeholders for paths."""
    spec = str(about["predictor"].get("spec"))
    call = name if call == name else f"{name}={call}"
    try:
        words = shlex.split(str(about.get("command") or ""))
    except ValueError:
        words = []
    if not any(words[: len(start)] == start for start in EVALUATION_COMMANDS):  # the evaluation was started from Python
        words = ["deepnets", "bench", "--predictors", spec, "--splits", str(about["split"])]
        stated = stated_options(about)
        root = "/" if stated.get("images", "digits") != "digits" else None
        data, *others = stated.items()
        for option, value in (data, ("image_root", root), ("limit", about.get("limit")), *others):
            if value and (option, value) != ("batch_size", BATCH_SIZE):
                words += [f"--{option.replace('_', '-')}", str(value)]
    return " ".join(
        call if word == spec or word.endswith(f"={spec}") else portable(shlex.quote(word)) for word in words
    )
