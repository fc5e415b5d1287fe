"""The commands `python -m benchmark properties` and `python -m benchmark statistics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.choices import PROJECTIONS, PROPERTIES
from benchmark.commands import statistics as statistics_command
from benchmark.commands.analysis_options import NO_FIGURES, add_target_arguments
from deepnets.support import ListOption, examples

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from benchmark.analyses import PropertyScore
    from benchmark.commands.analysis_options import Inputs

__all__ = ["add_arguments"]

EPILOG = """
Support vector regression from mean embeddings to a property is fitted on the networks of val and tested on those of
test, as published: Kendall's tau-b, mean and standard deviation over five orders of the training networks.  The command
writes properties.csv, predictions.csv, map.csv, correlations.csv and figures.

""" + examples(
    "deepnets properties --checkpoint ghn2-digits --results results",
    "deepnets properties --checkpoint ghn2_cifar10.pt mlp_cifar10.pt --published published",
)
SIMPLE = "graph statistics"


def add_arguments(commands: Any) -> None:
    """Add the commands to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    properties = commands.add_parser(
        "properties", help="predict properties of trained networks from their graphs", epilog=EPILOG
    )
    properties.add_argument(
        "--checkpoint",
        required=True,
        action=ListOption,
        paths=True,
        metavar="NAME",
        help="hypernetworks: bundled names, or files",
    )
    add_target_arguments(properties)
    properties.add_argument(
        "--properties", action=ListOption, choices=PROPERTIES, help="properties (default: all that are known)"
    )
    properties.add_argument("--projection", choices=PROJECTIONS, default="pca", help="projection of the map")
    properties.add_argument(
        "--out", type=Path, default=Path("results/properties"), help="folder of the tables and figures"
    )
    properties.set_defaults(do=run)
    statistics_command.add_arguments(commands)


