"""A trained hypernetwork becomes one that comes with the package: its file, its card, and the log of its training.

A card says what was trained and how, by which command, and what it reaches beside what is published.  Nothing in it is
typed in that a file knows: figures are from the log, from the file's own metadata, or from results of evaluating the
very file that the card is about.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmark.evaluation import summarize
from benchmark.report.reading import read_rows, read_runs
from deepnets.errors import ConfigError, FormatError
from deepnets.folders import replace_file
from ghn_model.checkpoints import PRETRAINED, describe, load_checkpoint, save_checkpoint
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.progress import COLUMNS
from ghn_model.recipe import Recipe
from ghn_model.tensor_files import DIGEST, TensorFile
from ghn_model.train_command import CHANGES

__all__ = ["PUBLISHED", "bundle", "make_card", "training_command", "write_card"]

TITLES = {"mlp": "MLP", "ghn1": "GHN-1", "ghn2": "GHN-2"}
SPLITS = ("val", "test", "wide", "deep", "dense", "bnfree")
SIZES = {"digits": (10, 32), "cifar10": (10, 32), "imagenet": (1000, 224)}
RESULTS_ABOUT = (
    "top-1 accuracy in percent on the test images, batches of 64 with their own statistics; of each split the first "
    "networks, none of which was seen in training; standard errors with population deviation"
)
LOG_ROWS = 500
LAST_ROWS = 10

_COLUMNS = ("test", "wide", "deep", "dense", "bnfree", "resnet50", "vit")
_ROWS = {
    "mlp": ("42.23±0.62", "22.29±0.88", "37.92±1.23", "44.79±1.06", "23.89±0.75", "17.69", "10.00"),
    "ghn1": ("51.35±0.43", "43.10±1.67", "48.33±0.78", "51.83±0.93", "13.71±0.27", "19.20", "18.23"),
    "ghn2": ("66.88±0.35", "63.97±1.13", "60.54±1.17", "65.84±0.68", "36.80±1.51", "58.62", "11.41"),
}
PUBLISHED: dict[str, dict[str, str]] = {name: dict(zip(_COLUMNS, row)) for name, row in _ROWS.items()}
"""Top-1 accuracy on CIFAR-10's test images, mean ± standard error over the published networks (500, and 100 of each
other split), of one network for the last two (Knyazev et al., NeurIPS 2021; from the published result files)."""


def bundle(
    run: Path | str, name: str, out: Path | str = PRETRAINED, *, half: bool = True, overwrite: bool = False
) -> Path:
    """Write the file of a bundled hypernetwork, and the log of its training beside it.

    Parameters
    ----------
    run
        Folder of the training.
    name
        Of the hypernetwork, such as "ghn2-cifar10".
    out
        Where to: by default the folder of those that come with the package; made if missing.
    half
        Whether weights are rounded to half precision.
    overwrite
        Whether a hypernetwork of another training may be replaced.

    Returns
    -------
    The file, `NAME.safetensors`; the log is `NAME.log.csv`.

    Raises
    ------
    ConfigError
        If the name cannot be one, the training has no files, or another hypernetwork of that name is there.
    """
    run, out = Path(run), Path(out)
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"name: expected letters, digits, - and _, such as ghn2-cifar10; got {name!r}")
    source = run / "ghn.safetensors"
    for needed in (source, run / "log.csv"):
        if not needed.is_file():
            raise ConfigError(f"{run}: has no {needed.name}; expected the folder of python -m ghn_model train")
    known = describe(source).metadata
    kept: dict[str, Any] = {key: known[key] for key in ("recipe", "steps", "images", "corpus") if key in known}
    text = _thinned(_read_log(run / "log.csv"))
    path = out / f"{name}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        new = save_checkpoint(load_checkpoint(source), Path(folder) / "ghn", kept, half=half)
        # The same content need not be the same bytes, and results are known by the bytes: what is there stays.
        if not path.exists() or not _same(path, new):
            if path.exists() and not overwrite:
                raise ConfigError(
                    f"{path}: is of another training; choose another name, or replace it with --overwrite"
                )
            replace_file(path, new.read_bytes())
    replace_file(out / f"{name}.log.csv", text)
    return path


def make_card(
    run: Path | str,
    path: Path | str,
    results: Path | str | None = None,
    *,
    corpus_command: str | None = None,
    given: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The card of a bundled hypernetwork.

    Parameters
    ----------
    run
        Folder of the training.
    path
        The file that `bundle` wrote.
    results
        Folder of `python -m benchmark run` in which that file was evaluated.
    corpus_command
        How the corpus was made.
    given
        What no file knows: `images_about`, `limits`.

    Returns
    -------
    Values for JSON.

    Raises
    ------
    ConfigError
        If there are no results of this file.
    FormatError
        If the log or the results are not what they should be.
    """
    run, path, given = Path(run), Path(path), dict(given or {})
    name = path.name.removesuffix(".safetensors")
    known = describe(run / "ghn.safetensors").metadata
    config, recipe = describe(path).config, Recipe.from_dict(known["recipe"])
    images, steps, minutes = known["images"], known["steps"], known["seconds"] / 60
    log, sha256 = _read_log(run / "log.csv"), hashlib.sha256(path.read_bytes()).hexdigest()
    preset = _preset_of(config, images)
    reached, evaluation = _results(Path(results), sha256, name, images) if results else ({}, [])
    hardware = known.get("hardware", "not recorded")
    about = f"{TITLES.get(preset, preset.upper())} for {images}, {minutes:.0f} minutes on {hardware}"
    if test := reached.get("test"):
        about += f"; {test['mean_top1']:.0f} % on {test['networks']} networks of test"
    size = config.num_classes, SIZES[images][1]
    card = {
        "sha256": sha256,
        "about": about,
        "task": f"predicts all parameters of image classifiers for {size[1]} x {size[1]} pixels and {size[0]} classes",
        "command": [*([corpus_command] if corpus_command else []), training_command(config, recipe, images, known)],
        "evaluation": evaluation,
        "seed": recipe.seed,
        "hardware": hardware,
        "software": known.get("software", "not recorded"),
        "minutes": round(minutes, 1),
        "steps": steps,
        "networks_seen": steps * recipe.meta_batch,
        "images_per_network": recipe.batch,
        "last_training_top1": round(float(np.mean([float(row["top1"]) for row in log[-LAST_ROWS:]])), 1),
        "skipped": int(log[-1]["skipped"]),
        "log": f"{name}.log.csv",
        "recipe": recipe.to_dict(),
        "data": {
            "networks": _networks(recipe),
            "corpus": known.get("corpus"),
            "images": given.get("images_about") or images,
        },
        "results": reached,
        "results_about": RESULTS_ABOUT,
        "limits": given.get("limits", ""),
        "precision": "weights are stored in half precision" if _is_half(path) else "weights are stored as trained",
        "licence": "MIT",
    }
    if (progress := known.get("progress", 1)) < 1:
        card["unfinished"] = f"the training was stopped after {progress:.0%} of its length"
    if images == "cifar10" and preset in PUBLISHED:
        source = "Knyazev et al., NeurIPS 2021, on their networks; from the published result files"
        card["published"] = {**PUBLISHED[preset], "source": source}
    return card


