"""Evaluating predicted parameters by the protocol of Knyazev et al. (NeurIPS 2021, section 5).

Every network is run on all images of a set with the parameters that were predicted for it, in batches of 64, batch
norms with the statistics of the batch.  A predictor that fails on a network fails on that network: the row says why,
and the summary counts it.  Accuracies are in percent.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from deepnets.dataset import DeepNets1M
from deepnets.errors import ConfigError, FormatError
from deepnets.graph import Graph
from deepnets.images import Images, open_images
from deepnets.space import at_least, checked_integer
from ghn_model.ghn import GHN, use_batch_statistics

__all__ = ["Accuracy", "Predictor", "Summary", "evaluate", "evaluate_network", "summarize"]

Predictor = Callable[[nn.Module, Graph], Mapping[str, Tensor]]
"""Predicts the parameters of a network, by name, from the network (with its initial values) or from its graph."""

BATCH_SIZE = 64
OK, FAILED = "ok", "failed"

# Networks by whose results something is chosen: test images are not for them.
_FOR_CHOOSING = ("train", "val", "search")
_PHASES = ("graph", "build", "predict", "evaluate")


class Accuracy(NamedTuple):
    """How many images a network classified correctly.

    Attributes
    ----------
    top1, top5
        In percent: the right class is the first, or among the first five.
    images
        Number of images.
    """

    top1: float
    top5: float
    images: int


class Summary(NamedTuple):
    """A split in one line, over the networks that did not fail.

    Attributes
    ----------
    mean, standard_error
        Of the metric; the error is that of the mean, from the population's standard deviation.
    best, best_index
        The largest, and which network it is of; -1 if all failed.
    networks, failures
        How many there are, and how many of them failed.
    """

    mean: float
    standard_error: float
    best: float
    best_index: int
    networks: int
    failures: int

    def __str__(self) -> str:
        return (
            f"{self.mean:.1f}±{self.standard_error:.1f}, best {self.best:.1f} (network {self.best_index}), "
            f"{self.networks} networks, {self.failures} failed"
        )


# --- one network ---


@torch.no_grad()
def evaluate_network(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    unused: Collection[str] = (),
) -> Accuracy:
    """Run a network with predicted parameters on all images of a set.

    Parameters
    ----------
    model
        The network, on any device, its own parameters maybe on `meta`.  It is left as it is, in values, mode and
        statistics: what runs is a copy that shares its parameters, in evaluation mode, with batch norms that have no
        running statistics, which makes them use those of the batch.
    parameters
        All parameters by name, on any device.
    images
        The images; the network is run on their device.
    batch_size
        64 in the published protocol; with batch norms, accuracies depend on it.
    unused
        Parameters that may be missing, since no data reaches them: the names of `Graph.unused`.

    Returns
    -------
    Accuracies over all images, so that a smaller last batch counts as many as it has.

    Raises
    ------
    ConfigError
        If a tensor is missing, not one of the network's, of another shape or not finite, or if the network has another
        number of classes than the images.
    FloatingPointError
        If an output is not finite.
    """
    _check(parameters, model, unused)
    device = images.device
    shell = _shell(model)
    own = {**dict(shell.named_parameters()), **dict(shell.named_buffers())}
    values = {name: tensor.to(device) for name, tensor in own.items() if name not in parameters and not tensor.is_meta}
    values |= {name: tensor.detach().to(device, own[name].dtype) for name, tensor in parameters.items()}

    seen = 0
    hits = torch.zeros(3, dtype=torch.int64, device=device)  # top 1, top 5, images with an output that is not finite
    for batch, labels in images.batches(batch_size):
        logits = torch.func.functional_call(shell, values, batch)
        logits = logits[0] if isinstance(logits, tuple) else logits
        if not isinstance(logits, Tensor) or logits.shape != (len(batch), images.num_classes):
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"model: expected outputs of shape {(len(batch), images.num_classes)}, for the classes of "
                f"{images.name}, got {got}"
            )
        ranked = logits.topk(min(5, images.num_classes), dim=1).indices == labels[:, None]
        broken = ~logits.isfinite().all(dim=1)
        hits += torch.stack([ranked[:, 0].sum(), ranked.sum(), broken.sum()])
        seen += len(batch)
    top1, top5, bad = hits.tolist()  # the one time that the device is waited for
    if bad:
        raise FloatingPointError(f"the network's outputs are not finite, for {bad:,} of {seen:,} images")
    if not seen:
        raise ConfigError(f"images: {images.name} ({images.split}) has none")
    return Accuracy(100 * top1 / seen, 100 * top5 / seen, seen)


def _shell(model: nn.Module) -> nn.Module:
    """A copy of a network that shares its parameters, for evaluation with the statistics of the batch."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return use_batch_statistics(copy.deepcopy(model, shared)).eval()


