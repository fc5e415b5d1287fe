"""Profiles: figures of traces that are made up, with known answers; and of real steps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnets.errors import FormatError
from ghn_model.step_parts import PARTS
from ghn_model.trace_events import _busy, profile_of
from tests.ghn_model.training_runs import command, run


def event(category: str, name: str, start: float, length: float, thread: int = 1, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 7, "tid": thread, "ts": start, "dur": length, "args": args}


def step(start: float) -> list[dict[str, Any]]:
    """1,000 us: data, 100; networks backward, 600, whose orders are given in another thread; the optimizer, 100."""
    backward = start + 200
    return [
        event("user_annotation", "data", start, 100),
        event("user_annotation", "networks backward", backward, 600),
        event("user_annotation", "optimizer", start + 900, 100),
        event("user_annotation", "something else", start, 1000),
        event("gpu_user_annotation", "data", start, 5000),
        event("cpu_op", "aten::outer", backward + 10, 100, 2),
        event("cpu_op", "aten::inner", backward + 20, 30, 2),
        event("cpu_op", "aten::inner", backward + 60, 40, 2),
        event("cpu_op", "aten::between", start + 150, 10),
        event("cuda_runtime", "cudaLaunchKernel", backward + 30, 5, 2, correlation=start + 1),
        event("cuda_driver", "cuLaunchKernel", backward + 70, 5, 2, correlation=start + 2),
        event("cuda_runtime", "cudaMemcpyAsync", start + 20, 5, 1, correlation=start + 3),
        event("cuda_runtime", "cudaStreamSynchronize", start + 950, 20, 1, correlation=start + 4),
        event("cuda_runtime", "cudaMemcpy", start + 30, 5, 1, correlation=start + 5),
        event("gpu_memcpy", "Memcpy HtoD", start + 50, 50, 70, correlation=start + 3),  # 50 to 100
        event("kernel", "conv", start + 300, 200, 70, correlation=start + 1),  # 300 to 500
        event("kernel", "bias", start + 450, 150, 71, correlation=start + 2),  # 450 to 600, on another stream
        {"ph": "M", "name": "process_name", "args": {}},
    ]


def test_a_gpu() -> None:
    profile = profile_of([*step(10_000), *step(11_000)])
    assert (profile.steps, profile.step_ms) == (2, 1.0)
    assert [part.name for part in profile.parts] == list(PARTS)
    parts = {part.name: part for part in profile.parts}
    assert parts["data"]._asdict() == {
        "name": "data", "host_ms": 0.1, "operators": 0, "kernels": 1, "gpu_ms": 0.05, "waits": 1
    }  # fmt: skip
    backward = parts["networks backward"]
    assert (backward.host_ms, backward.operators, backward.kernels, backward.waits) == (0.6, 2, 2, 0)
    assert backward.gpu_ms == pytest.approx(0.35)
    assert (parts["optimizer"].waits, parts["optimizer"].kernels) == (1, 0)
    assert sum(part.operators for part in profile.parts) == 2  # what is between parts is of none
    assert profile.gpu is not None
    assert profile.gpu.busy == pytest.approx(0.35)  # 50 and 300 of 1,000
    assert (profile.gpu.gaps, profile.gpu.gap_us) == (1.5, 200)  # 200, 450, 200
    assert [(costs.name, costs.kernels) for costs in profile.operations] == [
        ("conv", 1),
        ("bias", 1),
        ("Memcpy HtoD", 1),
    ]
    assert json.loads(json.dumps(profile.to_dict()))["gpu"]["gap_us"] == 200


def test_a_cpu() -> None:
    profile = profile_of([each for each in step(0) if each.get("cat") in ("user_annotation", "cpu_op")])
    assert profile.gpu is None
    found = {costs.name: (costs.operators, costs.host_ms) for costs in profile.operations}
    assert found == {"aten::inner": (2, pytest.approx(0.07)), "aten::outer": (1, pytest.approx(0.03))}


def test_a_trace_without_steps() -> None:
    with pytest.raises(FormatError, match="has no step"):
        profile_of([event("cpu_op", "aten::mm", 0, 1)])


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=30))
def test_busy_and_idle_is_everything(spans: list[tuple[int, int]]) -> None:
    intervals = [(float(start), float(start + length)) for start, length in spans]
    busy, gaps = _busy(intervals)
    moments = {moment for start, end in intervals for moment in range(int(start), int(end))}
    assert busy == len(moments)
    assert busy + sum(gaps) == max(end for _, end in intervals) - min(start for start, _ in intervals)
    assert all(gap > 0 for gap in gaps)


def test_real_steps(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in command(corpus, tmp_path / "p", images="digits", steps=2) if word != "--quiet"]
    words[2] = "profile"
    done = run([*words, "--profiled-steps", "2"])
    assert done.returncode == 0, done.stderr
    assert "ms a step" in done.stdout
    assert all(part in done.stdout for part in PARTS)
    written = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert (written["steps"], written["profile"]["steps"], written["preset"]) == (2, 2, "ghn2")
    assert written["recipe"]["max_params"] == 100_000
    parts = {part["name"]: part for part in written["profile"]["parts"]}
    assert sum(part["host_ms"] for part in parts.values()) <= written["profile"]["step_ms"] * 1.001
    assert parts["networks backward"]["operators"] > parts["networks forward"]["operators"] > 50
    with gzip.open(tmp_path / "p" / "trace.json.gz", "rt") as file:
        assert profile_of(json.load(file)["traceEvents"]).to_dict() == written["profile"]
    again = run([*words, "--profiled-steps", "2", "--json"])
    counts = {part["name"]: part["operators"] for part in json.loads(again.stdout)["profile"]["parts"]}
    assert counts == {name: part["operators"] for name, part in parts.items()}  # the same steps, the same operators


@pytest.mark.slow
def test_processes_are_counted_together(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in command(corpus, tmp_path / "p", images="digits", steps=2) if word != "--quiet"]
    words[2] = "profile"
    done = run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words, "--json"])
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["processes"] == 2
    assert found["networks_per_s"] == pytest.approx(2 * 1000 / found["step_ms"])
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["profile.json", "trace.json.gz"]
