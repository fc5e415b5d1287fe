"""`run`: predictors x networks x images, into a folder of results; what is there already is not done again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation import (
    FOR_CHOOSING,
    PredictorInfo,
    check_label,
    default_jobs,
    describe_predictor,
    evaluate_all,
    memory_limit,
    open_networks,
    open_predictor,
)
from benchmark.results.store import Results, run_id
from deepnets.data import open_images
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["Machine", "run"]

PACKAGES = ("torch", "numpy", "torchvision", "timm")


@dataclass(frozen=True)
class Machine:
    """Where networks are evaluated; nothing here changes a row, but for times.

    Attributes
    ----------
    devices
        Of PyTorch; lanes take turns in choosing one (with the backend "threading", the others know no turns).
    jobs
        Networks at a time; None: one per GPU, or per core.
    threads
        Of PyTorch in each process.  Their number can change the last digits of outputs: it does not depend on `jobs`.
    backend
        Of joblib, one of `benchmark.evaluation.BACKENDS`.
    timeout
        Seconds that a network may take; None: as long as it wants.
    memory
        Bytes that each process may take; None: its share of nine tenths of what is available.
    """

    devices: tuple[str, ...] = ("cpu",)
    jobs: int | None = None
    threads: int = 1
    backend: str = "threading"
    timeout: float | None = 1800.0
    memory: int | None = None

    def __post_init__(self) -> None:
        for name in ("jobs", "threads", "memory"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(1)))
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout: expected a number of seconds above 0, got {self.timeout!r}")
        if not self.devices:
            raise ConfigError("devices: expected at least one, such as cpu or cuda:0")
        for device in self.devices:
            try:
                torch.empty(0, device=device)
            except Exception as error:
                raise ConfigError(f"device: cannot use {device!r}: {' '.join(str(error).split())[:200]}") from error


def run(
    predictors: Sequence[str],
    networks: Sequence[str] = ("test",),
    images: str = "digits",
    *,
    out: Path | str = "results",
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | Mapping[str, int | None] | None = None,
    noise: Sequence[float] = (0.0,),
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    machine: Machine | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    command: str | None = None,
) -> Path:
    """Evaluate predictors, or go on with it.

    Parameters
    ----------
    predictors
        What `benchmark.evaluation.predictors` can open, with labels or without.
    networks
        What `benchmark.evaluation.networks` can open.
    images
        The name of an image set.  Networks by which something is chosen (val, search) are evaluated on validation
        images, as published.
    out
        Folder of results (`benchmark.results.store`).
    data, image_root
        Folders of the corpus and of the images.
    limit
        Networks of each split, from the first on; or by the name of the split.  None for all.
    noise
        Standard deviations of noise in the images, one after the other: 0.0 for the images themselves.
    batch_size, seed
        As of `evaluate`.
    machine
        Where.
    retry_failed
        Whether networks that failed before are tried again.
    progress
        Whether to show a bar.
    command
        How to do the same again, for the report; by default how this program was started.

    Returns
    -------
    The file of the rows.

    Raises
    ------
    ConfigError, CheckpointError
        If something is not there or does not go together; before anything is evaluated.
    FormatError, IntegrityError
        If the corpus, an image or the folder of results is damaged.
    """
    machine = machine or Machine()
    jobs = machine.jobs or default_jobs(machine.devices)
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    seed = checked_integer("seed", seed, range(2**63))
    if not predictors or not networks or not noise:
        raise ConfigError("run: expected at least one predictor, one split and one level of noise")
    infos = [describe_predictor(spec) for spec in predictors]
    for number, info in enumerate(infos):
        check_label(info.label)
        if info.label in [other.label for other in infos[:number]]:
            raise ConfigError(f"predictor: two are called {info.label!r}; give one a label, as in other={info.spec}")
    command = command or shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
    shared: dict[str, Any] = {"data": str(data), "image_root": str(image_root) if image_root else None}
    shared |= {"images": images, "batch_size": batch_size, "seed": seed, "threads": machine.threads}
    shared |= {"devices": list(machine.devices), "folder": str(Path.cwd())}
    shared |= {"timeout": machine.timeout, "memory": machine.memory or memory_limit(jobs)}
    plans = []
    for split in networks:
        most = limit.get(split) if isinstance(limit, Mapping) else limit
        for level in noise:
            for plan in _plans(infos, split, most, level, shared, image_root):
                plan.about |= {"machine": _machine(machine, jobs), "command": command}
                plans.append(plan)
    results = Results(out)
    with results.opened():
        _do(results, plans, machine, jobs, retry_failed=retry_failed, progress=progress)
    return results.path


@dataclass
class _Plan:
    """One predictor, one split, one level of noise."""

    run: str
    task: dict[str, Any]
    about: dict[str, Any]
    columns: dict[str, Any]
    count: int


def _plans(
    infos: Sequence[PredictorInfo],
    split: str,
    limit: int | None,
    noise: float,
    shared: Mapping[str, Any],
    image_root: Path | str | None,
) -> list[_Plan]:
    """What to do, checked as far as it can be without doing it."""
    part = "val" if split in FOR_CHOOSING else "test"
    found = open_images(shared["images"], part, root=image_root, noise=noise)
    networks = open_networks(
        split, data=shared["data"], num_classes=found.num_classes, image_size=found.image_size, limit=limit
    )
    plans = []
    for info in infos:
        open_predictor(info.spec, networks, found, image_root=image_root)
        columns = {"predictor": info.label, "split": networks.name, "images": found.name, "part": part, "noise": noise}
        settings = {**columns, "spec": info.spec, "digest": info.digest, "networks": networks.identity}
        settings |= {key: shared[key] for key in ("batch_size", "seed", "threads")}
        settings |= {"device": shared["devices"][0].partition(":")[0], "image_count": len(found)}
        task = {**shared, "predictor": info.spec, "networks": split, "limit": limit, "part": part, "noise": noise}
        about = {"predictor": info.to_dict(), **{key: columns[key] for key in ("split", "images", "part", "noise")}}
        about |= {"limit": limit, "networks": len(networks), "split_size": networks.total}
        about |= {"batch_size": shared["batch_size"], "seed": shared["seed"], "corpus": networks.identity}
        about |= {"num_images": len(found), "versions": _versions()}
        run = run_id(settings)
        plans.append(_Plan(run, task, about, {"run": run, **columns}, len(networks)))
    return plans


def _do(
    results: Results, plans: list[_Plan], machine: Machine, jobs: int, *, retry_failed: bool, progress: bool
) -> None:
    """Evaluate what has no row yet."""
    work: list[tuple[dict[str, Any], int]] = []
    places: list[int] = []
    missing: dict[int, int] = {}
    for number, plan in enumerate(plans):
        results.begin(plan.run, plan.about)
        if retry_failed:
            results.forget_failed(plan.run)
        done = results.finished(plan.run)
        todo = [index for index in range(plan.count) if index not in done]
        missing[number] = len(todo)
        work += [(plan.task, index) for index in todo]
        places += [number] * len(todo)
        if not todo:
            results.end(plan.run)
    bar = tqdm(total=len(work), unit="network", disable=not progress or not work)
    with bar, contextlib.closing(evaluate_all(work, jobs=jobs, backend=machine.backend)) as rows:
        for place, row in rows:
            number = places[place]
            plan = plans[number]
            results.append({**plan.columns, **row})
            bar.set_description(f"{plan.columns['predictor']} on {plan.columns['split']}", refresh=False)
            bar.update()
            missing[number] -= 1
            if not missing[number]:
                results.end(plan.run)
    results.sort()


def _versions() -> dict[str, str]:
    from deepnets import __version__

    versions = {"deepnets1m": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _machine(machine: Machine, jobs: int) -> str:
    first = machine.devices[0]
    if first.startswith("cuda"):
        what = f"{len(machine.devices)} x {torch.cuda.get_device_name(first)}"
    else:
        what = f"{platform.system()} {platform.machine()}, CPU"
    return f"{what}, {jobs} at a time, {machine.threads} {'thread' if machine.threads == 1 else 'threads'} each"
