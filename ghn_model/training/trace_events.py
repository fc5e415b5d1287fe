"""Figures of training steps from a trace of PyTorch's profiler: its Chrome JSON, which releases do not change.

Events have a category: "user_annotation" for the parts of a step, "cpu_op" for operators of the host, "cuda_runtime"
and "cuda_driver" for what it asks of a GPU, "kernel", "gpu_memcpy" and "gpu_memset" for what that does.  The latter
belong to the part in which they were asked for, in whatever thread: autograd goes back in a thread of its own.
"""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from deepnets.support import FormatError
from ghn_model.training.step_parts import PARTS

__all__ = ["BETWEEN", "GPU", "Costs", "Operation", "Profile", "profile_of", "short_name"]

BETWEEN = "between them"
"""The name of what is in no part."""
ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")
WAITING = ("Synchronize", "Memcpy")
"""Calls of the runtime after which the host has waited for the GPU; copies are such unless they are asynchronous."""
TOP = 10
NAMESPACE = re.compile(r"\(anonymous namespace\)::|\b[a-z_]\w*::(?=[\w(])")


class Costs(NamedTuple):
    """What a part costs in a step.

    Attributes
    ----------
    name
        Of the part.
    host_ms
        Milliseconds of the host.
    operators
        How many operators of the host that contain no other one.
    kernels, copies
        How many kernels it starts on the GPU; how many copies and fills there.
    gpu_ms
        Milliseconds of both, added up.
    waits
        How often the host waits for the GPU.
    """

    name: str
    host_ms: float = 0.0
    operators: float = 0.0
    kernels: float = 0.0
    copies: float = 0.0
    gpu_ms: float = 0.0
    waits: float = 0.0


class Operation(NamedTuple):
    """How often an operator of the host, or a kernel, occurs in a step, and the milliseconds that are its own."""

    name: str
    times: float
    ms: float


@dataclass(frozen=True)
class GPU:
    """What a GPU does in steps.

    Parameters
    ----------
    busy
        Share of the time in which it does something, in whatever stream.
    idle
        Share of the time in gaps, between something that it has done and something that it will do.
    gaps
        How many there are in a step.
    gap_us
        Microseconds of the median one.
    """

    busy: float
    idle: float
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
    between
        What is in none of them; its time includes that from the host's end to the GPU's.
    operations
        The most expensive ones: kernels, copies and fills of a GPU, otherwise operators.
    gpu
        None without one.
    """

    steps: int
    step_ms: float
    parts: list[Costs]
    between: Costs
    operations: list[Operation]
    gpu: GPU | None

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain values, ready for JSON."""
        values = asdict(self)
        values["parts"] = [part._asdict() for part in self.parts]
        values["between"] = self.between._asdict()
        values["operations"] = [operation._asdict() for operation in self.operations]
        return values


class _Event(NamedTuple):
    name: str
    start: float  # microseconds
    end: float
    thread: tuple[Any, Any]
    correlation: Any


