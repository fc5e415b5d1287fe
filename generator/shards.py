"""Shards: the accepted candidates in a range of candidates of one split.

A shard is a pure function of (split, seed, range).  It is stored as a checksummed file in the `.partial` folder of a
build; a file that is missing or damaged is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE
from deepnets.corpus import STATISTICS, WIRING, append_rows, compute_sizes, evaluation_width
from deepnets.graph import GraphBuffer, fingerprint, new_graph_buffer
from deepnets.support import DeepNetsError, compiled, create_hdf5, digest_of_sources, open_hdf5, verify_checksum
from generator.sampler import NO_OUTPUT, TOO_LARGE_CIFAR10, TOO_LARGE_IMAGENET, random_words, sample
from generator.splits import Rules, SplitSpec

__all__ = ["Shard", "ShardTask", "make_shard", "read_shard", "write_shard"]


@dataclass(frozen=True)
class ShardTask:
    """Which candidates belong to a shard.

    Parameters
    ----------
    spec
        The split.
    seed
        Seed of the corpus.
    start, count
        The candidates `start ... start + count - 1`.
    sources
        Digest of the source code that the shard must be made with; any code if it is empty.

    Examples
    --------
    >>> from generator import SPLITS
    >>> ShardTask(SPLITS["train"], seed=0, start=16_384, count=100).name
    'train-000000016384-100.h5'
    """

    spec: SplitSpec
    seed: int
    start: int
    count: int
    sources: str = ""

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"{self.spec.name}-{self.start:012d}-{self.count}.h5"


@dataclass(frozen=True)
class Shard:
    """The accepted candidates of a range, in their order, and the reasons for rejecting the others.

    Attributes
    ----------
    reasons
        `(count,) uint8`, reasons of `generator.sampler.REJECTIONS` as bits for every candidate; 0: accepted.
    architectures
        `(n,)` records of `deepnets.architecture.ARCHITECTURE`.
    statistics
        `(n,)` records of `deepnets.corpus.STATISTICS`.
    wiring
        `deepnets.corpus.WIRING` rows of all n graphs.

    Examples
    --------
    See `make_shard`.
    """

    reasons: npt.NDArray[np.uint8]
    architectures: npt.NDArray[np.void]
    statistics: npt.NDArray[np.void]
    wiring: npt.NDArray[np.void]

    def columns(self, keep: npt.NDArray[np.bool_] | slice = slice(None)) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of the corpus file.

        Parameters
        ----------
        keep
            `(n,) bool`, the networks to include; all by default.
        """
        records = (self.architectures[keep], self.statistics[keep])
        return {name: record[name] for record in records for name in record.dtype.names or ()}

    def rows(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
        """Return the wiring of some networks.

        Parameters
        ----------
        keep
            `(n,) bool`, the networks to include.
        """
        return self.wiring[np.repeat(keep, self.statistics["num_rows"])]


def make_shard(task: ShardTask) -> Shard:
    """Make a shard.

    Parameters
    ----------
    task
        The split, the seed and the range.

    Returns
    -------
    Shard

    Examples
    --------
    >>> from generator import SPLITS
    >>> shard = make_shard(ShardTask(SPLITS["train"], seed=0, start=0, count=20))
    >>> bool(len(shard.architectures) == (shard.reasons == 0).sum())
    True
    """
    words = random_words(task.seed, task.spec.name, task.start, task.count)
    reasons = np.zeros(task.count, np.uint8)
    architectures = np.zeros(task.count, ARCHITECTURE)
    statistics = np.zeros(task.count, STATISTICS)
    rules = task.spec.rules
    buffer = new_graph_buffer(rules.max_cells, rules.max_steps)
    wiring = np.empty(256 * task.count, WIRING)
    accepted, wiring = _produce(words, task.start, rules, buffer, reasons, architectures, statistics, wiring)
    return Shard(reasons, architectures[:accepted], statistics[:accepted], wiring)


@compiled
def _produce(
    words: npt.NDArray[np.uint64],
    start: int,
    rules: Rules,
    buffer: GraphBuffer,
    reasons: npt.NDArray[np.uint8],
    architectures: npt.NDArray[np.void],
    statistics: npt.NDArray[np.void],
    wiring: npt.NDArray[np.void],
) -> tuple[int, npt.NDArray[np.void]]:
    """Fill the arrays; return the number of accepted candidates and their wiring."""
    accepted = used = 0
    for i in range(len(words)):
        net = architectures[accepted]
        reasons[i] = sample(words[i], rules, net)
        if reasons[i] == 0:
            reasons[i] = _size(net, rules, buffer, statistics[accepted])
        if reasons[i] == 0:
            statistics[accepted].candidate = start + i
            wiring, used = append_rows(buffer, wiring, used)
            accepted += 1
    return accepted, wiring[:used]


@compiled
def _size(net: Any, rules: Rules, buffer: GraphBuffer, out: Any) -> int:
    """Write the statistics of a network and set its width; return the reason to reject it, or 0.

    The graph is left in the buffer.  Reasons are checked in the order of the original generator, so that their
    frequencies can be compared.
    """
    has_output = compute_sizes(net, buffer, out)
    if out.num_params > rules.max_parameters:
        return TOO_LARGE_CIFAR10
    if not has_output:
        return NO_OUTPUT
    if out.num_params_imagenet > rules.max_parameters:
        return TOO_LARGE_IMAGENET
    out.fingerprint = fingerprint(buffer)
    if rules.sized:
        net.C = evaluation_width(net, out.num_params, buffer)
        compute_sizes(net, buffer, out)
    return 0


_PARTS = ("reasons", "architectures", "statistics", "wiring")


def write_shard(task: ShardTask, folder: Path) -> None:
    """Make a shard and store it in a folder, unless an undamaged file of it exists.

    Parameters
    ----------
    task
        The shard.
    folder
        An existing folder.

    Raises
    ------
    DeepNetsError
        If the folder does not exist or is not writable, or if the code of this process is not that of the build.

    Examples
    --------
    >>> import tempfile
    >>> from generator import SPLITS
    >>> task = ShardTask(SPLITS["train"], seed=0, start=0, count=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shard(task, Path(folder))
    ...     shard = read_shard(task, Path(folder))
    >>> len(shard.reasons)
    20
    """
    path = folder / task.name
    if not folder.is_dir():
        raise DeepNetsError(f"{folder}: no such folder for this worker; it must be on a file system that all share")
    if task.sources and task.sources != digest_of_sources(__name__):
        raise DeepNetsError("a worker has other code than the build; install the same version on all machines")
    if _is_good(path):
        return
    shard = make_shard(task)
    with create_hdf5(path) as file:
        for name in _PARTS:
            file.create_dataset(name, data=getattr(shard, name), compression="gzip", compression_opts=1, shuffle=True)


def _is_good(path: Path) -> bool:
    try:
        verify_checksum(path)
    except DeepNetsError:
        return False
    return True


def read_shard(task: ShardTask, folder: Path, *, wiring: bool = True) -> Shard:
    """Read a shard.

    Parameters
    ----------
    task
        The shard.
    folder
        Its folder.
    wiring
        Whether to read the graphs; otherwise `Shard.wiring` is empty.

    Returns
    -------
    Shard

    Raises
    ------
    IntegrityError
        If the file is damaged.

    Examples
    --------
    See `write_shard`.
    """
    path = folder / task.name
    verify_checksum(path)
    with open_hdf5(path) as file:
        parts = {name: file[name][:] for name in _PARTS[:-1]}
        return Shard(**parts, wiring=file["wiring"][: None if wiring else 0])
