"""Predictors that change the network, the evaluation, or what the supervisor is told."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from typing import Any

import torch
from torch import nn

from tests.support.misbehaving import SAME, expect, good


@expect(SAME)
def patches_the_evaluation(model: Any, graph: Any) -> Any:
    from benchmark import accuracy
    from benchmark.evaluation import rows

    perfect = accuracy.Scores({"top1": 100.0, "top5": 100.0}, 32)
    for module in (accuracy, rows):
        module.evaluate_network = lambda *a, **k: perfect
    rows.evaluate_prediction = rows.failed_row = lambda *a, **k: {"top1": 100.0}
    return good(model)


@expect("parameters: ")
def patches_the_checks(model: Any, graph: Any) -> Any:
    from benchmark.evaluation import prediction

    prediction.check_parameters = lambda *a: None
    return {name: value[None] for name, value in good(model).items()}


@expect(SAME)
def replaces_forward(model: Any, graph: Any) -> Any:
    values = good(model)
    model.forward = type(model).forward = lambda self, x, *_: torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]
    return values


@expect(SAME)
def changes_the_architecture(model: Any, graph: Any) -> Any:
    values = good(model)
    for name in list(model._modules):
        setattr(model, name, nn.Identity())
    return values


@expect("parameters: ")
def returns_another_network(model: Any, graph: Any) -> Any:
    return good(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))


@expect(SAME)
def hooks_every_module(model: Any, graph: Any) -> Any:
    nn.modules.module.register_module_forward_hook(lambda module, x, y: torch.zeros_like(y))
    return good(model)


@expect(SAME)
def spoils_model_and_graph(model: Any, graph: Any) -> Any:
    values = good(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("inf"))
    object.__setattr__(graph, "index", 1 - graph.index)
    graph.__dict__.clear()
    model.__dict__.clear()
    return values


@expect(SAME)
def looks_for_images(model: Any, graph: Any) -> Any:
    if any(type(thing).__name__ in ("ImageSet", "ImageFolders") for thing in gc.get_objects()):
        raise RuntimeError("the images are in this process")
    return good(model)


def write_everywhere(data: bytes) -> None:
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, data)


@expect("its process sent an invalid answer")
def writes_junk(model: Any, graph: Any) -> Any:
    write_everywhere(b"\xff no answer\n")
    return good(model)


@expect(SAME)
def forges_rows(model: Any, graph: Any) -> Any:
    from benchmark.evaluation.rows import empty_row

    row = {**empty_row(graph.index), "top1": 100.0, "top5": 100.0, "num_images": 32}
    for number in range(50):
        write_everywhere(json.dumps({"request": number + 1000, "row": row, "done": True}).encode() + b"\n")
    return good(model)


@expect("its process sent an invalid answer")
def forges_a_type_of_error(model: Any, graph: Any) -> Any:
    for number in range(1, 1000):
        write_everywhere(json.dumps({"request": number, "error": "x", "type": "__name__"}).encode() + b"\n")
    return good(model)


@expect("its process sent an invalid answer")
def forges_an_answer(model: Any, graph: Any) -> Any:
    for number in range(1, 1000):
        write_everywhere(json.dumps({"request": number, "done": True, "reuse": True}).encode() + b"\n")
    time.sleep(1)
    return good(model)


@expect("its process sent an invalid answer")
def answers_a_megabyte(model: Any, graph: Any) -> Any:
    write_everywhere(b"x" * 1_000_000)
    return good(model)


@expect("its process sent an invalid answer")
def answers_deep_json(model: Any, graph: Any) -> Any:
    write_everywhere(b"[" * 60_000 + b"\n")
    return good(model)


@expect("its process ended")
def closes_descriptors(model: Any, graph: Any) -> Any:
    os.closerange(3, 256)
    return good(model)


@expect(SAME)
def closes_standard_streams(model: Any, graph: Any) -> Any:
    os.closerange(0, 3)
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return good(model)


@expect("its process ended")
def replaces_descriptors(model: Any, graph: Any) -> Any:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3, 64):
        if descriptor != nothing:
            os.dup2(nothing, descriptor)
    return good(model)