def run(options: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    from benchmark.analyses import graph_statistics, simple_features
    from benchmark.commands.analysis_options import load_hypernetworks, load_inputs, opened_split, write_table

    ghns = load_hypernetworks(options.checkpoint, options.device)
    inputs = load_inputs(options, ghns)
    print(f"properties of {inputs.about}")
    names = _chosen(inputs, options.properties)
    graphs = {}
    for split in ("val", "test"):
        with opened_split(options, split, next(iter(ghns.values())), len(inputs.targets[split])) as nets:
            graphs[split] = graph_statistics(nets, progress=not options.quiet)
    simple = dict(zip(("val", "test"), simple_features(graphs["val"], graphs["test"])))
    features: dict[str, dict[str, Any]] = {**inputs.features, SIMPLE: simple}
    scores = {label: _scores(vectors, inputs.targets, names, options) for label, vectors in features.items()}
    out: Path = options.out
    table = _table(scores)
    write_table(table, out / "properties.csv")
    write_table(_predictions(scores, inputs.targets["test"]), out / "predictions.csv")
    write_table(_correlations(graphs["test"], inputs.targets["test"], names), out / "correlations.csv")
    _print_scores(scores)
    figures = _draw(scores, inputs, names, options)
    files = ["properties.csv", "predictions.csv", "correlations.csv", "map.csv", *figures]
    print(f"\n{out}: {', '.join(files)}")
    if not figures:
        print(NO_FIGURES)


def _chosen(inputs: Inputs, requested: list[str] | None) -> list[str]:
    """Return the requested properties, or those that are known for enough networks."""
    from benchmark.analyses import MINIMUM, PROPERTIES
    from deepnets.support import ConfigError

    if requested:
        return list(dict.fromkeys(requested))
    names = []
    for name in PROPERTIES:
        train, test = (int(inputs.targets[split][name].notna().sum()) for split in ("val", "test"))
        if train >= MINIMUM and test >= 2:
            names.append(name)
        else:
            hint = " (--curves)" if name == "converge_time" else ""
            print(f"{name}: known for {train} networks of val and {test} of test, which is too few; left out{hint}")
    if not names:
        raise ConfigError(
            f"no property is known for {MINIMUM} networks of val and 2 of test; evaluate more networks (deepnets bench)"
        )
    return names


def _scores(
    vectors: dict[str, Any], targets: dict[str, pd.DataFrame], names: list[str], options: argparse.Namespace
) -> list[PropertyScore]:
    from benchmark.analyses import predict_property
    from benchmark.metrics import get_metric

    metric = targets["val"].attrs.get("metric")  # of own results
    in_percent = metric is None or get_metric(metric).unit == "%"
    return [
        predict_property(
            name,
            vectors["val"],
            targets["val"][name].to_numpy(float),
            vectors["test"],
            targets["test"][name].to_numpy(float),
            workers=options.workers,
            rounded=False if name.startswith("val_acc") and not in_percent else None,
            progress=not options.quiet,
        )
        for name in names
    ]


# --- tables ---


def _table(scores: dict[str, list[PropertyScore]]) -> pd.DataFrame:
    import pandas as pd

    from benchmark.analyses import ORDERS

    rows = []
    for features, row in scores.items():
        for score in row:
            chosen = score.parameters[-1] if score.parameters else {}
            taus = {f"tau_{'own' if seed is None else seed}": tau for seed, tau in zip(ORDERS, score.taus)}
            counts = {name: getattr(score, name) for name in ("num_train", "num_test", "without_train", "without_test")}
            about = {"property": score.name, "features": features, "tau": score.tau, "tau_std": score.tau_std}
            parameters = {name: chosen.get(name, "") for name in ("C", "epsilon", "gamma")}
            rows.append({**about, **taus, **parameters, **counts, "note": score.note})
    return pd.DataFrame(rows)


def _predictions(scores: dict[str, list[PropertyScore]], targets: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for features, row in scores.items():
        for score in row:
            part = pd.DataFrame({"index": targets["index"], "property": score.name, "features": features})
            parts.append(part.assign(true=targets[score.name], predicted=score.predictions))
    return pd.concat(parts, ignore_index=True)


def _correlations(graphs: pd.DataFrame, targets: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    import pandas as pd

    from benchmark.analyses import correlations

    return pd.concat([correlations(graphs, targets[name]).assign(property=name) for name in names], ignore_index=True)


def _print_scores(scores: dict[str, list[PropertyScore]]) -> None:
    width = max(map(len, (*scores, "features")))
    print(f"\n{'property':15}{'features':{width}}  {'Kendall tau-b':>13}  {'fitted on':>9}  {'tested on':>9}  left out")
    for number in range(len(next(iter(scores.values())))):
        for features, row in scores.items():
            score = row[number]
            tau = f"{score.tau:.3f}±{score.tau_std:.3f}" if score.tau == score.tau else "n/a"
            without = f"{score.without_train:,} + {score.without_test:,}"
            line = f"{score.name:15}{features:{width}}  {tau:>13}  {score.num_train:9,}  {score.num_test:9,}  {without}"
            print(f"{line}  {score.note}".rstrip())


# --- figures ---


def _draw(
    scores: dict[str, list[PropertyScore]], inputs: Inputs, names: list[str], options: argparse.Namespace
) -> list[str]:
    """Write the map, and all figures if matplotlib is installed; return the names of the figures."""
    import pandas as pd

    from benchmark.analyses import draw_map, draw_predictions, draw_scores
    from benchmark.commands.analysis_options import write_table

    out: Path = options.out
    everything = pd.concat([table.assign(split=split) for split, table in inputs.targets.items()], ignore_index=True)
    first = next(iter(inputs.features))
    maps = []
    figures = []
    for label, vectors in inputs.features.items():
        points = _projected(vectors, options.projection)
        place = pd.DataFrame({"features": label, "x": points[:, 0], "y": points[:, 1]})
        maps.append(pd.concat([everything[["split", "index"]], place], axis=1))
        name = "map.png" if label == first else f"map-{label.replace('/', '_')}.png"
        if draw_map(points, everything, names, out / name, f"embeddings of {label}, networks of val and test"):
            figures.append(name)
    write_table(pd.concat(maps, ignore_index=True), out / "map.csv")
    if draw_scores(scores, out / "properties.png"):
        figures.append("properties.png")
    title = f"test networks, predicted from embeddings of {first}"
    if draw_predictions(scores[first], inputs.targets["test"], out / "predictions.png", title):
        figures.append("predictions.png")
    return figures


def _projected(vectors: dict[str, npt.NDArray[np.float32]], method: str) -> npt.NDArray[np.float64]:
    import numpy as np

    from benchmark.analyses import project

    return project(np.concatenate(list(vectors.values())), method)
