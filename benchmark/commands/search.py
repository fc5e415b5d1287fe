"""The command `python -m benchmark search`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.choices import PROPERTIES
from benchmark.commands.analysis_options import NO_FIGURES, add_target_arguments
from deepnets.support import examples, positive

if TYPE_CHECKING:
    from benchmark.analyses import SearchResult

__all__ = ["add_arguments"]

ACCURACIES = ("val_acc", "val_acc_noise")  # or another metric of the results

EPILOG = """
A regression from embeddings to the property is fitted on the networks of val and test, as in the published search.  It
ranks all networks of the split search.  The published search selected network 35,133 of the published corpus; the same
index in another corpus is another network.  The command writes ranking.csv and figures.

""" + examples("deepnets search --checkpoint ghn2-digits --results results --limit 1,000")


def add_arguments(commands: Any) -> None:
    """Add the command to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    search = commands.add_parser("search", help="rank architectures by a predicted property", epilog=EPILOG)
    search.add_argument("--checkpoint", required=True, metavar="NAME", help="hypernetwork: bundled name, or file")
    add_target_arguments(search)
    search.add_argument("--property", choices=PROPERTIES, default="val_acc", help="the property")
    search.add_argument("--limit", type=positive, help="number of networks, from the first (default: all)")
    search.add_argument("--top", type=positive, default=5, help="number of networks to print")
    search.add_argument(
        "--out", type=Path, default=Path("results/search"), help="folder of the ranking and the figures"
    )
    search.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    from benchmark.analyses import cached_embeddings, draw_search, has_matplotlib, search
    from benchmark.commands.analysis_options import load_hypernetworks, load_inputs, opened_split, write_table
    from benchmark.metrics import METRICS
    from deepnets.architecture import has_cifar_stem

    ghns = load_hypernetworks([options.checkpoint], options.device)
    label, ghn = next(iter(ghns.items()))
    with opened_split(options, "search", ghn, options.limit) as nets:  # first: often missing
        inputs = load_inputs(options, ghns)
        print(f"{options.property} of {inputs.about}")
        vectors = cached_embeddings(ghn, nets, options.cache, workers=options.workers, progress=not options.quiet)
        size = "num_params" if has_cifar_stem(nets.image_size) else "num_params_imagenet"
        table = nets.table
        networks = table[[size, "num_nodes"]].rename(columns={size: "num_params"}).astype("int64")
        networks.insert(0, "index", range(len(nets)))
        val, test = (
            (inputs.features[label][split], inputs.targets[split][options.property].to_numpy(float))
            for split in ("val", "test")
        )
        metric = METRICS.get(str(inputs.targets["val"].attrs.get("metric")))
        found = search(
            options.property,
            val,
            test,
            vectors,
            networks,
            workers=options.workers,
            progress=not options.quiet,
            smaller_is_better=not metric.higher_is_better if metric and options.property in ACCURACIES else None,
        )
        best = nets[found.best]
    out: Path = options.out
    write_table(found.ranking, out / "ranking.csv")
    _print_ranking(found, options)
    files = ["ranking.csv"]
    if has_matplotlib():
        from deepnets.drawing import draw

        title = f"{len(found.ranking):,} networks of search, embeddings of {label}"
        draw_search(found.ranking, out / "search.png", label=options.property, title=title)
        predicted = found.ranking["predicted"].iloc[0]
        draw(
            best, out / "best.png", title=f"search network {found.best:,}: predicted {options.property} {predicted:.2f}"
        )
        files += ["search.png", "best.png"]
    print(f"\n{out}: {', '.join(files)}")
    if len(files) == 1:
        print(NO_FIGURES)


def _print_ranking(found: SearchResult, options: argparse.Namespace) -> None:
    from benchmark.analyses import PUBLISHED_BEST

    chosen = ", ".join(f"{name} {value}" for name, value in found.parameters.items())
    print(f"fitted on {found.num_fitted:,} networks ({chosen})\n")
    print(f"{'rank':>4}  {'network':>9}  {'predicted':>9}  {'parameters':>12}  {'nodes':>6}")
    for rank, row in enumerate(found.ranking.head(options.top).itertuples(index=False), 1):
        print(f"{rank:4}  {row.index:9,}  {row.predicted:9.3f}  {row.num_params:12,}  {row.num_nodes:6,}")
    print(
        f"\nthe best of {len(found.ranking):,} is network {found.best:,}.  The published search selected network "
        f"{PUBLISHED_BEST:,} of the published corpus; in another corpus this index is another network."
    )
