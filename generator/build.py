"""Build the corpus: one checksummed HDF5 file per split.

Before anything is written, every file in the folder is checked: a folder holds one corpus, and a file that belongs to
another one is an error.  If such files are to be overwritten, they leave the folder before the first new one appears,
so that nobody reads half of either corpus; until the build is complete, they are in `<out>/.partial/replaced`, from
where they come back if their corpus is built again.

Shards are kept in `<out>/.partial` until the file of their split is complete, so that an interrupted build can be
resumed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import deepnets
from deepnets.corpus import CorpusFile, corpus_path, write_corpus
from deepnets.support import (
    CLUSTERS,
    BusyError,
    ConfigError,
    DeepNetsError,
    DeferredSignals,
    FormatError,
    ProgressBar,
    check_cluster,
    exclusive,
    remove_temporary,
    verify_checksum,
)
from generator.plan import BuildPlan, SplitReport
from generator.sampler import STREAM_VERSION
from generator.selection import Selection, select_evaluation, select_sharded
from generator.splits import SPLITS
from generator.workers import ShardMaker, Workers

__all__ = ["build_corpus"]

log = logging.getLogger(__name__)


def build_corpus(
    out: Path | str,
    plan: BuildPlan | None = None,
    *,
    workers: Workers | None = None,
    overwrite: bool = False,
) -> list[SplitReport]:
    """Build the files of a corpus, or resume an interrupted build.

    Finished files are left unchanged.

    Parameters
    ----------
    out
        Corpus folder; created if missing.
    plan
        Splits, sizes and seed.  By default all splits at their published sizes.
    workers
        How shards are made in parallel.  By default one process per core.
    overwrite
        Whether to replace files that were built from another plan.  By default they are an error.

    Returns
    -------
    list of SplitReport
        One report per split of the plan, in the order in which the splits are built.

    Raises
    ------
    ConfigError
        If a file in the folder belongs to another plan.
    BusyError
        If another process builds in the folder.
    DeepNetsError
        If the folder is not writable, or workers fail.

    Examples
    --------
    >>> import tempfile
    >>> plan = BuildPlan(splits=("search",), search_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (report,) = build_corpus(folder, plan, workers=Workers(num_workers=1))
    >>> report.split, report.networks, report.built
    ('search', 5, True)
    """
    plan = plan or BuildPlan()
    workers = workers or Workers()
    out = Path(out)
    partial = out / ".partial"
    try:
        reports = _finished_reports(out, plan, overwrite, {})
        if all(reports.values()):
            if partial.is_dir():  # a build was killed at its end, or another one is running
                with contextlib.suppress(BusyError, OSError), _locked(out, partial):
                    _build(out, partial, plan, workers, reports)
                    _remove_if_empty(partial)
            return [report for report in reports.values() if report]
        if workers.backend in CLUSTERS:
            check_cluster(workers.backend)
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(out, partial):
            built = _build(out, partial, plan, workers, _finished_reports(out, plan, overwrite, reports))
            _remove_if_empty(partial)
            return built
    except OSError as error:
        where = error.filename or out
        raise DeepNetsError(f"{where}: cannot be read or written: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(out: Path, partial: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(partial))
        except BusyError as error:
            raise BusyError(f"{out}: another build is running in this folder; wait for it or choose another") from error
        yield


def _build(
    out: Path, partial: Path, plan: BuildPlan, workers: Workers, finished: dict[str, SplitReport | None]
) -> list[SplitReport]:
    reports = []
    evaluation: dict[str, Selection] | None = None
    remove_temporary(out, [corpus_path(out, name).name for name in SPLITS])
    replaced = partial / "replaced"
    restored = _swap_files(out, replaced, plan)
    finished |= {name: _finished_report(out, plan, name, True) for name in finished if name in restored}
    with DeferredSignals(repeat_after=2, deliver_after=10) as signals, ShardMaker(workers, signals) as maker:
        for name, report in finished.items():
            if report is None:
                if evaluation is None:
                    evaluation = select_evaluation(plan.seed, workers.progress, signals)
                if name in evaluation:
                    selection = evaluation[name]
                else:
                    selection = select_sharded(name, plan.size(name), plan.seed, partial, maker, evaluation, signals)
                report = _write(corpus_path(out, name), plan, selection, workers.progress, signals)
            for folder in partial.glob(f"{name}-seed*"):  # the split is complete, its shards are not needed any more
                shutil.rmtree(folder, ignore_errors=True)
            reports.append(report)
    for path in replaced.glob("*"):
        if (out / path.name).exists():
            path.unlink()
    with contextlib.suppress(OSError):  # missing, or not empty: files that nothing has replaced are kept
        replaced.rmdir()
    return reports


def _write(path: Path, plan: BuildPlan, selection: Selection, progress: bool, signals: DeferredSignals) -> SplitReport:
    attributes = {
        **_identity(plan, selection.spec.name),
        "candidates": selection.candidates,
        "rejected": selection.rejected,
        "duplicates": selection.duplicates,
        "versions": {
            "deepnets1m": deepnets.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version,
        },
    }
    blocks = ProgressBar(
        signals.between(selection.wiring()),
        f"writing {path.name}",
        len(selection.shards),
        unit="shard",
        leave=False,
        show=progress and len(selection.shards) > 1,
    )
    write_corpus(path, attributes, selection.columns, blocks)
    with CorpusFile(path) as file:
        return _report(file, built=True)


def _identity(plan: BuildPlan, split: str) -> dict[str, Any]:
    """Attributes that a file must have to be the one of a plan."""
    spec = SPLITS["test"] if split == "wide" else SPLITS[split]
    rules = json.loads(json.dumps({k: v for k, v in asdict(spec).items() if k not in ("name", "size")}))
    return {
        "split": split,
        "size": plan.size(split),
        "seed": plan.seed,
        "stream_version": STREAM_VERSION,
        "stream": spec.name,
        "rules": rules,
    }


# --- files that exist already ---


def _finished_reports(
    out: Path, plan: BuildPlan, overwrite: bool, known: dict[str, SplitReport | None]
) -> dict[str, SplitReport | None]:
    """Reports of the finished files of a plan, None for files that must be built, in the order of building.

    Reports in `known` are not made again, because that reads the whole file.  `ConfigError` if the folder holds a file
    that does not belong to the plan.
    """
    for name in SPLITS:
        if name not in plan.splits:
            _check_neighbour(corpus_path(out, name), plan)
    order = sorted(SPLITS, key=lambda name: plan.size(name))
    return {
        name: known.get(name) or _finished_report(out, plan, name, overwrite) for name in order if name in plan.splits
    }


def _check_neighbour(path: Path, plan: BuildPlan) -> None:
    """Raise `ConfigError` if a corpus file of another split was built with another seed or version."""
    if found := _attributes_of_another_corpus(path, plan):
        whose = f"seed {found.get('seed')}, stream {found.get('stream_version')}"
        raise ConfigError(
            f"{path}: belongs to another corpus ({found.get('origin', whose)}; not seed {plan.seed}, stream "
            f"{STREAM_VERSION}); one folder holds one corpus, so build into another"
        )


def _attributes_of_another_corpus(path: Path, plan: BuildPlan) -> dict[str, Any]:
    """Return the attributes of a corpus file that was built with another seed or version; empty for other files."""
    try:
        with CorpusFile(path) as file:
            found = file.attributes
    except FormatError:  # missing, or no corpus file
        return {}
    return {} if (found.get("seed"), found.get("stream_version")) == (plan.seed, STREAM_VERSION) else found


def _swap_files(out: Path, replaced: Path, plan: BuildPlan) -> list[str]:
    """Move files of another corpus into the folder `replaced`, and those of this corpus from there into `out`.

    Return the names of the splits that were moved into `out`.
    """
    for path in (corpus_path(out, name) for name in plan.splits):
        if _attributes_of_another_corpus(path, plan):
            replaced.mkdir(exist_ok=True)
            path.replace(replaced / f"{path.name}.new")  # a file of this corpus may have its place
    restored = [name for name in SPLITS if _fits(replaced / corpus_path(out, name).name, plan, name)]
    restored = [name for name in restored if not corpus_path(out, name).exists()]
    for path in (corpus_path(out, name) for name in restored):
        (replaced / path.name).replace(path)
    for path in replaced.glob("*.new"):
        path.replace(path.with_suffix(""))
    return restored


def _fits(path: Path, plan: BuildPlan, split: str) -> bool:
    """Return whether a file is the one of a plan, or of its corpus if the plan does not have the split."""
    expected = _identity(plan, split)
    names = expected if split in plan.splits else ("split", "seed", "stream_version")
    with contextlib.suppress(FormatError), CorpusFile(path) as file:
        return all(file.attributes.get(name) == expected[name] for name in names)
    return False


def _finished_report(out: Path, plan: BuildPlan, split: str, overwrite: bool) -> SplitReport | None:
    """The report of the finished file of a split; None if the file is missing or may be replaced."""
    path = corpus_path(out, split)
    if not path.exists():
        return None
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; remove it, or build into another folder")
    try:
        with CorpusFile(path) as file:
            verify_checksum(path)
            differences = [
                f"{name} {file.attributes.get(name)!r} instead of {value!r}"
                for name, value in _identity(plan, split).items()
                if file.attributes.get(name) != value
            ]
            if not differences:
                log.info("%s: complete", path)
                return _report(file, built=False)
    except FormatError as error:
        if overwrite:
            return None
        raise ConfigError(f"{error}; build into another folder, or use --overwrite to replace the file") from error
    if overwrite:
        return None
    raise ConfigError(
        f"{path}: was built with other parameters ({'; '.join(differences)}); build into another folder, or use "
        "--overwrite to replace it"
    )


def _report(file: CorpusFile, built: bool) -> SplitReport:
    about = file.attributes
    return SplitReport(
        split=file.split,
        path=file.path,
        networks=file.num_networks,
        size_bytes=file.path.stat().st_size,
        content_digest=file.content_digest,
        built=built,
        candidates=about["candidates"],
        rejected=about["rejected"],
        duplicates=about["duplicates"],
    )


def _remove_if_empty(partial: Path) -> None:
    """Remove the folder of shards, unless it holds shards of an unfinished split."""
    if not any(entry.is_dir() for entry in partial.iterdir()):
        shutil.rmtree(partial)
