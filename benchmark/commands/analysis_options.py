"""Options that the commands of the analyses share, and functions that load what the options name."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.commands.options import metric_name
from deepnets.support import deprecated_option, install_command, positive, replace_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from deepnets.corpus import DeepNets1M
    from ghn_model.ghn import GHN

__all__ = [
    "NO_FIGURES",
    "Inputs",
    "add_target_arguments",
    "load_hypernetworks",
    "load_inputs",
    "opened_split",
    "write_table",
]

NO_FIGURES = f"matplotlib is not installed, so no figures are drawn: {install_command('plotting')}"


class Inputs(NamedTuple):
    """Embeddings and properties of networks.

    Attributes
    ----------
    features
        Embeddings by name of the hypernetwork and split, ``(n, f)`` float32.
    targets
        Tables by split, with one row per network, `index` and the properties.
    about
        Description of the source of the properties.
    """

    features: dict[str, dict[str, npt.NDArray[np.float32]]]
    targets: dict[str, pd.DataFrame]
    about: str


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the source of networks, embeddings and properties.

    Parameters
    ----------
    parser
        Parser of the command.
    """
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help="folder of the published files, for the published networks (default: none)",
    )
    source.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of results of runs (default: results)"
    )
    parser.add_argument(
        "--images", help="image set of the properties (default: that of the results; cifar10 for published files)"
    )
    parser.add_argument("--predictor", help="label of the predictor in --results (default: the only one)")
    parser.add_argument(
        "--metric",
        type=metric_name,
        metavar="NAME",
        help="metric of results, a name or module:attribute (default: top1, for imagenet top5)",
    )
    parser.add_argument(
        "--curves", type=Path, metavar="DIR", help="folder of curves.csv, for convergence (default: that of --results)"
    )
    parser.add_argument("--cache", type=Path, default=Path("results/embeddings"), help="folder of cached embeddings")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="worker processes (default: one per core)"
    )
    deprecated_option(parser, "--jobs", "--workers")
    parser.add_argument("--device", default="cpu", help="device of the embeddings (default: cpu)")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bars")


def load_inputs(options: argparse.Namespace, ghns: dict[str, GHN], splits: Sequence[str] = ("val", "test")) -> Inputs:
    """Load embeddings and properties of networks.

    Parameters
    ----------
    options
        The parsed options of `add_target_arguments`.  `predictor` and `images` are set to those of the results.
    ghns
        Hypernetworks by name.
    splits
        Splits of the networks.

    Returns
    -------
    Embeddings and properties.  Networks after the last one with a known property are left out.
    """
    import numpy as np

    from benchmark.analyses import (
        PROPERTIES,
        cached_embeddings,
        choose_rows,
        own_targets,
        published_targets,
        read_curves,
    )
    from benchmark.results import read_results

    features: dict[str, dict[str, Any]] = {name: {} for name in ghns}
    targets: dict[str, pd.DataFrame] = {}
    about: list[str] = []
    rows = curves = None
    if options.published is None:
        results = read_results(options.results)
        rows = choose_rows(results, splits, options.predictor, options.images)
        options.predictor, options.images = str(rows["predictor"].iloc[0]), str(rows["images"].iloc[0])
        folder = options.curves or options.results
        if options.curves or (folder / "curves.csv").is_file():
            curves = read_curves(folder, options.predictor, options.images)
    for split in splits:
        with opened_split(options, split, next(iter(ghns.values()))) as nets:
            if rows is None:
                table = published_targets(options.published, options.images or "cifar10", nets)
                whose = table.attrs["about"]
            else:
                table = own_targets(rows, nets, runs=results.runs, metric=options.metric, curves=curves)
                whose = f"{options.predictor} on {options.images}, {table.attrs['about']}"
                if curves is not None and options.predictor not in set(curves["predictor"]):
                    whose += f"; convergence times of {curves['predictor'].iloc[0]}"
        known = np.flatnonzero(table[list(PROPERTIES)].notna().any(axis=1))
        targets[split] = table[: known[-1] + 1 if len(known) else 1]
        about.append(f"{split}: {whose}")
    for split, table in targets.items():
        for name, ghn in ghns.items():
            with opened_split(options, split, ghn, len(table)) as nets:
                features[name][split] = cached_embeddings(
                    ghn, nets, options.cache, workers=options.workers, progress=not options.quiet
                )
    return Inputs(features, targets, "; ".join(about))


@contextlib.contextmanager
def opened_split(
    options: argparse.Namespace, split: str, ghn: GHN | None = None, limit: int | None = None
) -> Iterator[DeepNets1M]:
    """Open a split for the number of classes and the image size that a hypernetwork was trained for."""
    from deepnets.corpus import DeepNets1M

    classes = ghn.config.num_classes if ghn else 10
    side = 224 if ghn and ghn.config.max_shape[2] > 11 else 32
    if ghn and ghn.config.decoder == "lowrank":  # its shape encoder has rows for large kernels with all images
        side = 224 if classes > 100 else 32
    nets = DeepNets1M(options.data, split, num_classes=classes, image_size=side, num_nets=limit)
    with contextlib.closing(nets):
        yield nets


def load_hypernetworks(names: Sequence[str], device: str) -> dict[str, GHN]:
    """Load hypernetworks by label: the bundled name, or the stem of the file (its path, if stems are equal)."""
    from ghn_model import load_checkpoint

    loaded: dict[str, GHN] = {}
    for name in names:
        label = Path(name).stem if Path(name).suffix else name
        if label in loaded:
            label = name
        loaded[label] = load_checkpoint(name, device)
    return loaded


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file atomically; its folder is created if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, table.to_csv(index=False, lineterminator="\n"))
