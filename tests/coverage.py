"""Trace every classifier of torchvision or timm, and list the parameters that have no node: `python -m tests.coverage`.

Networks are built on the `meta` device, where they take no memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import nn

from deepnets import NODE_TYPES, DeepNetsError, trace
from deepnets.support import import_timm, import_torchvision

Maker = Callable[[], nn.Module]


def torchvision_models() -> Iterator[tuple[str, Maker]]:
    """All classifiers, by name."""
    torchvision = import_torchvision()
    for name in torchvision.models.list_models(module=torchvision.models):
        yield name, lambda name=name: torchvision.models.get_model(name, weights=None)  # type: ignore[misc]


def timm_models() -> Iterator[tuple[str, Maker]]:
    """All of timm's, by name."""
    timm = import_timm()
    for name in timm.list_models():
        yield name, lambda name=name: timm.create_model(name)  # type: ignore[misc]


def on_meta(make: Maker) -> nn.Module:
    """The network without memory, if its constructor needs no numbers."""
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return make()


def main() -> None:
    """Trace them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("torchvision", "timm"), default="torchvision")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--part", default="0/1", help="every n-th model from the k-th on, as k/n")
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    warnings.simplefilter("ignore")
    models = timm_models() if options.library == "timm" else torchvision_models()
    complete = total = 0
    seconds, types = {}, Counter[str]()
    for name, make in [pair for pair in models if options.only in pair[0]][first::step]:
        total += 1
        try:
            model = on_meta(make)
        except Exception as error:
            print(f"{name}: cannot be built: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        started = time.perf_counter()
        try:
            graph = trace(model)
        except DeepNetsError as error:
            print(f"{name}: {error}", flush=True)
            continue
        seconds[name] = time.perf_counter() - started
        types.update(NODE_TYPES[kind] for kind in graph.node_types)
        trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        missing = [slot.name for slot in graph.unused if slot.name in trainable]
        complete += not missing
        if missing:
            print(f"{name}: {len(missing)} of {len(trainable)} without a node: {', '.join(missing[:6])}", flush=True)
    print(f"{complete} of {total} complete ({100 * complete / max(1, total):.2f} %)")
    if seconds:
        slowest = max(seconds, key=seconds.__getitem__)
        middle = statistics.median(seconds.values())
        print(f"median {1e3 * middle:.0f} ms, most {1e3 * seconds[slowest]:.0f} ms: {slowest}")
    print(", ".join(f"{kind} {count:,}" for kind, count in types.most_common()))


if __name__ == "__main__":
    main()
