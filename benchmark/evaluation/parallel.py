"""Distribution of networks over supervised workers, with joblib or on a cluster; rows come as they become available."""

from __future__ import annotations

import contextlib
import secrets
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import joblib

from benchmark.evaluation.clusters import evaluate_on_cluster
from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.machine import Machine
from benchmark.evaluation.workers import close_workers, evaluate_in_worker
from deepnets.support import CLUSTERS

__all__ = ["evaluate_all"]


def evaluate_all(
    work: Sequence[tuple[EvaluationJob, int]], machine: Machine
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Evaluate networks in supervised worker processes.

    Parameters
    ----------
    work
        Jobs, each with the index of a network.  Networks of one job should follow each other, because a worker opens
        a job again after another one.
    machine
        Devices, workers and limits.

    Yields
    ------
    The position in `work` and the row, in the order in which rows become available.

    Raises
    ------
    DeepNetsError
        If a job cannot be opened.
    """
    if not work:
        close_workers()  # that have described predictors
        return
    machine = replace(machine.resolved(), session=secrets.token_hex(8))
    for job in {id(job): job for job, _ in work}.values():
        for device in dict.fromkeys(machine.devices):
            job.payloads(device)  # pickled once, here
    if machine.backend in CLUSTERS:
        try:
            yield from evaluate_on_cluster(work, machine)
        finally:
            close_workers()  # of this process, that have described predictors
        return
    parallel = joblib.Parallel(
        n_jobs=min(machine.workers or 1, len(work)),
        backend=machine.backend,
        return_as="generator_unordered",
        pre_dispatch="1 * n_jobs + 1",
        batch_size=1,
    )
    rows = parallel(joblib.delayed(_one)(place, job, index, machine) for place, (job, index) in enumerate(work))
    with warnings.catch_warnings():  # after an interrupt it is expected that some networks are missing
        warnings.filterwarnings("ignore", message=r".*tasks which were still being processed", category=UserWarning)
        try:
            yield from rows
        finally:
            # joblib's threads can only end when no worker is waited for.
            close_workers(machine.session)
            rows.close()
            if machine.backend == "loky":
                from joblib.externals.loky import get_reusable_executor

                with contextlib.suppress(OSError):  # without /dev/shm, joblib has used this process instead
                    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _one(place: int, job: EvaluationJob, index: int, machine: Machine) -> tuple[int, dict[str, Any]]:
    return place, evaluate_in_worker(job, index, machine)
