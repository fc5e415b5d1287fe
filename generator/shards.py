"""The work of one worker: a range of candidates of one split, from random words to finished records.

A shard is a pure function of (split, seed, range), so it does not matter who makes it, when, or how often.  On disk it
is a sealed file in the build's `.partial` folder: complete and undamaged, or made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE
from deepnets.corpus import MEASURE, NUM_CLASSES, WIRING, append_rows, measure
from deepnets.graph import Tape, assemble, fingerprint, new_tape
from deepnets.support import DeepNetsError, check_seal, compiled, create, open_hdf5
from generator.sampler import NO_OUTPUT, TOO_LARGE_CIFAR10, TOO_LARGE_IMAGENET, random_words, sample
from generator.splits import Rules, SplitSpec

__all__ = ["Shard", "ShardTask", "make_shard", "read_shard", "write_shard"]

EVALUATION_PARAMETERS = 2_500_000
"""Networks of all splits but `train` are as wide as it takes to have so many parameters (CIFAR-10)."""

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
        `(n,)`, records of `deepnets.architecture.ARCHITECTURE`.
    measures
        `(n,)`, records of `deepnets.corpus.MEASURE`.
    wiring
        Rows of `deepnets.corpus.WIRING` of all n graphs.
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
        reasons[i] = sample(words[i], rules, net)
        if reasons[i] == 0:
            reasons[i] = _size(net, rules, tape, measures[accepted])
        if reasons[i] == 0:
            measures[accepted].candidate = start + i
            wiring, used = append_rows(tape, wiring, used)
            accepted += 1
    return accepted, wiring[:used]


@compiled
def _size(net: Any, rules: Rules, tape: Tape, out: Any) -> int:
    """Measure a network and set its width; reasons to reject it, if any; its graph stays on the tape.

    The reasons are looked at in the order of the original generator, so that their rates compare.
    """
    has_output = measure(net, tape, out)
    if out.num_params > rules.max_parameters:
        return TOO_LARGE_CIFAR10
    if not has_output:
        return NO_OUTPUT
    if out.num_params_imagenet > rules.max_parameters:
        return TOO_LARGE_IMAGENET
    out.fingerprint = fingerprint(tape)
    if rules.sized:
        # The number of parameters is quadratic in a width of whole steps, so three values give all of them.
        count, growth = out.num_params, _count(net, 1, tape) - out.num_params
        acceleration = _count(net, 2, tape) - count - 2 * growth
        while count < EVALUATION_PARAMETERS:
            net.C += WIDTH_STEP
            count += growth
            growth += acceleration
        measure(net, tape, out)
    return 0


@compiled
def _count(net: Any, steps: int, tape: Tape) -> int:
    """Parameters of a network that is so many steps wider."""
    return assemble(net, net.C + steps * WIDTH_STEP, net.fc_dim, NUM_CLASSES, 32, tape)


_PARTS = ("reasons", "architectures", "measures", "wiring")


def write_shard(task: ShardTask, folder: Path) -> None:
    """Make a shard and keep it in a folder, unless a good one is there already."""
    path = folder / task.name
    if not folder.is_dir():
        raise DeepNetsError(f"{folder}: no such folder for this worker; it must be on a file system that all share")
    if _is_good(path):
        return
    shard = make_shard(task)
    with create(path) as file:
        for name in _PARTS:
            file.create_dataset(name, data=getattr(shard, name), compression="gzip", compression_opts=1, shuffle=True)


def _is_good(path: Path) -> bool:
    try:
        check_seal(path)
    except DeepNetsError:  # missing, torn or damaged, which costs no more than making it again
        return False
    return True


def read_shard(task: ShardTask, folder: Path, *, wiring: bool = True) -> Shard:
    """Read a shard back, if need be without its graphs; `IntegrityError` if it is not what was written."""
    path = folder / task.name
    check_seal(path)
    with open_hdf5(path) as file:
        parts = {name: file[name][:] for name in _PARTS[:-1]}
        return Shard(**parts, wiring=file["wiring"][: None if wiring else 0])
