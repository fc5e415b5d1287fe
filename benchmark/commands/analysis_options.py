"""What the commands of the analyses have in common: their options, and what these stand for."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepnets.support import positive

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from deepnets.corpus import DeepNets1M
    from ghn_model.ghn import GHN

__all__ = [
    "NO_PICTURES",
    "Inputs",
    "add_target_arguments",
    "load_hypernetworks",
    "load_inputs",
    "opened_split",
    "write_table",
]

NO_PICTURES = 'matplotlib is not installed, so there are no pictures: pip install "deepnets1m[plotting]"'


class Inputs(NamedTuple):
    """Networks as vectors, and what is known about them.

    Attributes
    ----------
    features
        By name and split, `(n, f)` vectors.
    targets
        By split, one row per network with `index` and the properties.
    about
        In words, what the targets are.
    """

    features: dict[str, dict[str, npt.NDArray[np.float32]]]
    targets: dict[str, pd.DataFrame]
    about: str


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where networks, vectors and their properties come from."""
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (data)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--published", type=Path, metavar="DIR", help="properties from the published files, for the published networks"
    )
    source.add_argument("--results", type=Path, default=Path("results"), help="properties from our runs (results)")
    parser.add_argument("--images", help="which images the properties are of (of published files cifar10)")
    parser.add_argument("--predictor", help="whose results in --results (the only one)")
    parser.add_argument("--metric", choices=("top1", "top5"), help="of our runs (top1, with imagenet top5)")
    parser.add_argument("--curves", type=Path, metavar="DIR", help="folder of curves.csv, for convergence (--results)")
    parser.add_argument("--cache", type=Path, default=Path("results/embeddings"), help="folder of computed vectors")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--device", default="cpu", help="where embeddings are computed (cpu)")
    parser.add_argument("--quiet", action="store_true", help="no bars")


def load_inputs(options: argparse.Namespace, ghns: dict[str, GHN], splits: Sequence[str] = ("val", "test")) -> Inputs:
    """Vectors and properties of the networks of some splits, as the options say.

    Networks behind the last one of which a property is known are left out.
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
        known = np.flatnonzero(table[list(PROPERTIES)].notna().any(axis=1))
        targets[split] = table[: known[-1] + 1 if len(known) else 1]
        about.append(f"{split}: {whose}")
    for split, table in targets.items():
        for name, ghn in ghns.items():
            with opened_split(options, split, ghn, len(table)) as nets:
                features[name][split] = cached_embeddings(
                    ghn, nets, options.cache, jobs=options.jobs, progress=not options.quiet
                )
    return Inputs(features, targets, "; ".join(about))


@contextlib.contextmanager
def opened_split(
    options: argparse.Namespace, split: str, ghn: GHN | None = None, limit: int | None = None
) -> Iterator[DeepNets1M]:
    """A split with the classes and images that a hypernetwork was made for."""
    from deepnets.corpus import DeepNets1M

    classes = ghn.config.num_classes if ghn else 10
    side = 224 if ghn and ghn.config.max_shape[2] > 11 else 32
    nets = DeepNets1M(options.data, split, num_classes=classes, image_size=side, num_nets=limit)
    with contextlib.closing(nets):
        yield nets


def load_hypernetworks(names: Sequence[str], device: str) -> dict[str, GHN]:
    """Hypernetworks by labels: bundled names, or the stems of files, made different where they are the same."""
    from ghn_model import load_checkpoint

    loaded: dict[str, GHN] = {}
    for name in names:
        label = Path(name).stem if Path(name).suffix else name
        if label in loaded:
            label = name
        loaded[label] = load_checkpoint(name, device)
    return loaded


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        table.to_csv(temporary, index=False, lineterminator="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
