"""What `runs.json` states about a run: the networks, the command, versions and the machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation import Machine
from benchmark.evaluation.predictor_texts import source_digest
from benchmark.metrics import Metric
from benchmark.results.code_texts import describe_code
from deepnets.data import parse_name
from deepnets.families import PREFIX, split_of
from deepnets.support import is_attribute, is_of_user

__all__ = [
    "covering",
    "evaluation_command",
    "is_complete",
    "machine_text",
    "package_versions",
    "sources",
    "stated_options",
]

PACKAGES = ("torch", "numpy", "torchvision", "timm")
"""Packages whose versions are stored with a run."""


_STATED = ("task", "tokenizer", "sequence_length", "vocabulary", "batch_size", "seed")
"""Options of the command that descriptions state beside the data."""

_DEFAULTS = {
    "images": "digits",
    "texts": "python",
    "tokenizer": "bytes",
    "sequence_length": 64,
    "task": "classification",
    "noise": [0.0],
    "batch_size": BATCH_SIZE,
    "seed": 0,
    "data": Path("data"),
    "out": Path("results"),
    "device": ["cpu"],
    "threads": 1,
}
"""What the command `deepnets bench` uses without these options."""


def covering(
    about: Mapping[str, Any], earlier: Mapping[str, Any], asked: Collection[int], done: Collection[int]
) -> dict[str, Any]:
    """Return the description of a run on the networks of this call, and of earlier ones that have rows.

    Parameters
    ----------
    about, earlier
        Description of this call, and the stored one of earlier calls, which can be empty.  Its command is kept if it
        evaluates more networks, because it is the one that reproduces the rows.
    asked, done
        Indices of the networks of this call, and of those that have rows.

    Examples
    --------
    >>> whole = {"networks": 3, "split_size": 9, "limit": 3, "command": "all"}
    >>> covering({**whole, "networks": 1, "limit": None, "index": [1], "command": "one"}, whole, [1], [0, 1, 2])
    {'networks': 3, 'split_size': 9, 'limit': 3, 'command': 'all'}
    """
    indices = {*asked, *done}
    found = dict(about)
    if len(indices) != about["networks"]:
        is_first = indices == set(range(len(indices)))
        found = {name: value for name, value in about.items() if name != "index"} | {"networks": len(indices)}
        found["limit"] = len(indices) if is_first and len(indices) < about["split_size"] else None
        found |= {} if is_first else {"index": sorted(indices)}
    if earlier.get("command") and len(asked) < len(indices) and set(asked) <= _networks(earlier):
        found["command"] = earlier["command"]
    return found


def is_complete(about: Mapping[str, Any], done: Collection[int]) -> bool:
    """Whether there is a stored description of which all networks have rows.

    Examples
    --------
    >>> is_complete({"networks": 2, "split_size": 9}, {0, 1}), is_complete({}, {0})
    (True, False)
    """
    return bool(about) and _networks(about) <= set(done)


def _networks(about: Mapping[str, Any]) -> set[int]:
    """The networks that a stored description states."""
    index, number = about.get("index"), about.get("networks")
    if isinstance(index, list):
        return {place for place in index if isinstance(place, int)}
    return set(range(number)) if isinstance(number, int) and number <= about.get("split_size", 0) else set()


def evaluation_command(predictors: Iterable[str], networks: Iterable[str], options: Mapping[str, Any]) -> str:
    """Return the command line that is equivalent to a call of `run`; empty if an argument has no text.

    Parameters
    ----------
    predictors, networks
        As for `run`.
    options
        Other arguments by the names of the options of the command, with `_` for `-`.  Those that are None or have the
        default value of the command are left out.

    Examples
    --------
    >>> options = {"images": "cifar10", "limit": {"test": 5}, "seed": 0, "no_class_layers": True}
    >>> evaluation_command(["mine:predict"], ["test"], options)
    'deepnets bench --predictors mine:predict --splits test --images cifar10 --limit test=5 --no-class-layers'
    """
    words = ["deepnets", "bench", "--predictors", *predictors, "--splits", *networks]
    for name, value in options.items():
        if value is None or value is False or value == _DEFAULTS.get(name):
            continue
        if isinstance(value, Mapping):
            numbers = {key.partition(":")[0]: number or 0 for key, number in value.items()}  # "family=5" is for all
            if len(numbers) < len(value):
                return ""
            values: list[Any] = [f"{key}={number}" for key, number in numbers.items()]
        else:
            values = [] if value is True else list(value) if isinstance(value, (list, tuple)) else [value]
        if any(not isinstance(each, (str, int, float, Path)) for each in values):
            return ""
        words += [f"--{name.replace('_', '-')}", *map(str, values)] if values or value is True else []
    return shlex.join(words)


def stated_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `deepnets bench` that the description of a run states, the name of the data first.

    Parameters
    ----------
    about
        A description, which is not trusted.

    Examples
    --------
    >>> about = {"images": "python", "task": "text", "data_options": {"sequence_length": 32}, "seed": 0}
    >>> stated_options(about)
    {'texts': 'python', 'task': 'text', 'sequence_length': 32, 'seed': 0}
    """
    options = about.get("data_options")  # of texts
    given = {**about, **(options if isinstance(options, dict) else {})}
    found = {"texts" if isinstance(options, dict) else "images": about.get("images")}
    found |= {name: given.get(name) for name in _STATED}
    return {name: value for name, value in found.items() if value is not None}


