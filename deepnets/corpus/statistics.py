"""From encoded architectures to what a corpus file says about them: sizes, fingerprints, and the graphs' rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.corpus.wiring import WIRING, num_rows, write_wiring
from deepnets.graph import N_EDGES, N_NODES, N_PARAMETERS, Tape, assemble, fingerprint, new_tape
from deepnets.support import compiled

__all__ = ["MEASURE", "NUM_CLASSES", "append_rows", "measure", "tabulate"]

MEASURE = np.dtype(
    [
        ("num_nodes", "<u2"),
        ("num_edges", "<u2"),
        ("num_rows", "<u2"),
        ("num_params", "<u8"),
        ("num_params_imagenet", "<u8"),
        ("fingerprint", "<u8"),
        ("candidate", "<u8"),
    ]
)
"""What a file says about a network beside its configuration."""

NUM_CLASSES = 10
"""Of the networks whose parameters are counted, at either image size, as in the original release."""

_NOMINAL_C, _NOMINAL_FC_DIM = 32, 256  # fingerprints are taken at one width, so that they compare across splits


@compiled
def measure(net: Any, tape: Tape, out: Any) -> bool:
    """Measure one encoded architecture, all but its fingerprint, into a record `MEASURE`; its graph stays on the tape.

    Returns whether the network has an output.
    """
    out.num_params_imagenet = 0
    imagenet = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 224, tape)
    if imagenet >= 0:
        out.num_params_imagenet = imagenet
    cifar10 = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 32, tape)
    out.num_params = tape.counters[N_PARAMETERS]
    out.num_nodes = tape.counters[N_NODES]
    out.num_edges = tape.counters[N_EDGES]
    out.num_rows = num_rows(tape)
    return cifar10 >= 0


@compiled
def append_rows(tape: Tape, rows: npt.NDArray[np.void], used: int) -> tuple[npt.NDArray[np.void], int]:
    """Write the graph on the tape behind the first `used` rows, into a longer array if need be."""
    end = used + num_rows(tape)
    if end > len(rows):
        longer = np.empty(2 * end, rows.dtype)
        longer[:used] = rows[:used]
        rows = longer
    write_wiring(tape, rows[used:end])
    return rows, end


@compiled
def _tabulate(
    nets: npt.NDArray[np.void], tape: Tape, measures: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> npt.NDArray[np.void]:
    used = 0
    for i in range(len(nets)):
        if assemble(nets[i], _NOMINAL_C, _NOMINAL_FC_DIM, NUM_CLASSES, 32, tape) >= 0:
            measures[i].fingerprint = fingerprint(tape)
        measure(nets[i], tape, measures[i])
        rows, used = append_rows(tape, rows, used)
    return rows[:used]


def tabulate(architectures: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Measures and rows of architectures.

    Parameters
    ----------
    architectures
        `(n,)`, records of `deepnets.architecture.ARCHITECTURE` that `deepnets.architecture.decode` accepts.

    Returns
    -------
    `(n,)` records of `MEASURE`, `candidate` 0; and the `WIRING` rows of all n graphs, one after the other.
    """
    measures = np.zeros(len(architectures), MEASURE)
    if len(architectures) == 0:
        return measures, np.zeros(0, WIRING)
    tape = new_tape(int(architectures["n_cells"].max()), int(architectures["steps"].max()))
    rows = _tabulate(architectures, tape, measures, np.empty(256 * len(architectures), WIRING))
    return measures, rows