def _check(parameters: Any, model: nn.Module, unused: Collection[str]) -> None:
    """Make sure that all parameters are there that data reaches, and that they are what they should be."""
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"parameters: expected a dict of tensors, got {type(parameters).__name__}")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if missing := [name for name in shapes if name not in parameters and name not in unused]:
        raise ConfigError(f"parameters: {len(missing)} of {len(shapes)} are missing: {_some(missing)}")
    if extra := [str(name) for name in parameters if name not in shapes]:
        raise ConfigError(f"parameters: the network has none of the name {_some(extra)}")
    for name, tensor in parameters.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point():
            got = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ConfigError(f"parameters: {name}: expected floating-point numbers of shape {shapes[name]}, got {got}")
        if tensor.is_meta:
            raise ConfigError(f"parameters: {name}: is on the meta device, which holds no values")
    finite = [tensor.isfinite().all() for tensor in parameters.values()]
    if finite and not bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all()):
        broken = [name for name, flag in zip(parameters, finite, strict=True) if not flag]
        raise ConfigError(f"parameters: {len(broken)} are not finite: {_some(broken)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# --- a split ---


def evaluate(
    predictor: Predictor | GHN,
    split: str = "test",
    images: str | Images = "digits",
    *,
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Evaluate a predictor on the networks of a split.

    Parameters
    ----------
    predictor
        A callable, which is given each network, in evaluation mode, and its graph; or a hypernetwork.
    split
        Of the networks: one that `DeepNets1M` knows.
    images
        The set to evaluate on: its name, for its test images (validation images for the networks of `train`, `val` and
        `search`, as published), or the images themselves.
    data, image_root
        Folders of the corpus and of the images.
    limit
        Evaluate so many networks, from the first on.
    batch_size
        As in `evaluate_network`.
    device
        Where networks run, if the images are given by their name.
    seed
        Of the initial values of networks and of the random numbers that a predictor draws: each network has its own,
        whichever others are evaluated.
    progress
        Whether to show a bar.

    Returns
    -------
    One row per network, in order: `index`, `num_params` (of the whole network), `top1` and `top5` (percent, NaN if it
    failed), `graph_seconds`, `build_seconds`, `predict_seconds`, `evaluate_seconds` (NaN from where it failed),
    `status` ("ok" or "failed") and `reason`.  `attrs` of the table say what was evaluated, and how.  Everything but
    times is the same again for the same seed, on a CPU bit by bit.

    Raises
    ------
    ConfigError
        For an option outside what is allowed, a split that has not been built, a predictor for another number of
        classes.
    FormatError, IntegrityError
        If the corpus or an image is damaged.  Whatever else happens costs the network it happens to.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> ghn = GHN.from_pretrained("ghn2_cifar10.pt")                         # doctest: +SKIP
    >>> table = evaluate(ghn, images="cifar10", image_root="images")         # doctest: +SKIP
    >>> print(summarize(table))                                              # doctest: +SKIP
    66.9±0.3, best 77.1 (network 210), 500 networks, 0 failed
    """
    if not callable(predictor):
        raise ConfigError(f"predictor: expected a callable or a GHN, got {type(predictor).__name__}")
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    seed = checked_integer("seed", seed, range(2**63))
    if limit is not None:
        limit = checked_integer("limit", limit, at_least(1))
    if isinstance(images, str):
        part = "val" if split in _FOR_CHOOSING else "test"
        images = open_images(images, part, root=image_root, device=device)
    if isinstance(predictor, GHN) and predictor.config.num_classes != images.num_classes:
        raise ConfigError(
            f"predictor: predicts networks for {predictor.config.num_classes} classes, {images.name} has "
            f"{images.num_classes}"
        )
    nets = DeepNets1M(data, split, num_classes=images.num_classes, image_size=images.image_size, num_nets=limit)
    with contextlib.closing(nets):
        bar = tqdm(range(len(nets)), desc=split, disable=not progress, unit="network")
        table = pd.DataFrame([_row(nets, index, predictor, images, batch_size, seed) for index in bar])
    table.attrs = {"split": split, "images": images.name, "image_split": images.split, "num_images": len(images)}
    table.attrs |= {"batch_size": batch_size, "batch_norm": "batch", "device": str(images.device), "seed": seed}
    return table


def summarize(table: pd.DataFrame, metric: str = "top1") -> Summary:
    """The mean of a metric over the networks of a table that did not fail, and how many did.

    Parameters
    ----------
    table
        What `evaluate` returned.
    metric
        A column: "top1", as published for CIFAR-10, or "top5", as for ImageNet.

    Raises
    ------
    ConfigError
        If there is no such column.
    """
    if metric not in table.columns:
        raise ConfigError(f"metric: the table has no column {metric!r}; it has {', '.join(map(str, table.columns))}")
    fine = table[table["status"] == OK]
    values = fine[metric].to_numpy(float)
    failures = len(table) - len(fine)
    if not len(values):
        return Summary(math.nan, math.nan, math.nan, -1, len(table), failures)
    error = float(values.std() / np.sqrt(len(values)))
    best = int(values.argmax())
    return Summary(
        float(values.mean()), error, float(values[best]), int(fine["index"].iloc[best]), len(table), failures
    )


def _row(
    nets: DeepNets1M, index: int, predictor: Predictor | GHN, images: Images, batch_size: int, seed: int
) -> dict[str, Any]:
    """What there is to say about one network."""
    row: dict[str, Any] = {"index": index, "num_params": 0, "top1": math.nan, "top5": math.nan}
    row |= {f"{phase}_seconds": math.nan for phase in _PHASES} | {"status": OK, "reason": ""}
    device = images.device
    try:
        with _seeded(seed, index, device):
            with _timed(row, "graph", device):
                graph = nets[index]
                unused = {slot.name for slot in graph.unused}
            # A hypernetwork does not look at values, so none are made.
            with _timed(row, "build", device), torch.device("meta" if isinstance(predictor, GHN) else "cpu"):
                model = nets.network(index).eval()
            row["num_params"] = sum(parameter.numel() for parameter in model.parameters())
            with _timed(row, "predict", device):
                if isinstance(predictor, GHN):
                    parameters = predictor.predict(model, graph=graph)
                else:
                    parameters = predictor(model, graph)
            with _timed(row, "evaluate", device):
                accuracy = evaluate_network(model, parameters, images, batch_size=batch_size, unused=unused)
    except FormatError:  # the corpus or the images are at fault, not the predictor
        raise
    except Exception as error:  # a predictor is anybody's code
        known = isinstance(error, ConfigError | FloatingPointError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        return {**row, "status": FAILED, "reason": " ".join(reason.split())[:300]}
    return {**row, "top1": accuracy.top1, "top5": accuracy.top5}


@contextlib.contextmanager
def _timed(row: dict[str, Any], phase: str, device: torch.device) -> Iterator[None]:
    """Write into a row how long something took that did not fail, the work of the GPU included."""
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    row[f"{phase}_seconds"] = time.perf_counter() - started


@contextlib.contextmanager
def _seeded(seed: int, index: int, device: torch.device) -> Iterator[None]:
    """Random numbers of PyTorch that depend on these two numbers; the caller's go on afterwards as if nothing was."""
    word = int(np.random.Philox(key=[seed, index]).random_raw())
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
        yield
