"""`evaluate`: the networks of a split with predicted parameters, run on images as in the literature.

    for every network:   graph ──predictor──▶ parameters ──▶ accuracy on all images  (batch 64, batch statistics)

Every network has a row.  One that a predictor fails for (it raises, hangs, takes too much memory, its parameters are
incomplete, of wrong shapes, or lead to outputs that are not finite) costs the predictor that network: the row says why,
and the summary counts it.  Accuracies are in percent.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation.networks import FOR_CHOOSING, open_networks
from benchmark.evaluation.parallel import evaluate_all, memory_limit, pickled
from benchmark.evaluation.predictors import Predictor, describe_predictor, open_predictor
from benchmark.evaluation.rows import ROW, evaluate_one
from deepnets.data import Images, open_images
from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.ghn import GHN

__all__ = ["evaluate"]


def evaluate(
    predictor: Predictor | GHN | str,
    split: str = "test",
    images: str | Images = "digits",
    *,
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    noise: float = 0.0,
    device: torch.device | str = "cpu",
    seed: int = 0,
    jobs: int = 1,
    timeout: float | None = None,
    memory: int | None = None,
    backend: str = "threading",
    progress: bool = False,
) -> pd.DataFrame:
    """Evaluate a predictor on the networks of a split.

    Parameters
    ----------
    predictor
        A callable, which is given each network, in evaluation mode, and its graph; a hypernetwork; or a text that names
        one, such as "ghn2-digits" or "my_module:predict" (`benchmark.evaluation.predictors`).
    split
        Of the networks: one that `DeepNets1M` knows, or models of a library, as "torchvision:resnet50,vit_b_16".
    images
        The set to evaluate on: its name, for its test images (validation images for the networks of `train`, `val` and
        `search`, as published), or the images themselves.
    data, image_root
        Folders of the corpus and of the images.
    limit
        Evaluate so many networks, from the first on.
    batch_size
        As in `evaluate_network`; where memory runs out, 32, 16, 8, 4 and 2 are tried.
    noise
        Standard deviation of noise that is added to the images, if they are given by their name: 0.08 in the published
        test of robustness (0.18 for ImageNet).
    device
        Where networks run, if the images are given by their name.
    seed
        Of the initial values of networks, of noise, and of the random numbers that a predictor draws: each network has
        its own, whichever others are evaluated.
    jobs
        Networks at a time, each in a process of its own, in which PyTorch uses one thread.
    timeout
        Seconds that a network may take; then its process is stopped.
    memory
        Bytes that a process may take; by default, all of them together nine tenths of what is available.
    backend
        Of joblib, one of `benchmark.evaluation.BACKENDS`.
    progress
        Whether to show a bar.

    Returns
    -------
    One row per network, in order, with the columns `benchmark.evaluation.ROW`: `index`, `network` (name, if it has
    one), `num_nodes`, `num_params` (of the whole network), `depth` (nodes on the longest path), `top1` and `top5`
    (percent, NaN if it failed), `num_images`, `batch_size`, `batch_norm` ("batch", or "running" for trained networks),
    `graph_seconds`, `build_seconds`, `predict_seconds`, `evaluate_seconds` (NaN from where it failed), `memory_mb`,
    `status` ("ok" or "failed") and `reason`. `attrs` of the table say what was evaluated, and how. Everything but times
    and memory is the same again for the same seed, on a CPU bit by bit (PyTorch's threads being as many).

    Raises
    ------
    ConfigError
        For an option outside what is allowed, a split that has not been built, a predictor for another number of
        classes.
    FormatError, IntegrityError
        If the corpus or an image is damaged.  Whatever else happens costs the network it happens to.

    Notes
    -----
    Without `jobs`, `timeout` and `memory`, everything happens in this process, which a predictor can then hang or end.

    Examples
    --------
    >>> table = evaluate("ghn2-digits", limit=10)                            # doctest: +SKIP
    >>> from ghn_model import GHN
    >>> ghn = GHN.from_pretrained("ghn2_cifar10.pt")                         # doctest: +SKIP
    >>> table = evaluate(ghn, images="cifar10", image_root="images")         # doctest: +SKIP
    >>> print(summarize(table))                                              # doctest: +SKIP
    66.9±0.3, best 77.1 (network 210), 500 networks, 0 failed
    """
    if not callable(predictor) and not isinstance(predictor, str):
        raise ConfigError(f"predictor: expected a callable, a GHN or a text, got {type(predictor).__name__}")
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    seed = checked_integer("seed", seed, range(2**63))
    jobs = checked_integer("jobs", jobs, at_least(1))
    if limit is not None:
        limit = checked_integer("limit", limit, at_least(1))
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"timeout: expected a number of seconds above 0, got {timeout!r}")
    if isinstance(images, str):
        part = "val" if split in FOR_CHOOSING else "test"
        images = open_images(images, part, root=image_root, device=device, noise=noise)
    elif noise:
        raise ConfigError("noise: belongs to images that are given by their name; others bring their own")
    networks = open_networks(
        split, data=data, num_classes=images.num_classes, image_size=images.image_size, limit=limit
    )
    label = ""
    if isinstance(predictor, str):
        label = describe_predictor(predictor).label
        opened = open_predictor(predictor, networks, images, image_root=image_root, device=images.device, seed=seed)
    else:
        opened = predictor
    if isinstance(opened, GHN) and opened.config.num_classes != images.num_classes:
        raise ConfigError(
            f"predictor: predicts networks for {opened.config.num_classes} classes, {images.name} has "
            f"{images.num_classes}"
        )
    bar = tqdm(total=len(networks), desc=networks.name, disable=not progress, unit="network")
    with bar:
        if jobs == 1 and timeout is None and memory is None:
            rows = []
            for index in range(len(networks)):
                rows.append(evaluate_one(networks, index, opened, images, batch_size=batch_size, seed=seed))
                bar.update()
        else:
            task: dict[str, Any] = {
                "networks": split,
                "data": str(data),
                "limit": limit,
                "batch_size": batch_size,
                "seed": seed,
            }
            task |= {"devices": [str(images.device)], "image_root": str(image_root) if image_root else None}
            task |= {
                "folder": str(Path.cwd()),
                "threads": 1,
                "timeout": timeout,
                "memory": memory or memory_limit(jobs),
            }
            task |= {"images_pickled": pickled(images)}
            task |= (
                {"predictor": predictor} if isinstance(predictor, str) else {"predictor_pickled": pickled(predictor)}
            )
            found: dict[int, dict[str, Any]] = {}
            work = [(task, index) for index in range(len(networks))]
            with contextlib.closing(evaluate_all(work, jobs=jobs, backend=backend)) as results:
                for place, row in results:
                    found[place] = row
                    bar.update()
            rows = [found[place] for place in range(len(work))]
    table = pd.DataFrame(rows, columns=list(ROW))
    table.attrs = {"split": split, "images": images.name, "image_split": images.split, "num_images": len(images)}
    table.attrs |= {"batch_size": batch_size, "batch_norm": "batch", "device": str(images.device), "seed": seed}
    table.attrs |= {"noise": noise, "predictor": label or getattr(predictor, "__name__", type(predictor).__name__)}
    return table