def training_command(config: GHNConfig, recipe: Recipe, images: str, known: Mapping[str, Any]) -> str:
    """The command that trains with a recipe, as short as it can be.

    Parameters
    ----------
    config, recipe, images
        Of the training.
    known
        What its file says: `steps`, and `length`, if it has one.
    """
    preset = _preset_of(config, images)
    usual = Recipe.preset(preset, images)
    words = ["python -m ghn_model train", f"--preset {preset}", f"--images {images}"]
    words += [] if images == "digits" else ["--image-folder FOLDER"]
    length = known.get("length") or {"steps": known["steps"]}
    words += [f"--{unit} {length[unit]:g}" for unit in ("minutes", "steps") if length.get(unit)]
    for field in CHANGES:
        value, option = getattr(recipe, field), field.replace("_", "-")
        if value == getattr(usual, field) or field == "epochs":
            continue
        words.append(
            (f"--{option}" if value else f"--no-{option}") if isinstance(value, bool) else f"--{option} {value}"
        )
    others = [name for name in ("optimizer", "schedule", "wider_nets") if getattr(recipe, name) != getattr(usual, name)]
    return " ".join(words) + (f"  # from Python: another {' and '.join(others)}, see recipe" if others else "")


def _preset_of(config: GHNConfig, images: str) -> str:
    for name in PRESETS:
        if GHNConfig.preset(name, config.num_classes, SIZES[images][1]) == config:
            return name
    raise ConfigError(
        f"config: is of no preset ({', '.join(PRESETS)}), so no command trains it; write its card by hand"
    )


