"""The work of one worker: a range of candidates of one split, from random words to finished records.

A shard is a pure function of (split, seed, range), so it does not matter who makes it, when, or how often.  On disk it
is a sealed file in the build's `.partial` folder: complete and undamaged, or made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.compiled import compiled
from deepnets.encoding import ARCHITECTURE
from deepnets.errors import DeepNetsError
from deepnets.fingerprint import fingerprint
from deepnets.records import WIRING, num_rows, write_wiring
from deepnets.sealed import check_seal, create, open_hdf5
from deepnets.storage import MEASURES
from deepnets.walk import N_EDGES, N_NODES, N_PARAMETERS, Tape, assemble, new_tape
from generator.sampler import NO_OUTPUT, TOO_LARGE_CIFAR10, TOO_LARGE_IMAGENET, random_words, sample
from generator.splits import Rules, SplitSpec

__all__ = ["Shard", "ShardTask", "make_shard", "read_shard", "write_shard"]

MEASURE = np.dtype(list(MEASURES.items()))

NUM_CLASSES = 10  # of the networks whose parameters are counted, at either image size, as in the original release
EVALUATION_PARAMETERS = 2_500_000
WIDTH_STEP = 16


@dataclass(frozen=True)
class ShardTask:
    """Which candidates a shard is made of: `count` of them from `start` on."""

    spec: SplitSpec
    seed: int
    start: int
    count: int

    @property
    def name(self) -> str:
        """File name of the shard within its build."""
        return f"{self.spec.name}-{self.start:012d}-{self.count}.h5"


@dataclass(frozen=True)
class Shard:
    """The candidates of a range that were accepted, in order, and why the others were not.

    Attributes
    ----------
    reasons
        `(count,) uint8`, for every candidate the bits of `REJECTIONS`; 0: accepted.
    architectures
        `(n,)`, records of `deepnets.encoding.ARCHITECTURE`.
    measures
        `(n,)`, records of the other columns of the corpus file.
    wiring
        Rows of `deepnets.records.WIRING` of all n graphs.
    """

    reasons: npt.NDArray[np.uint8]
    architectures: npt.NDArray[np.void]
    measures: npt.NDArray[np.void]
    wiring: npt.NDArray[np.void]

    def columns(self, keep: npt.NDArray[np.bool_] | slice = slice(None)) -> dict[str, npt.NDArray[Any]]:
        """The columns of the corpus file, for all or some of the networks."""
        records = (self.architectures[keep], self.measures[keep])
        return {name: record[name] for record in records for name in record.dtype.names or ()}

    def rows(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
        """The wiring of some of the networks."""
        return self.wiring[np.repeat(keep, self.measures["num_rows"])]


def make_shard(task: ShardTask) -> Shard:
    """Draw and build the candidates of a range."""
    words = random_words(task.seed, task.spec.name, task.start, task.count)
    reasons = np.zeros(task.count, np.uint8)
    architectures = np.zeros(task.count, ARCHITECTURE)
    measures = np.zeros(task.count, MEASURE)
    rules = task.spec.rules
    tape = new_tape(rules.max_cells, rules.max_steps)
    wiring = np.empty(256 * task.count, WIRING)
    accepted, wiring = _produce(words, task.start, rules, tape, reasons, architectures, measures, wiring)
    return Shard(reasons, architectures[:accepted], measures[:accepted], wiring)


@compiled
def _produce(
    words: npt.NDArray[np.uint64],
    start: int,
    rules: Rules,
    tape: Tape,
    reasons: npt.NDArray[np.uint8],
    architectures: npt.NDArray[np.void],
    measures: npt.NDArray[np.void],
    wiring: npt.NDArray[np.void],
) -> tuple[int, npt.NDArray[np.void]]:
    """Fill the arrays with what becomes of each candidate; returns how many were accepted, and their rows."""
    accepted = used = 0
    for i in range(len(words)):
        net = architectures[accepted]
        measure = measures[accepted]
        reasons[i] = sample(words[i], rules, net)
        if reasons[i] == 0:
            reasons[i] = _measure(net, rules, tape, measure)
        if reasons[i] != 0:
            continue
        rows = num_rows(tape)
        if used + rows > len(wiring):
            longer = np.empty(2 * len(wiring) + rows, wiring.dtype)
            longer[:used] = wiring[:used]
            wiring = longer
        write_wiring(tape, wiring[used : used + rows])
        measure.num_nodes = tape.counters[N_NODES]
        measure.num_edges = tape.counters[N_EDGES]
        measure.num_rows = rows
        measure.candidate = start + i
        used += rows
        accepted += 1
    return accepted, wiring[:used]


@compiled
def _measure(net: Any, rules: Rules, tape: Tape, measure: Any) -> int:
    """Count parameters at both image sizes; reasons to reject the network, if any; leaves its graph on the tape.

    The order is that of the original generator: too large for CIFAR-10, no output, too large for ImageNet.
    """
    imagenet = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 224, tape)
    cifar10 = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 32, tape)
    if tape.counters[N_PARAMETERS] > rules.max_parameters:
        return TOO_LARGE_CIFAR10
    if cifar10 < 0:
        return NO_OUTPUT
    if imagenet > rules.max_parameters:
        return TOO_LARGE_IMAGENET
    measure.fingerprint = fingerprint(tape)  # at the width that all networks are drawn with, so that splits compare
    if rules.sized:
        while cifar10 < EVALUATION_PARAMETERS:
            net.C += WIDTH_STEP
            cifar10 = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 32, tape)
        imagenet = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 224, tape)
    measure.num_params = cifar10
    measure.num_params_imagenet = imagenet
    return 0


_PARTS = ("reasons", "architectures", "measures", "wiring")


def write_shard(task: ShardTask, folder: Path) -> None:
    """Make a shard and keep it in a folder, unless a good one is there already."""
    path = folder / task.name
    if path.exists():
        try:
            check_seal(path)
        except DeepNetsError:  # a torn or damaged file costs no more than making the shard again
            path.unlink()
        else:
            return
    shard = make_shard(task)
    with create(path) as file:
        for name in _PARTS:
            file.create_dataset(name, data=getattr(shard, name), compression="gzip", compression_opts=1, shuffle=True)


def read_shard(task: ShardTask, folder: Path) -> Shard:
    """Read a shard back; `IntegrityError` if it is not what was written."""
    path = folder / task.name
    check_seal(path)
    with open_hdf5(path) as file:
        return Shard(*(_read(file, name) for name in _PARTS))


def _read(file: h5py.File, name: str) -> npt.NDArray[Any]:
    return file[name][:]  # type: ignore[no-any-return]