def sources(images: str, networks: str, others: Iterable[Any]) -> dict[str, str]:
    """Return digests of the code of the user that images, networks, metrics and a task consist of.

    Parameters
    ----------
    images, networks
        Their names, of which those of the form `module:attribute` name modules.
    others
        Metrics and tasks, by name or as objects.

    Returns
    -------
    The digest of each module by its name; those of functions and classes of a script or notebook (`__main__`), and of
    `functools.partial`, by the names of metrics and classes.

    Examples
    --------
    >>> sources("torchvision:CIFAR100", "family:resnet-widths/val", ["top1"])
    {}
    """
    others = list(others)
    texts = [images, *(each for each in others if isinstance(each, str))]
    if networks.startswith(PREFIX):
        texts.append(split_of(networks, "")[0])
    modules = {text.partition(":")[0] for text in texts if is_attribute(text) and parse_name(text) is None}
    lasting, passing = set(), {}
    for name, code in _code_of(others):
        module = _module_of(code)
        if module == "__main__" or isinstance(code, functools.partial):  # of a script, whose other lines change often
            passing[name] = hashlib.sha256(describe_code(code).encode()).hexdigest()
        if module != "__main__" and is_of_user(module):
            lasting.add(module)
    digests = {module: source_digest(module) for module in sorted(modules | lasting)}
    return {name: digest for name, digest in (digests | passing).items() if digest}


def _code_of(found: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over the functions of metrics, and tasks, each with a name."""
    for each in found:
        if isinstance(each, Metric):
            yield from ((f"{each.name}.{name}", getattr(each, name)) for name in ("score", "from_mean"))
        elif not isinstance(each, str):
            yield type(each).__qualname__, each


def _module_of(value: Any) -> str:
    """Return the name of the module of a function or a class, or of the class of an object."""
    value = getattr(value, "func", value)  # of functools.partial
    return str((value if hasattr(value, "__code__") or isinstance(value, type) else type(value)).__module__)


def package_versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of `PACKAGES`, as far as they are installed."""
    from deepnets import __version__

    versions = {"deepnets1m": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def machine_text(machine: Machine) -> str:
    """Return devices and workers as text.

    Examples
    --------
    >>> machine_text(Machine(backend="ray", address="head:6379"))
    'ray cluster, cpu, all workers with 1 thread each'
    """
    first = machine.devices[0]
    threads = f"{machine.threads} {'thread' if machine.threads == 1 else 'threads'}"
    if machine.address is not None:
        number = "all" if machine.workers is None else machine.workers
        return f"{machine.backend} cluster, {', '.join(machine.devices)}, {number} workers with {threads} each"
    if first.startswith("cuda"):
        what = f"{len(machine.devices)} x {torch.cuda.get_device_name(first)}"
    else:
        what = f"{platform.system()} {platform.machine()}, CPU"
    return f"{what}, {machine.workers} {'worker' if machine.workers == 1 else 'workers'} with {threads} each"