def _networks(recipe: Recipe) -> str:
    limits = {"parameters": recipe.max_params, "nodes": recipe.max_nodes}
    text = " and ".join(f"{most:,} {what}" for what, most in limits.items() if most)
    return f"the split train{f', those of up to {text}' if text else ''}; seed {recipe.seed}"


def _results(folder: Path, sha256: str, name: str, images: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Of each split, what was reached by the newest run of a file; and the commands for it."""
    runs = {
        about["split"]: (run, about)
        for run, about in read_runs(folder).items()
        if about.get("predictor", {}).get("digest") == sha256 and not about.get("noise") and about["images"] == images
    }
    if not runs:
        raise ConfigError(
            f"results: {folder} has none of this very file (SHA-256 {sha256[:12]}...) on {images}; evaluate it with "
            "python -m benchmark run --predictors, and its path"
        )
    rows = read_rows(folder)
    found: dict[str, dict[str, Any]] = {}
    limits: dict[int, list[str]] = {}
    for split in (*SPLITS, "predefined"):
        if split not in runs:
            continue
        run, about = runs[split]
        part = rows[rows["run"] == run]
        if len(part) < about["networks"]:
            raise ConfigError(f"results: {split} has {len(part)} of {about['networks']} networks; finish it first")
        limits.setdefault(about.get("limit") or 0, []).append(split)
        if split == "predefined":
            for network, top1 in zip(part["network"], part["top1"]):
                found[network] = {"top1": None if np.isnan(top1) else round(float(top1), 2)}
            continue
        summary = summarize(part)
        found[split] = {
            "mean_top1": round(summary.mean, 2),
            "standard_error": round(summary.standard_error, 2),
            "best_top1": round(summary.best, 2),
            "best_index": summary.best_index,
            "networks": summary.networks,
            "failures": summary.failures,
        }
    root = "" if images == "digits" else " --image-root FOLDER"
    commands = [
        f"python -m benchmark run --predictors {name} --splits {' '.join(splits)} --images {images}{root}"
        + (f" --limit {limit}" if limit else "")
        for limit, splits in limits.items()
    ]
    return found, commands


def _read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    try:
        for row in rows:
            int(row["step"]), float(row["top1"]), int(row["skipped"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: is no log of a training: {error!r}; expected the columns {', '.join(COLUMNS)}"
        ) from error
    if not rows:
        raise FormatError(f"{path}: has no rows; train for longer than the steps between them (--log-steps)")
    return rows


def _thinned(rows: Sequence[Mapping[str, str]]) -> str:
    """A log of at most so many rows, spread evenly, with the first and the last ones whole."""
    if len(rows) > LOG_ROWS:
        spread = np.linspace(0, len(rows) - LAST_ROWS - 1, LOG_ROWS - LAST_ROWS).round().astype(int)
        rows = [rows[place] for place in spread.tolist()] + list(rows[-LAST_ROWS:])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _same(path: Path, other: Path) -> bool:
    """Whether two files hold the same, byte for byte but for the order in which they do."""
    first, second = TensorFile(path), TensorFile(other)
    return first.metadata[DIGEST] == second.metadata[DIGEST]


def _is_half(path: Path) -> bool:
    with safe_open(path, "pt") as file:
        return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118  # no mapping


def write_card(path: Path, card: Mapping[str, Any]) -> Path:
    """Write a card beside the file that it is about."""
    target = path.with_suffix(".json")
    replace_file(target, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return target
