"""`run`: evaluate predictors x networks x images into a folder of results, skipping the rows that exist."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation import (
    EvaluationJob,
    Machine,
    PredictorInfo,
    check_label,
    close_workers,
    default_image_split,
    describe_all,
    evaluate_all,
    open_networks,
    select_networks,
)
from benchmark.evaluation.predictors import check_predictor
from benchmark.metrics import DEFAULT_METRICS, Metric, get_metrics
from benchmark.results.store import ResultStore, run_id
from deepnets.data import open_images
from deepnets.support import ConfigError, at_least, checked_integer
from deepnets.tracing import check_vocabulary

__all__ = ["run"]

PACKAGES = ("torch", "numpy", "torchvision", "timm")
"""Packages whose versions are stored with a run."""


def run(
    predictors: Sequence[str],
    networks: Sequence[str] = ("test",),
    images: str = "digits",
    *,
    out: Path | str = "results",
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | Mapping[str, int | None] | None = None,
    index: int | str | Sequence[int | str] | None = None,
    noise: Sequence[float] = (0.0,),
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    vocabulary: str | None = None,
    machine: Machine | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    command: str | None = None,
    on_complete: Callable[[Sequence[Mapping[str, str]]], None] | None = None,
) -> Path:
    """Evaluate predictors into a folder of results; a run that was stopped is resumed.

    Parameters
    ----------
    predictors
        Predictors by name, with or without labels (see `benchmark.evaluation.predictors`).
    networks
        Splits, and models of libraries (see `benchmark.evaluation.open_networks`).
    images
        Name of an image set.  The networks of `train`, `val` and `search` are evaluated on its validation images, all
        others on its test images.
    out
        Folder of results.
    data, image_root
        Folders of the corpus and of the image set.
    limit
        Number of networks of each split, counted from the first, or a dict with the number for each split; None for
        all.
    index
        The networks of each split, by index or name, such as ``3``, ``[3, 17]`` or ``"0:10,20"`` (see
        `benchmark.evaluation.select_networks`); instead of `limit`.
    noise
        Standard deviations of noise in the images, each of which is evaluated; 0.0 for the original images.
    batch_size, seed, metrics, vocabulary
        As in `benchmark.evaluate`.
    machine
        Devices, workers and limits.
    retry_failed
        Whether networks that failed before are evaluated again.
    progress
        Whether to show a progress bar.
    command
        Command that repeats the run, for the report; by default the command line of this process.
    on_complete
        Called at the end with the rows of all networks that were asked for, as texts by column, including those that
        were evaluated before.

    Returns
    -------
    The file `networks.csv`.

    Raises
    ------
    ConfigError, MissingDataError, CheckpointError
        If something does not exist or does not fit together, before anything is evaluated.
    BusyError
        If another process is writing to the folder.
    FormatError, IntegrityError
        If the corpus, an image or the folder of results is damaged.

    Examples
    --------
    >>> run([], ["test"])
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: run: expected at least one predictor, one split and one level of noise
    """
    machine = (machine or Machine()).resolved()
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    seed = checked_integer("seed", seed, range(2**63))
    if not predictors or not networks or not noise:
        raise ConfigError("run: expected at least one predictor, one split and one level of noise")
    if isinstance(out, str) and not out.strip():
        raise ConfigError("out: expected the name of a folder, got an empty text")
    if index is not None and limit is not None:
        raise ConfigError("index: cannot be combined with limit")
    if isinstance(limit, Mapping) and (unknown := [name for name in limit if name not in networks]):
        raise ConfigError(f"limit: {unknown[0]!r} is none of the networks to evaluate, which are {', '.join(networks)}")
    infos = describe_all(predictors, machine)
    try:
        for number, info in enumerate(infos):
            check_label(info.label)
            if info.label in [other.label for other in infos[:number]]:
                raise ConfigError(
                    f"predictor: two are called {info.label!r}; give one a label, as in other={info.spec}"
                )
        template = EvaluationJob(
            infos[0],
            networks[0],
            images,
            data=str(data),
            image_root=str(image_root) if image_root else None,
            batch_size=batch_size,
            seed=seed,
            metrics=get_metrics(metrics),
            vocabulary=None if vocabulary is None else check_vocabulary(vocabulary),
            device=machine.devices[0],
        )
        about = {
            "machine": _machine_text(machine),
            "command": command or shlex.join(["python", "-m", "benchmark", *sys.argv[1:]]),
        }
        tasks = []
        for name in networks:
            most = limit.get(name) if isinstance(limit, Mapping) else limit
            for level in noise:
                job = replace(template, networks=name, limit=most, noise=level, image_split=default_image_split(name))
                tasks += _planned(job, infos, machine, about, index)
        store = ResultStore(out, [metric.name for metric in template.metrics])
        with store.opened():
            _evaluate_missing(store, tasks, machine, retry_failed=retry_failed, progress=progress)
            if on_complete:
                asked = {task.run: set(map(str, task.indices)) for task in tasks}
                on_complete([row for row in store.rows() if row["index"] in asked.get(row["run"], ())])
    finally:
        close_workers()  # of this process, that have described predictors, if nothing was evaluated
    return store.path


@dataclass(frozen=True)
class _Planned:
    """A job, and what the folder of results stores about it."""

    job: EvaluationJob
    run: str
    about: dict[str, Any]
    columns: dict[str, Any]
    indices: Sequence[int]


def _planned(
    job: EvaluationJob,
    infos: Sequence[PredictorInfo],
    machine: Machine,
    about: Mapping[str, Any],
    index: int | str | Sequence[int | str] | None,
) -> list[_Planned]:
    """Complete a job for each predictor, and check everything that can be checked without evaluating."""
    images = open_images(str(job.images), job.image_split, root=job.image_root, noise=job.noise)
    networks = open_networks(
        job.networks, data=job.data, num_classes=images.num_classes, image_size=images.image_size, limit=job.limit
    )
    indices = range(len(networks)) if index is None else select_networks(networks, index)
    metrics = [metric.name for metric in job.metrics if metric.name not in DEFAULT_METRICS]
    planned = []
    for info in infos:
        check_predictor(info, images, job.image_root)
        where = {"split": networks.name, "images": images.name, "part": job.image_split, "noise": job.noise}
        columns = {"predictor": info.label, **where}
        settings = {**columns, "spec": info.spec, "digest": info.digest, "networks": networks.identity}
        settings |= {"batch_size": job.batch_size, "seed": job.seed, "threads": machine.threads}
        settings |= {"device": job.device.partition(":")[0], "image_count": len(images)}
        settings |= {"metrics": metrics} if metrics else {}
        vocabulary = job.vocabulary or info.vocabulary
        traced = {"vocabulary": vocabulary} if ":" in job.networks and vocabulary != "complete" else {}
        settings |= traced
        stored = {"predictor": info.to_dict(), **where, "limit": job.limit, "networks": len(indices)}
        stored |= {} if index is None else {"index": list(indices)}
        stored |= {"split_size": networks.total, "batch_size": job.batch_size, "seed": job.seed}
        stored |= {"corpus": networks.identity, "num_images": len(images), "versions": _versions(), **traced}
        stored |= about
        run = run_id(settings)
        planned.append(_Planned(replace(job, predictor=info), run, stored, {"run": run, **columns}, indices))
    return planned


def _evaluate_missing(
    store: ResultStore, tasks: Sequence[_Planned], machine: Machine, *, retry_failed: bool, progress: bool
) -> None:
    """Evaluate the networks that have no row yet."""
    work: list[tuple[EvaluationJob, int]] = []
    owners: list[_Planned] = []
    missing: dict[str, int] = {}
    for task in tasks:
        store.begin(task.run, task.about)
        if retry_failed:
            store.remove_failed(task.run)
        done = store.finished(task.run)
        todo = [index for index in task.indices if index not in done]
        missing[task.run] = len(todo)
        work += [(task.job, index) for index in todo]
        owners += [task] * len(todo)
        if not todo:
            store.end(task.run)
    bar = tqdm(total=len(work), unit="network", disable=not progress or not work)
    with bar, contextlib.closing(evaluate_all(work, machine)) as rows:
        for place, row in rows:
            task = owners[place]
            store.append({**task.columns, **row})
            bar.set_description(f"{task.columns['predictor']} on {task.columns['split']}", refresh=False)
            bar.update()
            missing[task.run] -= 1
            if not missing[task.run]:
                store.end(task.run)
    store.sort()


def _versions() -> dict[str, str]:
    from deepnets import __version__

    versions = {"deepnets1m": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _machine_text(machine: Machine) -> str:
    first = machine.devices[0]
    threads = f"{machine.threads} {'thread' if machine.threads == 1 else 'threads'}"
    if machine.address is not None:
        number = "all" if machine.workers is None else machine.workers
        return f"{machine.backend} cluster, {', '.join(machine.devices)}, {number} workers with {threads} each"
    if first.startswith("cuda"):
        what = f"{len(machine.devices)} x {torch.cuda.get_device_name(first)}"
    else:
        what = f"{platform.system()} {platform.machine()}, CPU"
    return f"{what}, {machine.workers} {'worker' if machine.workers == 1 else 'workers'} with {threads} each"
