"""The command `python -m benchmark statistics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.analysis_options import NO_FIGURES
from benchmark.commands.options import check_splits, installed_splits, metric_name
from deepnets.support import ListOption, examples, positive

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.analyses import SplitStatistics

__all__ = ["add_arguments"]

EPILOG = """
Statistics are computed for undirected graphs without virtual edges, including dead nodes, and printed beside those of
the published corpus.  With results, rank correlations with the accuracy of each predictor are written and drawn.

""" + examples("deepnets statistics --splits val,test --limit 100")


def add_arguments(commands: Any) -> None:
    """Add the command to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    statistics = commands.add_parser(
        "statistics", help="statistics of graphs, and their correlation with accuracy", epilog=EPILOG
    )
    statistics.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    statistics.add_argument(
        "--splits",
        action=ListOption,
        metavar="SPLIT",
        help="names of splits (default: all that exist, except search)",
    )
    statistics.add_argument("--limit", type=positive, default=1000, help="networks of each split")
    statistics.add_argument("--results", type=Path, help="folder of networks.csv (default: results, if it exists)")
    statistics.add_argument(
        "--metric", type=metric_name, metavar="NAME", help="metric of the results (default: top1, for imagenet top5)"
    )
    statistics.add_argument(
        "--out", type=Path, default=Path("results/statistics"), help="folder of the tables and figures"
    )
    statistics.add_argument("-q", "--quiet", action="store_true", help="show no progress bars")
    statistics.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    import pandas as pd

    from benchmark.analyses import describe_split, graph_statistics
    from benchmark.commands.analysis_options import write_table
    from benchmark.results import read_results
    from deepnets.corpus import DeepNets1M
    from deepnets.support import ConfigError, DeepNetsError

    results, unusable = None, []
    folder = options.results or Path("results")
    if options.results or (folder / "networks.csv").is_file():
        try:
            results = read_results(folder)
        except DeepNetsError as error:
            if options.results:
                raise
            unusable.append(str(error))
    tables = {}
    found = []
    for split in _splits(options):
        nets = DeepNets1M(options.data, split, num_nets=options.limit)
        table = graph_statistics(nets, progress=not options.quiet).assign(split=split)
        tables[split] = table[["split", *(name for name in table if name != "split")]]
        if results is not None:
            try:
                found += _correlated(tables[split], nets, results, options.metric)
            except ConfigError as error:
                if options.results:
                    raise
                unusable.append(str(error))
        nets.close()
    out: Path = options.out
    described = {split: describe_split(table) for split, table in tables.items()}
    write_table(pd.concat(tables.values(), ignore_index=True), out / "statistics.csv")
    write_table(pd.DataFrame([{"split": s, **d._asdict()} for s, d in described.items()]), out / "splits.csv")
    _print_splits(described)
    files = ["statistics.csv", "splits.csv"]
    if found:
        write_table(pd.concat([rows for _, rows in found], ignore_index=True), out / "correlations.csv")
        _print_correlations([rows for _, rows in found])
        figures = _draw([table for table, _ in found], out)
        files += ["correlations.csv", *figures]
        if not figures:
            print(NO_FIGURES)
    elif results is None and not unusable:
        print(f"\n{folder} has no results to correlate with; create them with deepnets bench")
    if unusable:  # results that nobody has asked for
        print(f"\nleft out of the correlations: {'; '.join(unusable)}")
    print(f"\n{out}: {', '.join(files)}")


def _splits(options: argparse.Namespace) -> list[str]:
    from deepnets.corpus import NETWORK_SPLITS, corpus_path
    from deepnets.support import ConfigError

    if options.splits:
        return check_splits(options.splits)
    there = [split for split in NETWORK_SPLITS if split != "search" and corpus_path(options.data, split).exists()]
    if not there:
        raise ConfigError(f"{options.data}: has no corpus files; build them with `deepnets build --out {options.data}`")
    return installed_splits([*there, "predefined"])


def _correlated(
    graphs: pd.DataFrame, nets: Any, results: Any, metric: str | None
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return, for each predictor and image set, a table of statistics and accuracies, and their correlations."""
    from benchmark.analyses import STATISTICS, check_corpus, correlations
    from benchmark.results import usual_metric

    metric = results.metric_name(metric)
    rows = results.rows[results.rows["split"] == nets.split]
    check_corpus(rows, nets, results.runs)
    found = []
    for key, part in rows.groupby(["predictor", "images", "part", "noise"]):
        about = dict(zip(("predictor", "images", "part", "noise"), key))
        column = metric or usual_metric(about["images"], nets.split)
        fine = part.loc[part["status"] == "ok", ["index", column]].rename(columns={column: "accuracy"})
        table = graphs.merge(fine, on="index").assign(**about, metric=column)
        if len(table) < 3:
            continue
        about = {"split": nets.split, **about, "metric": column}
        failed = int((part["status"] != "ok").sum())
        correlated = correlations(table, table["accuracy"], STATISTICS).assign(**about, failed=failed)
        found.append((table, correlated[[*about, "statistic", "kendall", "spearman", "networks", "failed"]]))
    return found


def _print_splits(described: dict[str, SplitStatistics]) -> None:
    from benchmark.analyses import PUBLISHED

    print(f"\n{'split':12}{'':11}{'networks':>8}  {'nodes':>26}  {'average degree':>14}  {'average path':>12}")
    for split, ours in described.items():
        for whose, row in (("ours", ours), ("published", PUBLISHED.get(split))):
            if row is not None:
                nodes = f"{row.least_nodes}-{row.most_nodes} ({row.nodes:.1f}±{row.nodes_std:.1f})"
                degree, path = f"{row.degree:.1f}±{row.degree_std:.1f}", f"{row.path:.1f}±{row.path_std:.1f}"
                name = split if whose == "ours" else ""
                print(f"{name:12}{whose:11}{row.networks:8,}  {nodes:>26}  {degree:>14}  {path:>12}")


def _print_correlations(found: list[pd.DataFrame]) -> None:
    from benchmark.analyses import STATISTICS

    width = max(len("predictor"), *(len(str(table["predictor"].iloc[0])) for table in found))
    print("\nKendall's tau-b (Spearman's rho) with accuracy")
    print(
        f"{'split':12}{'predictor':{width}}  {'images':18}{'networks':>8}{'failed':>8}"
        + "".join(f"{n:>15}" for n in STATISTICS)
    )
    for table in found:
        first = table.iloc[0]
        images = f"{first['images']} {first['part']}" + (f" {first['noise']:g}" if first["noise"] else "")
        cells = [f"{row.kendall:.2f} ({row.spearman:.2f})" for row in table.itertuples()]
        line = f"{first['split']:12}{first['predictor']:{width}}  {images:18}"
        line += f"{table['networks'].max():8,}{first['failed']:8,}"
        print(line + "".join(f"{cell:>15}" for cell in cells))


def _draw(tables: list[pd.DataFrame], out: Path) -> list[str]:
    """Draw a figure for each split and image set without noise, with a color for each predictor."""
    import pandas as pd

    from benchmark.analyses import STATISTICS, draw_correlations
    from benchmark.metrics import get_metric

    everything = pd.concat(tables, ignore_index=True)
    figures = []
    for (split, images, part), rows in everything[everything["noise"] == 0].groupby(["split", "images", "part"]):
        name = f"{split}-{images}-{part}.png".replace("/", "_")
        metric = rows["metric"].iloc[0]
        title = f"networks of {split}, {get_metric(metric).label} on {part} images of {images}"
        if draw_correlations(rows.rename(columns={"accuracy": metric}), STATISTICS, metric, out / name, title=title):
            figures.append(name)
    return figures
