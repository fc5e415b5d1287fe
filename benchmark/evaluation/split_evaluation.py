"""`evaluate`: the networks of a split with predicted parameters, evaluated on images as in the literature.

    for every network:   graph ──predictor──▶ parameters ──▶ metrics on all images  (batch 64, batch statistics)

Every network has a row.  A predictor fails for a network if it raises an exception, exceeds the limits of time or
memory, or if its parameters are incomplete, have wrong shapes or are not finite.  The row states the reason, and
`summarize` counts the network with an accuracy of 0.  Images for which the outputs of a network are not finite are
wrong answers.  Accuracies are in percent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.machine import Machine
from benchmark.evaluation.networks import default_image_split, select_networks
from benchmark.evaluation.parallel import evaluate_all
from benchmark.evaluation.predictor_objects import Predictor
from benchmark.evaluation.predictors import check_classes, check_predictor, describe_predictor
from benchmark.evaluation.rows import check_columns, evaluate_one, row_columns
from benchmark.evaluation.workers import close_workers, describe_all
from benchmark.metrics import Metric, check_metrics, get_metrics
from deepnets.data import Images
from deepnets.support import ConfigError, ProgressBar, at_least, checked_integer
from deepnets.tracing import check_vocabulary
from ghn_model.ghn import GHN
from ghn_model.tasks import Task, get_logit_task, recorded_name

__all__ = ["evaluate"]

_NEEDED = ("name", "split", "num_classes", "device", "batches")
"""Attributes of an image set."""


def evaluate(
    predictor: Predictor | GHN | str | Any,
    split: str = "test",
    images: str | Images = "digits",
    *,
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | None = None,
    index: int | str | Sequence[int | str] | None = None,
    batch_size: int = BATCH_SIZE,
    noise: float = 0.0,
    corruption: str | None = None,
    corruption_root: Path | str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    vocabulary: str | None = None,
    predict_class_layers: bool = True,
    workers: int = 1,
    timeout: float | None = None,
    memory: int | None = None,
    backend: str = "threading",
    progress: bool = False,
    task: str | Task = "classification",
    data_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Evaluate a predictor on the networks of a split.

    Parameters
    ----------
    predictor
        - A callable ``(model, graph) -> {name: tensor}``, which receives each network in evaluation mode and its graph;
        - a hypernetwork: a `GHN`, or an object with ``forward(graphs) -> list of {name: tensor}``;
        - a text that names a predictor, such as "ghn2-digits" or "my_module:predict"
          (see `benchmark.evaluation.predictors`).
    split
        A split of DeepNets-1M, models of a library such as "torchvision:resnet50,vit_b_16", or a family such as
        "family:resnet-widths" (see `benchmark.evaluation.open_networks`).
    images
        Name of an image set, whose test images are used (validation images for the networks of `train`, `val` and
        `search`, as in the literature), or the images themselves.  For another task, a data set of that task, such as
        "python" for texts.
    data, image_root
        Folders of the corpus and of the image set.
    limit
        Number of networks to evaluate, counted from the first; all by default.
    index
        The networks to evaluate, by index or name, such as ``3``, ``[3, 17]``, ``"0:10"`` or ``"resnet50"`` (see
        `benchmark.evaluation.select_networks`); instead of `limit`.
    batch_size
        As in `evaluate_network`.  If memory runs out, 32, 16, 8, 4 and 2 are tried.
    noise
        Standard deviation of noise that is added to the images, if they are given by their name; 0.08 in the published
        test of robustness (0.18 for ImageNet).
    corruption, corruption_root
        One of the 15 common corruptions with all 5 severities, such as "fog", or with one, such as "fog:3"; and a
        folder of corrupted images such as CIFAR-10-C (see `deepnets.data.open_images`).  Accuracies are means over the
        severities.
    device
        Device of the networks, if the images are given by their name.
    seed
        Seed of the initial values of networks, of noise, and of random numbers that a predictor draws.  Each network
        has its own random numbers, which do not depend on the other networks.
    metrics
        Metrics beside top-1 and top-5 accuracy and those of the task (see `benchmark.metrics`).
    vocabulary
        Vocabulary of the graphs of models of libraries (see `deepnets.trace`); by default that of the hypernetwork, and
        "complete" for other predictors.  Parameters without a node keep their initial values.
    predict_class_layers
        Whether a hypernetwork predicts classification layers.  If not, they keep their initial values, so that a
        hypernetwork for another number of classes can be used; the accuracy is then that of random guesses, until the
        networks are fine-tuned.
    workers
        Number of networks that are evaluated at the same time, each in its own process, in which PyTorch uses one
        thread.
    timeout
        Time limit per network in seconds.
    memory
        Memory limit per worker in bytes; by default, an equal share of 90 % of the available memory.
    backend
        Backend of joblib, one of `benchmark.evaluation.BACKENDS`.
    progress
        Whether to show a progress bar.
    task
        What the networks are given, and how their outputs are judged (`ghn_model.tasks`): "classification", "text",
        "module:attribute", or an object.
    data_options
        Options of the data set of the task, if it is given by its name: for texts `tokenizer` and `sequence_length`
        (`deepnets.data.open_texts`).

    Returns
    -------
    One row per network, in order of the split or of `index`, with the columns

    - `index`, and `network`, its name (predefined networks and models of libraries only),
    - `num_nodes`, `num_params` (of the whole network), `depth` (number of nodes on the longest path),
    - one column for every metric (NaN if the predictor failed), `num_images`, `batch_size`,
    - `batch_norm`: "batch", or "running" for trained networks,
    - `graph_seconds`, `build_seconds`, `predict_seconds`, `evaluate_seconds` (NaN from the phase that failed),
    - `memory_mb`, `status` ("ok" or "failed"), and `reason` of the failure,
    - `nonfinite_images`, the number of images for which an output is not finite, which are wrong answers.

    The attribute `attrs` of the table states what was evaluated, and how.  For the same seed, all columns except times
    and memory are the same again; on a CPU bit by bit, if the number of threads is the same.

    Raises
    ------
    ConfigError, MissingDataError
        If an argument is not allowed, the split has not been built, or the predictor is for another number of classes.
    FormatError, IntegrityError
        If the corpus or an image is damaged.  Other errors are failures of the network during whose evaluation they
        occur.

    Notes
    -----
    Without `workers`, `timeout` and `memory`, networks are evaluated in the current process, which a predictor can then
    block or end.

    Examples
    --------
    A network that needs no corpus, with all parameters equal to zero, on eight images:

    >>> from dataclasses import replace
    >>> from deepnets.data import load_images
    >>> digits = load_images("digits", "test")
    >>> digits = replace(digits, images=digits.images[:8], labels=digits.labels[:8])
    >>> def zeros(model, graph):
    ...     return {name: torch.zeros_like(tensor) for name, tensor in model.named_parameters()}
    >>> table = evaluate(zeros, "predefined", digits, limit=1)
    >>> table[["network", "num_images", "status"]].values.tolist()
    [['resnet50', 8, 'ok']]
    """
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    seed = checked_integer("seed", seed, range(2**63))
    workers = checked_integer("workers", workers, at_least(1))
    if limit is not None and index is not None:
        raise ConfigError("index: cannot be combined with limit")
    if limit is not None:
        limit = checked_integer("limit", limit, at_least(1))
    judged = get_logit_task(task)
    if isinstance(images, str):
        given = dict(data_options or {})
        if corruption:
            given |= {"corruption": corruption, "corruption_root": corruption_root}
        part = default_image_split(split)
        opened_data: Images = judged.open_data(images, part, root=image_root, device=device, noise=noise, **given)
        images = opened_data
    elif noise or corruption or corruption_root or data_options:
        name = "noise" if noise else "data_options" if data_options else "corruption"
        raise ConfigError(f"{name}: is only for data sets that are given by their name")
    elif lacking := [each for each in _NEEDED if not hasattr(images, each)]:
        given_type = f"a {type(images).__name__}, which has no {lacking[0]}"
        raise ConfigError(f"images: expected the name of an image set or a deepnets.data.ImageSet, got {given_type}")
    measured = get_metrics((*judged.metrics, *metrics))
    check_columns(measured)
    check_metrics(measured, images.num_classes)
    in_process = workers == 1 and timeout is None and memory is None
    machine = Machine((str(images.device),), workers, backend=backend, timeout=timeout, memory=memory)
    info = None
    if isinstance(predictor, str):
        info = describe_predictor(predictor) if in_process else describe_all([predictor], machine.resolved())[0]
    try:
        job = EvaluationJob(
            info or predictor,
            split,
            images,
            data=str(data),
            image_root=str(image_root) if image_root else None,
            limit=limit,
            batch_size=batch_size,
            seed=seed,
            metrics=measured,
            vocabulary=None if vocabulary is None else check_vocabulary(vocabulary),
            device=str(images.device),
            predict_class_layers=predict_class_layers,
            task=judged,
        )
        opened: Predictor | GHN | None = None
        if in_process or info is None:
            networks, opened, *_ = job.prediction().open()
        else:
            networks = job.open_networks(images)
            check_predictor(info, images, image_root, predict_class_layers)
        if isinstance(opened, GHN) and not opened.config.for_texts and predict_class_layers:
            check_classes("", opened.config.num_classes, images)
        indices = list(range(len(networks))) if index is None else select_networks(networks, index)
    except BaseException:
        close_workers()  # that have described the predictor
        raise
    rows: dict[int, dict[str, Any]] = {}
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "metrics": job.metrics,
        "vocabulary": job.graph_vocabulary,
        "predict_class_layers": predict_class_layers,
        "task": judged,
    }
    with ProgressBar(total=len(indices), desc=networks.name, show=progress, unit="network") as bar:
        if in_process and opened is not None:
            for place, network in enumerate(indices):
                rows[place] = evaluate_one(networks, network, opened, images, **options)
                bar.update()
        else:
            work = [(job, network) for network in indices]
            with contextlib.closing(evaluate_all(work, machine)) as results:
                for place, row in results:
                    rows[place] = row
                    bar.update()
    columns = row_columns([metric.name for metric in job.metrics])
    table = pd.DataFrame([rows[place] for place in range(len(rows))], columns=list(columns))
    table.attrs = {"split": split, "images": images.name, "image_split": images.split, "num_images": len(images)}
    table.attrs |= {"batch_size": batch_size, "batch_norm": "batch", "device": job.device, "seed": seed}
    label = info.label if info else getattr(predictor, "__name__", type(predictor).__name__)
    table.attrs |= {"noise": noise, "predictor": label, **recorded_name(judged)}
    table.attrs |= {"corruption": corruption} if corruption else {}
    table.attrs |= {} if predict_class_layers else {"predict_class_layers": False}
    return table
