"""Trace networks of other packages, and list the parameters that have no node: `python -m tests.coverage`.

`--library torchvision` and `--library timm` trace all classifiers, on the `meta` device, where they take no memory.
`--library families` traces small networks of several packages, and compares the graphs with autograd.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import nn

from deepnets import NODE_TYPES, DeepNetsError, trace
from deepnets.support import import_timm, import_torchvision
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.families import FAMILIES, Family

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


def check_family(family: Family) -> tuple[str, str, str]:
    """Return whether a graph is complete, whether its ancestry is that of autograd, and how long tracing took."""
    torch.manual_seed(0)
    try:
        model, inputs = family.make(), family.inputs()
    except Exception as error:
        return "cannot be built", f"{type(error).__name__}: {str(error)[:90]}", ""
    started = time.perf_counter()
    try:
        graph = trace(model, inputs)
    except DeepNetsError as error:
        return "TraceError", str(error)[:120], ""
    duration = f"{1e3 * (time.perf_counter() - started):.0f} ms"
    missing = [slot.name for slot in graph.unused]
    complete = f"yes, but {', '.join(missing[:3])} unused" if missing else "yes"
    try:
        wrong = ancestry_differences(graph, model, inputs)
    except Exception as error:
        return complete, f"not checked: {type(error).__name__}: {str(error)[:90]}", duration
    return complete, f"{len(wrong)} differences: {wrong[0][:100]}" if wrong else "equal", duration


def check_families(only: str, first: int, step: int) -> None:
    """Print a table of the families whose package is installed."""
    chosen = [(name, family) for name, family in FAMILIES.items() if only in f"{family.package}:{name}"][first::step]
    counts = Counter[str]()
    for name, family in chosen:
        installed = importlib.util.find_spec(family.package) is not None
        row = check_family(family) if installed else ("not installed", "", "")
        good = row[0].startswith("yes") and row[1] == "equal"
        counts[f"{family.package}: {'complete and equal' if good else 'other'}"] += 1
        print(f"{family.package:28} {name:40} {row[0]:20} {row[1]:10} {row[2]}", flush=True)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))


def main() -> None:
    """Trace them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("torchvision", "timm", "families"), default="torchvision")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--part", default="0/1", help="every n-th model from the k-th on, as k/n")
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    warnings.simplefilter("ignore")
    if options.library == "families":
        check_families(options.only, first, step)
        return
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
