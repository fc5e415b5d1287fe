"""`run`: evaluate predictors x networks x images into a folder of results, skipping the rows that exist."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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
    select_networks,
)
from benchmark.evaluation.predictors import check_predictor
from benchmark.evaluation.rows import check_columns
from benchmark.metrics import DEFAULT_METRICS, Metric, check_metrics, get_metrics
from benchmark.results.descriptions import (
    covering,
    evaluation_command,
    is_complete,
    machine_text,
    package_versions,
    sources,
)
from benchmark.results.store import ResultStore, run_id
from deepnets.data import (
    CORRUPTIONS,
    IMAGE_SETS,
    Corruption,
    Images,
    corrupted_images,
    run_statistics,
    store_statistics,
)
from deepnets.support import ConfigError, ProgressBar, at_least, checked_integer, started_by
from deepnets.tracing import check_vocabulary
from ghn_model.tasks import Classification, Task, get_logit_task, recorded_name

__all__ = ["run"]

BYTES_OF_REPORT = 2_000_000  # with its pictures; more for many predictors
BYTES_PER_ROW = 300


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
    corruptions: Sequence[str] = (),
    corruption_root: Path | str | None = None,
    download: bool = False,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    vocabulary: str | None = None,
    predict_class_layers: bool = True,
    machine: Machine | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    command: str | None = None,
    task: str | Task = "classification",
    data_options: Mapping[str, Any] | None = None,
    on_row: Callable[[], None] | None = None,
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
    corruptions
        Common corruptions that are evaluated, too, each with all 5 severities, or with one, as in "fog:3"; ("all",) for
        all 15 (`deepnets.data.CORRUPTIONS`).
    corruption_root
        Folder of corrupted images such as CIFAR-10-C; by default they are computed.
    download
        Whether to download missing files of an image set into `image_root` first.
    batch_size, seed, metrics, vocabulary, predict_class_layers
        As in `benchmark.evaluate`.
    machine
        Devices, workers and limits.
    retry_failed
        Whether networks that failed before are evaluated again.
    progress
        Whether to show a progress bar.
    command
        Command that repeats the run, for the report; by default that which started this process, or is equivalent to
        this call.
    task, data_options
        As in `benchmark.evaluate`; `images` is then the name of a data set of the task.
    on_row
        Called after each network that was evaluated, when its row has been written.
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
    networks, noise = list(dict.fromkeys(networks)), list(dict.fromkeys(map(float, noise)))
    metrics = list(metrics)
    corrupted = list(CORRUPTIONS) if tuple(corruptions) == ("all",) else list(dict.fromkeys(corruptions))
    for corruption in corrupted:
        Corruption.parse(corruption)
    if corruption_root and not corrupted:
        raise ConfigError("corruption_root: needs corruptions")
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
        judged = get_logit_task(task)
        given = {
            "texts" if judged.examples == "sequences" else "images": images,
            **(data_options or {}),
            "image_root": image_root,
            "task": task,
            "limit": limit,
            "index": _joined(index),
            "noise": noise,
            "corruptions": list(corruptions),
            "corruption_root": corruption_root,
            "batch_size": batch_size,
            "seed": seed,
            "metrics": metrics,
            "vocabulary": vocabulary,
            "no_class_layers": not predict_class_layers,
            "data": Path(data),
            "out": Path(out),
            "device": list(machine.devices),
            "threads": machine.threads,
        }
        statistics = None
        if isinstance(judged, Classification):
            statistics = run_statistics(out, images, root=image_root, download=download, store=False)
        template = EvaluationJob(
            infos[0],
            networks[0],
            images,
            data=str(data),
            image_root=str(image_root) if image_root else None,
            batch_size=batch_size,
            seed=seed,
            metrics=get_metrics((*judged.metrics, *metrics)),
            vocabulary=None if vocabulary is None else check_vocabulary(vocabulary),
            device=machine.devices[0],
            corruption_root=str(corruption_root) if corruption_root else None,
            statistics=statistics,
            predict_class_layers=predict_class_layers,
            task=judged,
            data_options=dict(data_options or {}),
        )
        opened = _OpenedImages(template, download)
        about = {
            "machine": machine_text(machine),
            "command": command or started_by() or evaluation_command(predictors, networks, given),
        }
        tasks = []
        for name in networks:
            most = limit.get(name) if isinstance(limit, Mapping) else limit
            at = replace(template, networks=name, limit=most, image_split=default_image_split(name))
            jobs = [replace(at, noise=level) for level in noise]
            jobs += [replace(at, corruption=corruption) for corruption in corrupted]
            for job in jobs:
                tasks += _planned(job, infos, machine, about, index, opened, (task, *metrics))
        store = ResultStore(out, [metric.name for metric in template.metrics], corrupted=bool(corrupted))
        with store.opened():
            if template.statistics is not None:
                store_statistics(store.folder, images, template.statistics)
            _evaluate_missing(store, tasks, machine, retry_failed=retry_failed, progress=progress, on_row=on_row)
            if on_complete:
                asked = {task.run: set(map(str, task.indices)) for task in tasks}
                on_complete([row for row in store.rows() if row["index"] in asked.get(row["run"], ())])
    finally:
        close_workers()  # of this process, that have described predictors, if nothing was evaluated
    return store.path


def _joined(index: int | str | Sequence[int | str] | None) -> str | None:
    """The networks to evaluate, as the option `--index` takes them."""
    return index if index is None or isinstance(index, str) else ",".join(map(str, np.atleast_1d(index).tolist()))


class _OpenedImages:
    """The original images of a run, each part of which is opened once, and the numbers of images to evaluate."""

    def __init__(self, job: EvaluationJob, download: bool) -> None:
        self._job, self._download = job, download
        self._parts: dict[str, Images] = {}

    def part(self, split: str) -> Images:
        if split not in self._parts:
            job = self._job
            options = job.opening() | ({"download": True} if self._download else {})
            self._parts[split] = job.task.open_data(str(job.images), split, root=job.image_root, **options)
        return self._parts[split]

    def count(self, job: EvaluationJob) -> int:
        images = self.part(job.image_split)
        if job.corruption is None:
            return len(images)
        if job.corruption_root is not None:  # checks the files
            return len(corrupted_images(images, job.corruption, job.corruption_root))
        return len(images) * len(Corruption.parse(job.corruption).severities)


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
    opened: _OpenedImages,
    named: Sequence[Any],
) -> list[_Planned]:
    """Complete a job for each predictor, and check everything that can be checked without evaluating."""
    images, num_images = opened.part(job.image_split), opened.count(job)
    check_columns(job.metrics)
    check_metrics(job.metrics, images.num_classes)
    # A loader of the user may return images by the name of another set, such as a part of it.
    named_data = str(job.images) if images.name in IMAGE_SETS else images.name
    networks = job.open_networks(images)
    modules = sources(str(job.images), job.networks, (*named, job.task, *job.metrics))  # which are imported now
    indices = range(len(networks)) if index is None else select_networks(networks, index)
    metrics = [metric.name for metric in job.metrics if metric.name not in DEFAULT_METRICS]
    planned = []
    for info in infos:
        check_predictor(info, images, job.image_root, job.predict_class_layers)
        where = {"split": networks.name, "images": named_data, "part": job.image_split, "noise": job.noise}
        where |= {"corruption": job.corruption} if job.corruption else {}
        columns = {"predictor": info.label, **where}
        settings = {**columns, "spec": info.spec, "digest": info.digest, "networks": networks.identity}
        settings |= {"batch_size": job.batch_size, "seed": job.seed, "threads": machine.threads}
        settings |= {"device": job.device.partition(":")[0], "image_count": num_images}
        code = {"sources": modules} if modules else {}
        settings |= {"metrics": metrics} if metrics else {}
        settings |= code
        task = {**recorded_name(job.task), **({"data_options": dict(job.data_options)} if job.data_options else {})}
        if task:
            task["data_digest"] = getattr(images, "digest", "")
        settings |= task
        vocabulary = job.vocabulary or info.vocabulary
        traced = {"vocabulary": vocabulary} if ":" in job.networks and vocabulary != "complete" else {}
        settings |= traced
        chosen: dict[str, Any] = (
            {"corruption_root": job.corruption_root} if job.corruption and job.corruption_root else {}
        )
        chosen |= {} if job.predict_class_layers else {"predict_class_layers": False}
        if job.statistics is not None:
            chosen |= {"image_fingerprint": job.statistics.fingerprint}
        settings |= chosen
        stored = {"predictor": info.to_dict(), **where, "limit": job.limit, "networks": len(indices)}
        stored |= {} if index is None else {"index": list(indices)}
        stored |= {"split_size": networks.total, "batch_size": job.batch_size, "seed": job.seed}
        stored |= {"corpus": networks.identity, "num_images": num_images, "versions": package_versions(), **traced}
        stored |= {**task, "metric": job.task.metric.name} if task else {}
        stored |= {**chosen, **code, **about}
        run = run_id(settings)
        planned.append(_Planned(replace(job, predictor=info), run, stored, {"run": run, **columns}, indices))
    return planned


def _evaluate_missing(
    store: ResultStore,
    tasks: Sequence[_Planned],
    machine: Machine,
    *,
    retry_failed: bool,
    progress: bool,
    on_row: Callable[[], None] | None,
) -> None:
    """Evaluate the networks that have no row yet."""
    work: list[tuple[EvaluationJob, int]] = []
    owners: list[_Planned] = []
    missing: dict[str, int] = {}
    for task in tasks:
        done = store.finished(task.run)
        earlier = store.runs.get(task.run, {})
        about = covering(task.about, earlier, task.indices, done)
        if retry_failed:
            done -= store.remove_failed(task.run, task.indices)
        todo = [index for index in task.indices if index not in done]
        if not todo and is_complete(earlier, done):
            store.ask(task.run)  # its rows were made by the command, and with the versions, that are stored
        else:
            store.begin(task.run, about)
            if not todo:
                store.end(task.run)
        missing[task.run] = len(todo)
        work += [(task.job, index) for index in todo]
        owners += [task] * len(todo)
    _check_space(store.folder, len(work))
    bar = ProgressBar(total=len(work), unit="network", show=progress and bool(work))
    with bar, contextlib.closing(evaluate_all(work, machine)) as rows:
        for place, row in rows:
            task = owners[place]
            store.append({**task.columns, **row})
            bar.set_description(f"{task.columns['predictor']} on {task.columns['split']}", refresh=False)
            bar.update()
            missing[task.run] -= 1
            if not missing[task.run]:
                store.end(task.run)
            if on_row:
                on_row()
    store.sort()


def _check_space(folder: Path, rows: int) -> None:
    """Check, before hours are spent, that the disk has room for the rows and a report; networks can still fill it."""
    disk, needed = shutil.disk_usage(folder), BYTES_OF_REPORT + rows * BYTES_PER_ROW
    if rows and disk.total and disk.free < needed:
        raise ConfigError(
            f"out: {folder}: its disk has {disk.free / 1000:,.0f} kB left; the results of {rows:,} networks need about "
            f"{needed / 1000:,.0f} kB"
        )
