"""Single networks on the page: the data of the script, the points of charts, and commands that evaluate them again."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands import run as run_command
from benchmark.report import networks as networks_module
from benchmark.report import write_report
from benchmark.report.networks import as_json, number_rows, rerun_command
from benchmark.results import read_results
from deepnets.support import Parser
from tests.benchmark.report.pages import one
from tests.support.made_up_results import row, run

HOSTILE = "</script><script>alert(1)</script>\u2028&'\"\x1b"


def data_of(page: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    found: dict[str, Any] = json.loads(text)
    return found


def small(folder: Path) -> Path:
    rows = [row("a", "first", "test", i, 40.0 + i, num_params=10**6 * (9 - i), depth=20 + i) for i in range(6)]
    rows += [row("b", "second", "test", i, None if i == 2 else 20.0, num_params=10**6 * (9 - i)) for i in range(6)]
    return one(folder, rows)


def test_data_is_that_of_the_rows(tmp_path: Path) -> None:
    data = data_of(write_report(small(tmp_path)))
    results = read_results(tmp_path).rows
    assert len(data["rows"]) == len(results) == 12
    for cell, network, value, seconds, reason in data["rows"]:
        predictor, split, images, label, unit, _ = data["cells"][cell]
        _, index, _, nodes, params, _ = data["networks"][network]
        (line,) = results[(results["predictor"] == predictor) & (results["index"] == index)].itertuples()
        assert (split, images, label, unit) == ("test", "digits", "top-1 accuracy", "%")
        assert (nodes, params) == (line.num_nodes, line.num_params)
        assert (value, reason) == ((None, "RuntimeError: no") if line.status == "failed" else (line.top1, ""))
        assert seconds == pytest.approx(0.26 if line.status == "failed" else 1.76)


def test_data_in_a_script_ends_nothing() -> None:
    text = str(as_json({"a": [HOSTILE]}))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": [HOSTILE]}


def test_large_results_are_cut_by_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks_module, "MAX_ROWS", 8)
    results = read_results(small(tmp_path))
    found = number_rows(results.boards(), results.runs)
    assert (len(found.data["rows"]), found.left_out, len(found.first)) == (6, 6, 1)
    assert "6 more rows" in write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.usefixtures("charts")
def test_points_refer_to_their_rows(tmp_path: Path) -> None:
    """Points with more parameters are further right, and points with higher accuracy further up."""
    page = write_report(small(tmp_path))
    data, text = data_of(page), page.read_text(encoding="utf-8")
    panel = text[text.index('id="accuracy_size-0-0-t"') :].partition("</svg>")[0]
    points = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" data-r="(\d+)"', panel)
    assert len(points) == 11  # a network that failed has no point
    rows = [(float(x), -float(y), data["rows"][int(r)]) for x, y, r in points]
    for left, right in pairwise(rows):
        sizes = [data["networks"][each[2][1]][4] for each in (left, right)]
        assert (sizes[0] < sizes[1]) == (left[0] < right[0])
        assert (left[2][2] < right[2][2]) == (left[1] < right[1])
    distribution = text[text.index('id="distribution-0-0-t"') :].partition("</svg>")[0]
    assert len(set(re.findall(r'data-r="(\d+)"', distribution))) == 11


# --- commands ---


@pytest.mark.parametrize(
    ("command", "spec", "split", "expected"),
    [
        (
            "python -m benchmark run --predictors p q --splits test deep --limit 6 --image-root 'my images' --quiet",
            "p",
            "deep",
            "deepnets bench --predictors p --splits deep --index {index} --image-root 'my images' --out rerun",
        ),
        (
            ["python", "-m", "benchmark", "run", "--out=x", "--seed=4", "--noise", "0.1", "0.2", "--no-class-layers"],
            "file.pt",
            "test",
            "deepnets bench --predictors p=file.pt --splits test --index {index} --seed=4 --no-class-layers "
            "--out rerun",
        ),
        *(
            (
                f"{start} --predictors p,q --images cifar10 --image-root=cifar --vocabulary ghn3 --memory 500 -q",
                "p",
                "test",
                "deepnets bench --predictors p --splits test --index {index} --images cifar10 --image-root=cifar "
                "--vocabulary ghn3 --memory 500 -q --out rerun",
            )
            for start in ("deepnets bench", "python -m deepnets bench", "python -m benchmark run")
        ),
        (
            "deepnets bench --pred p --lim 1 --split test --images cifar10",
            "p",
            "test",
            "deepnets bench --predictors p --splits test --index {index} --images cifar10 --out rerun",
        ),
        (
            "python my_script.py",
            "p",
            "timm",
            "deepnets bench --predictors p --splits timm:{name} --images digits --batch-size 64 --seed 0 --out rerun",
        ),
    ],
)
def test_command_for_a_network(command: Any, spec: str, split: str, expected: str) -> None:
    about = run("p", split, 3, command=command)
    about["predictor"] |= {"spec": spec}
    assert rerun_command(about, "p", split) == expected
    parser = Parser()
    run_command.add_arguments(parser.add_subparsers())
    words = shlex.split(expected.replace("{index}", "3").replace("{name}", "resnet18"))
    options = parser.parse_args(["run", *words[2:]])
    assert str(options.out) == "rerun"
    assert options.index == (None if split == "timm" else ["3"])


def test_noise_of_the_run_is_kept() -> None:
    assert " --noise 0.08 " in rerun_command(run("p", "test", 3, noise=0.08), "p", "test")
    assert " --noise 1 " in rerun_command(run("p", "test", 3, noise=1), "p", "test")


def test_folders_of_corrupted_images_are_left_out() -> None:
    """The command evaluates images without corruption, for which this folder is an error."""
    words = "deepnets bench --predictors p --splits test --image-root I --corruptions fog --corruption-root C --seed 3"
    expected = "deepnets bench --predictors p --splits test --index {index} --image-root I --seed 3 --out rerun"
    assert rerun_command(run("p", "test", 3, command=words), "p", "test") == expected


@pytest.mark.parametrize("about", [{}, {"command": 3, "predictor": []}, {"command": "'", "noise": HOSTILE}])
def test_descriptions_that_are_not_trusted(about: dict[str, Any]) -> None:
    words = shlex.split(rerun_command(about, HOSTILE, HOSTILE))
    assert words[:4] == ["deepnets", "bench", "--predictors", HOSTILE]
    assert words[4:6] == ["--splits", HOSTILE]


def test_options_of_texts_are_kept() -> None:
    about = run("p", "family:gpt2-widths/test", 3, command="", images="text:novel.txt", task="text")
    about |= {"data_options": {"tokenizer": "t.json", "sequence_length": 32}, "predict_class_layers": False}
    command = rerun_command(about, "p", "family:gpt2-widths/test")
    expected = "--texts text:novel.txt --task text --tokenizer t.json --sequence-length 32 --batch-size 64 --seed 0"
    assert command.endswith(f" --index {{index}} {expected} --no-class-layers --out rerun")
