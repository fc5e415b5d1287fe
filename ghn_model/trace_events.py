"""Figures of training steps from a trace of PyTorch's profiler: its Chrome JSON, which releases do not change.

Events have a category: "user_annotation" for the parts of a step, "cpu_op" for operators of the host, "cuda_runtime"
and "cuda_driver" for what it asks of a GPU, "kernel", "gpu_memcpy" and "gpu_memset" for what that does.  The latter
belong to the part in which they were asked for, in whatever thread: autograd goes back in a thread of its own.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from deepnets.errors import FormatError
from ghn_model.step_parts import PARTS

__all__ = ["GPU", "Costs", "Profile", "profile_of"]

ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")
WAITING = ("Synchronize", "cudaMemcpy", "cuMemcpy")
"""Calls after which the host waits for the GPU; copies are such unless they are asynchronous."""
TOP = 10


class Costs(NamedTuple):
    """What a part, or an operation, costs in a step.

    Attributes
    ----------
    name
        Of the part, or of the operation.
    host_ms, gpu_ms
        Milliseconds of the host, and of the GPU.
    operators, kernels
        How many operators, in a part only those that contain no other one; how many kernels, copies and fills.
    waits
        How often the host waits for the GPU.
    """

    name: str
    host_ms: float = 0.0
    operators: float = 0.0
    kernels: float = 0.0
    gpu_ms: float = 0.0
    waits: float = 0.0


@dataclass(frozen=True)
class GPU:
    """What a GPU does in steps.

    Parameters
    ----------
    busy
        Share of the time in which it does something.
    gaps
        How often in a step it has nothing to do.
    gap_us
        Microseconds of the median gap.
    """

    busy: float
    gaps: float
    gap_us: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a step goes.

    Parameters
    ----------
    steps
        How many were looked at.
    step_ms
        Milliseconds of one; the profiler makes it longer than it is.
    parts
        Of `PARTS`, what each costs.
    operations
        The most expensive ones: kernels of a GPU, otherwise operators.
    gpu
        None without one.
    """

    steps: int
    step_ms: float
    parts: list[Costs]
    operations: list[Costs]
    gpu: GPU | None

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain values, ready for JSON."""
        values = asdict(self)
        for name in ("parts", "operations"):
            values[name] = [costs._asdict() for costs in getattr(self, name)]
        return values


class _Event(NamedTuple):
    name: str
    start: float  # microseconds
    end: float
    thread: tuple[Any, Any]
    correlation: Any


def profile_of(events: Iterable[Mapping[str, Any]]) -> Profile:
    """The profile of the steps in a trace.

    Parameters
    ----------
    events
        The list "traceEvents" of a trace in which the parts of some steps are marked (`ghn_model.step_parts.part`).

    Raises
    ------
    FormatError
        If no step is in it.
    """
    found = _by_category(events)
    parts = sorted((event for event in found["user_annotation"] if event.name in PARTS), key=lambda e: e.start)
    steps = sum(event.name == PARTS[0] for event in parts)
    if not steps:
        raise FormatError(f"trace: has no step; a step begins with the annotation {PARTS[0]!r}")
    first, last = parts[0].start, max(event.end for event in parts)
    starts = [event.start for event in parts]

    def part_at(moment: float) -> str | None:
        place = bisect_right(starts, moment) - 1
        return parts[place].name if place >= 0 and moment < parts[place].end else None

    sums: dict[str, dict[str, float]] = {name: defaultdict(float) for name in PARTS}
    for event in parts:
        sums[event.name]["host_ms"] += (event.end - event.start) / 1e3
    operators: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event, own, leaf in _nested(found["cpu_op"]):
        if (name := part_at(event.start)) is not None:
            sums[name]["operators"] += leaf
            operators[event.name]["operators"] += 1
            operators[event.name]["host_ms"] += own / 1e3
    asked = {}
    for event in (event for category in CALLS for event in found[category]):
        name = asked[event.correlation] = part_at(event.start)
        if name is not None and "Async" not in event.name and any(word in event.name for word in WAITING):
            sums[name]["waits"] += 1
    kernels: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    work = []
    for event in (event for category in ON_GPU for event in found[category]):
        if (name := asked.get(event.correlation)) is not None:
            work.append((event.start, event.end))
            for sum_of in (sums[name], kernels[event.name]):
                sum_of["kernels"] += 1
                sum_of["gpu_ms"] += (event.end - event.start) / 1e3
    gpu = None
    if work:
        last = max(last, *(end for _, end in work))
        busy, gaps = _busy(work)
        gpu = GPU(busy / (last - first), len(gaps) / steps, statistics.median(gaps) if gaps else 0.0)
    rows, column = (kernels, "gpu_ms") if work else (operators, "host_ms")
    top = sorted(rows, key=lambda name: -rows[name][column])[:TOP]
    return Profile(
        steps,
        (last - first) / steps / 1e3,
        [_per_step(name, sums[name], steps) for name in PARTS],
        [_per_step(name, rows[name], steps) for name in top],
        gpu,
    )


def _by_category(events: Iterable[Mapping[str, Any]]) -> dict[str, list[_Event]]:
    found: dict[str, list[_Event]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X":
            start = float(event["ts"])
            correlation = event.get("args", {}).get("correlation")
            thread = (event.get("pid"), event.get("tid"))
            found[event.get("cat", "")].append(
                _Event(event["name"], start, start + float(event.get("dur", 0)), thread, correlation)
            )
    return found


def _nested(events: Sequence[_Event]) -> Iterable[tuple[_Event, float, bool]]:
    """Each operator, the microseconds that are its own, and whether it contains no other one."""
    threads: dict[tuple[Any, Any], list[_Event]] = defaultdict(list)
    for event in events:
        threads[event.thread].append(event)
    for some in threads.values():
        some.sort(key=lambda event: (event.start, -event.end))
        own = [event.end - event.start for event in some]
        leaf = [True] * len(some)
        inside: list[int] = []  # the operators that have begun, each within the one before
        for place, event in enumerate(some):
            while inside and event.start >= some[inside[-1]].end:
                inside.pop()
            if inside:
                own[inside[-1]] -= event.end - event.start
                leaf[inside[-1]] = False
            inside.append(place)
        yield from zip(some, own, leaf)


def _busy(intervals: Iterable[tuple[float, float]]) -> tuple[float, list[float]]:
    """Length of the union of intervals, and the gaps between them."""
    busy, gaps, until = 0.0, [], None
    for start, end in sorted(intervals):
        if until is None:
            until = start
        if start > until:
            gaps.append(start - until)
            until = start
        busy += max(0.0, end - until)
        until = max(until, end)
    return busy, gaps


def _per_step(name: str, sums: Mapping[str, float], steps: int) -> Costs:
    return Costs(name, **{field: sums.get(field, 0.0) / steps for field in Costs._fields[1:]})
