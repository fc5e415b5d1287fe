"""Profiles: figures of traces that are made up, with known answers; and of real steps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ghn_model.training.trace_events import _busy, profile_of, short_name
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepnets import DeepNets1M
from deepnets.support import FormatError
from ghn_model.training import Ranks, profile_training
from ghn_model.training.profiling import WARM_UP
from ghn_model.training.step_parts import PARTS
from tests.support.training_runs import command, run, small_config, small_recipe, stream


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
        "name": "data", "host_ms": 0.1, "operators": 0, "kernels": 0, "copies": 1, "gpu_ms": 0.05, "waits": 1
    }  # fmt: skip
    backward = parts["networks backward"]
    assert (backward.host_ms, backward.operators, backward.kernels, backward.waits) == (0.6, 2, 2, 0)
    assert backward.gpu_ms == pytest.approx(0.35)
    assert (parts["optimizer"].waits, parts["optimizer"].kernels) == (1, 0)
    assert sum(part.operators for part in profile.parts) == 2  # what is between parts is of none
    assert (profile.between.operators, profile.between.host_ms) == (1, pytest.approx(0.2))
    assert profile.gpu is not None
    assert profile.gpu.busy == pytest.approx(0.35)  # 50 and 300 of 1,000
    assert (profile.gpu.gaps, profile.gpu.gap_us) == (1.5, 200)  # 200, 450, 200
    assert profile.gpu.idle == pytest.approx(0.425)
    assert profile.operations == [("conv", 1, 0.2), ("bias", 1, 0.15), ("Memcpy HtoD", 1, 0.05)]
    assert json.loads(json.dumps(profile.to_dict()))["gpu"]["gap_us"] == 200


def test_a_cpu() -> None:
    profile = profile_of([each for each in step(0) if each.get("cat") in ("user_annotation", "cpu_op")])
    assert profile.gpu is None
    found = {operation.name: (operation.times, operation.ms) for operation in profile.operations}
    assert found == {
        "aten::inner": (2, pytest.approx(0.07)),
        "aten::outer": (1, pytest.approx(0.03)),
        "aten::between": (1, pytest.approx(0.01)),
    }


def test_what_is_between_parts_counts_for_the_gpu() -> None:
    """A step must not wait for its device anywhere; and a GPU is no less busy with what is started there."""
    more = [
        event("cuda_runtime", "cudaLaunchKernel", 120, 5, correlation=901),
        event("kernel", "argmax", 610, 40, 70, correlation=901),
        event("cuda_runtime", "cudaStreamSynchronize", 130, 5, correlation=902),
    ]
    before, after = profile_of(step(0)), profile_of([*step(0), *more])
    assert (after.between.kernels, after.between.gpu_ms, after.between.waits) == (1, pytest.approx(0.04), 1)
    assert after.parts == before.parts
    assert before.gpu is not None
    assert after.gpu is not None
    assert after.gpu.busy == pytest.approx(before.gpu.busy + 0.04)
    assert (before.gpu.gaps, after.gpu.gaps) == (1, 2)


def test_what_is_not_of_the_steps() -> None:
    """Neither what is before the first one and behind the last one, nor parts in other threads."""
    more = [
        event("user_annotation", "optimizer", -500, 100),  # the end of a step that began before the trace did
        event("cpu_op", "aten::early", -450, 10),
        event("user_annotation", "images", 120, 20, 9),
        event("cuda_runtime", "cudaLaunchKernel", 1100, 5, correlation=901),
        event("kernel", "late", 1200, 40, 70, correlation=901),
        event("cuda_runtime", "cudaDeviceSynchronize", 1150, 500, correlation=902),
        event("kernel", "of another program", 700, 40, 70),
    ]
    assert profile_of([*more, *step(0)]) == profile_of(step(0))


def test_a_gpu_that_is_behind() -> None:
    """A step ends when the GPU is done with it."""
    late = [
        event("cuda_runtime", "cudaLaunchKernel", 990, 5, correlation=901),
        event("kernel", "late", 1500, 500, correlation=901),
    ]
    profile = profile_of([*step(0), *late])
    assert profile.step_ms == 2.0
    assert profile.between.host_ms == pytest.approx(1.2)
    assert profile.gpu is not None
    assert profile.gpu.busy == pytest.approx((350 + 500) / 2000)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ampere_sgemm_64x32_sliced1x4_tn", "ampere_sgemm_64x32_sliced1x4_tn"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
            "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)",
            "vectorized_elementwise_kernel<4, CUDAFunctor_add<float>, array<char*, 3ul> >",
        ),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::"
            "TensorListMetadata<2> >(at::native::(anonymous namespace)::TensorListMetadata<2>, float (*)(float))",
            "multi_tensor_apply_kernel<TensorListMetadata<2> >",
        ),
        (
            "std::enable_if<!(false), void>::type internal::gemvx::kernel<int>(T13)",
            "enable_if<!(false), void>::type kernel<int>",
        ),
        ("Broken)", "Broken)"),
    ],
)
def test_names_of_kernels(name: str, short: str) -> None:
    assert short_name(name) == short


def test_a_trace_without_steps() -> None:
    with pytest.raises(FormatError, match="has no step"):
        profile_of([event("cpu_op", "aten::mm", 0, 1)])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=30))
def test_busy_and_idle_is_everything(spans: list[tuple[int, int]]) -> None:
    intervals = [(float(start), float(start + length)) for start, length in spans]
    busy, gaps = _busy(intervals)
    moments = {moment for start, end in intervals for moment in range(int(start), int(end))}
    assert busy == len(moments)
    assert busy + sum(gaps) == max(end for _, end in intervals) - min(start for start, _ in intervals)
    assert all(gap > 0 for gap in gaps)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20),
    st.integers(1, 2),
)
def test_shares_of_a_gpu(launches: list[tuple[int, int, int]], steps: int) -> None:
    """By counting microseconds: kernels begin some time after they were asked for."""
    events = [each for number in range(steps) for each in step(1000 * number) if each.get("cat") == "user_annotation"]
    launches = [(asked % (1000 * steps), wait, length) for asked, wait, length in launches]
    for number, (asked, wait, length) in enumerate(launches):
        events.append(event("cuda_runtime", "cudaLaunchKernel", asked, 1, 2, correlation=number))
        events.append(event("kernel", "k", asked + wait, length, 70 + number % 3, correlation=number))
    profile = profile_of(events)
    spans = [(asked + wait, asked + wait + length) for asked, wait, length in launches]
    working = {moment for start, end in spans for moment in range(start, end)}
    whole = max(1000 * steps, *(end for _, end in spans))
    assert profile.gpu is not None
    assert profile.step_ms == pytest.approx(whole / steps / 1e3)
    assert profile.gpu.busy == pytest.approx(len(working) / whole)
    between_ends = max(end for _, end in spans) - min(start for start, _ in spans)
    assert profile.gpu.busy + profile.gpu.idle == pytest.approx(between_ends / whole)
    rows = [*profile.parts, profile.between]
    assert sum(row.kernels for row in rows) == pytest.approx(len(launches) / steps)
    assert profile.gpu.busy * profile.step_ms <= sum(row.gpu_ms for row in rows) + 1e-9
    assert sum(row.host_ms for row in rows) == pytest.approx(profile.step_ms)


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
    host = sum(part["host_ms"] for part in parts.values())
    assert 0.5 * written["profile"]["step_ms"] < host <= written["profile"]["step_ms"]
    assert host + written["profile"]["between"]["host_ms"] == pytest.approx(written["profile"]["step_ms"])
    assert written["profile"]["gpu"] is None
    assert all(part["kernels"] == part["waits"] == 0 for part in parts.values())
    assert parts["networks backward"]["operators"] > parts["networks forward"]["operators"] > 50
    with gzip.open(tmp_path / "p" / "trace.json.gz", "rt") as file:
        assert profile_of(json.load(file)["traceEvents"]).to_dict() == written["profile"]
    again = run([*words, "--profiled-steps", "2", "--json"])
    counts = {part["name"]: part["operators"] for part in json.loads(again.stdout)["profile"]["parts"]}
    assert counts == {name: part["operators"] for name, part in parts.items()}  # the same steps, the same operators


def test_a_training_that_fails_leaves_no_profiler_behind(corpus: Path) -> None:
    recipe, nets = small_recipe(), DeepNets1M(corpus)
    images = stream(recipe.batch)
    before = images.at

    def at(step: int) -> tuple[Tensor, Tensor]:
        if step == WARM_UP + 2:  # the second one that is profiled
            raise RuntimeError("no more")
        return before(step)

    images.at = at  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no more"):
        profile_training(small_config(), recipe, images, nets, ranks=Ranks("cpu"), steps=1, profiled_steps=2)
    assert not torch.autograd._profiler_enabled()


def test_wrong_options_are_one_line(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in command(corpus, tmp_path / "p", images="digits") if word != "--quiet"]
    words[2] = "profile"
    (tmp_path / "p").write_text("here")
    for more, said in (
        ([], f"error: {tmp_path / 'p'}: File exists\n"),
        (["--data", str(tmp_path / "nowhere")], "error: "),
        (["--profiled-steps", "0"], "argument --profiled-steps: expected an integer, 1 or more, got '0'"),
    ):
        done = run([*words, *more])
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


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