class _Sums:
    """Sums over all steps, by the part and by the name of the operation."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {name: defaultdict(float) for name in (*PARTS, BETWEEN)}
        self.operations: dict[str, tuple[int, float]] = {}

    def add(self, part: str, **figures: float) -> None:
        """Add figures of `Costs`."""
        for field, value in figures.items():
            self.parts[part][field] += value

    def add_operation(self, name: str, microseconds: float) -> None:
        """Count one more operation."""
        count, before = self.operations.get(name, (0, 0.0))
        self.operations[name] = (count + 1, before + microseconds)

    def costs(self, part: str, steps: int) -> Costs:
        """Of a part, in a step."""
        return Costs(part, **{field: value / steps for field, value in self.parts[part].items()})

    def most_expensive(self, steps: int) -> list[Operation]:
        """The first of the operations by their time, in a step."""
        some = sorted(self.operations.items(), key=lambda item: -item[1][1])[:TOP]
        return [Operation(name, count / steps, time / steps / 1e3) for name, (count, time) in some]


def profile_of(events: Iterable[Mapping[str, Any]]) -> Profile:
    """The profile of the steps in a trace.

    Parameters
    ----------
    events
        The list "traceEvents" of a trace in which the parts of some steps are marked (`ghn_model.step_parts.part`).
        What is before the first step counts for nothing, nor does what is after the last part of the last one.

    Raises
    ------
    FormatError
        If no step is in it.
    """
    found = _by_category(events)
    parts = _parts(found["user_annotation"])
    steps = sum(event.name == PARTS[0] for event in parts)
    starts = [event.start for event in parts]
    first, last = starts[0], max(event.end for event in parts)

    def part_at(moment: float) -> str | None:
        """The part in which the host was at a moment; None before and after the steps."""
        if not first <= moment < last:
            return None
        at = parts[bisect_right(starts, moment) - 1]
        return at.name if moment < at.end else BETWEEN

    sums = _Sums()
    for event in parts:
        sums.add(event.name, host_ms=(event.end - event.start) / 1e3)
    for event, own, leaf in _nested(found["cpu_op"]):
        if (name := part_at(event.start)) is not None:
            sums.add(name, operators=leaf)
            sums.add_operation(event.name, own)
    for event in found["cuda_runtime"]:
        if _waits(event.name) and (name := part_at(event.start)) is not None:
            sums.add(name, waits=1)

    work = _work(found, part_at)
    gpu = None
    if work:
        sums.operations.clear()
        for event, name, column in work:
            sums.add(name, **{column: 1, "gpu_ms": (event.end - event.start) / 1e3})
            sums.add_operation(event.name, event.end - event.start)
        # The clocks of the two need not agree to the microsecond.
        first, last = min(first, *(event.start for event, *_ in work)), max(last, *(event.end for event, *_ in work))
        busy, gaps = _busy((event.start, event.end) for event, *_ in work)
        whole = last - first
        gpu = GPU(busy / whole, sum(gaps) / whole, len(gaps) / steps, statistics.median(gaps) if gaps else 0.0)
    in_parts = sum(figures["host_ms"] for figures in sums.parts.values())
    sums.add(BETWEEN, host_ms=max(0.0, (last - first) / 1e3 - in_parts))
    return Profile(
        steps,
        (last - first) / steps / 1e3,
        [sums.costs(name, steps) for name in PARTS],
        sums.costs(BETWEEN, steps),
        sums.most_expensive(steps),
        gpu,
    )


def short_name(name: str) -> str:
    """The name of a kernel without its result, arguments and namespaces; what it is a template of remains."""
    if name.endswith(")"):
        depth = 0
        for place in range(len(name) - 1, 0, -1):
            depth += (name[place] == ")") - (name[place] == "(")
            if depth == 0:
                name = name[:place]
                break
    return NAMESPACE.sub("", name).removeprefix("void ").strip()


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


def _parts(annotations: Iterable[_Event]) -> list[_Event]:
    """The parts of whole steps, in their order, of the thread that makes the steps."""
    parts = sorted((event for event in annotations if event.name in PARTS), key=lambda event: event.start)
    begin = next((i for i, event in enumerate(parts) if event.name == PARTS[0]), None)
    if begin is None:
        raise FormatError(f"trace: has no step; a step begins with the annotation {PARTS[0]!r}")
    return [event for event in parts[begin:] if event.thread == parts[begin].thread]


def _work(
    found: Mapping[str, Sequence[_Event]], part_at: Callable[[float], str | None]
) -> list[tuple[_Event, str, str]]:
    """What a GPU does for the steps: the event, the part in which it was asked for, and the column where it counts."""
    calls = (event for category in CALLS for event in found.get(category, ()))
    asked = {event.correlation: part_at(event.start) for event in calls if event.correlation is not None}
    work = []
    for category in ON_GPU:
        for event in found.get(category, ()):
            if (name := asked.get(event.correlation)) is not None:
                if category == "kernel":
                    event = event._replace(name=short_name(event.name))
                work.append((event, name, "kernels" if category == "kernel" else "copies"))
    return work


def _waits(call: str) -> bool:
    return "Async" not in call and any(word in call for word in WAITING)


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
