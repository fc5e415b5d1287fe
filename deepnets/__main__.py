"""The command line of DeepNets-1M: `python -m deepnets info | verify | draw | onnx | parquet | export | import`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepnets.architecture import GENOTYPES, NetworkConfig, parse_genotype
from deepnets.support import (
    STORED_SPLITS,
    ConfigError,
    FormatError,
    MissingDataError,
    Parser,
    corpus_path,
    non_negative,
    output_path,
    parse_json,
    positive,
    read_whole,
    run,
)

if TYPE_CHECKING:
    from deepnets.graph import Graph

_LARGEST_CONFIG = 1 << 20  # bytes


def main(arguments: Sequence[str]) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str
        The arguments after the name of the program.

    Raises
    ------
    DeepNetsError
        If an argument or a file is not valid.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     main(["draw", f"{folder}/darts.svg", "--genotype", "DARTS", "--cells", "2"])  # doctest: +ELLIPSIS
    /.../darts.svg: Graph(... nodes, ... edges)
    """
    parser = Parser(prog="python -m deepnets", description="Describe, verify, draw and convert DeepNets-1M.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)

    info = commands.add_parser("info", help="describe the corpus files in a folder")
    info.add_argument("paths", nargs="*", default=["data"], help="corpus files or folders (default: data)")
    info.set_defaults(do=_info)

    verify = commands.add_parser("verify", help="verify every byte, every graph and every number of corpus files")
    verify.add_argument("paths", nargs="*", default=["data"], help="corpus files or folders (default: data)")
    verify.add_argument("--quick", action="store_true", help="do not rebuild the graphs from their configurations")
    verify.set_defaults(do=_verify)

    draw = commands.add_parser("draw", help="draw the graph of a network")
    draw.add_argument("out", help="file of the picture: .png, .svg or .pdf")
    draw.add_argument("--data", default="data", help="corpus folder (default: data)")
    draw.add_argument("--split", default="test", help="split of the network (default: test)")
    draw.add_argument("--index", type=non_negative, default=0, help="index of the network in the split (default: 0)")
    draw.add_argument("--config", type=Path, help="draw the NetworkConfig in this JSON file instead")
    draw.add_argument(
        "--genotype",
        help=f"draw a network with this genotype instead: {', '.join(sorted(GENOTYPES))}, or one of DARTS, NASLib or "
        "NATS-Bench as text",
    )
    draw.add_argument("--model", help="draw any model instead: module:callable, whose code is executed, or timm:NAME")
    draw.add_argument("--onnx", type=Path, help="draw the ONNX model in this file instead")
    draw.add_argument("--cells", type=positive, default=8, help="number of cells for --genotype (default: 8)")
    draw.add_argument(
        "--virtual-edges",
        type=positive,
        default=1,
        metavar="K",
        help="largest virtual edge (default: 1)",
    )
    draw.add_argument("--pruned", action="store_true", help="omit nodes that do not reach the output")
    draw.add_argument("--title", help="title of the picture (default: the name of the network, and its size)")
    draw.add_argument(
        "--size",
        type=positive,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="largest size of the graph in inches; larger pictures have more labels (default: 10.5 x 9)",
    )
    draw.add_argument("--legend-only", action="store_true", help="draw a legend of all node types, and no network")
    draw.set_defaults(do=_draw)

    export = commands.add_parser("export", help="write splits in the format of the original release")
    export.add_argument("out", type=Path, help="folder for the files")
    export.add_argument("--data", default="data", type=Path, help="corpus folder (default: data)")
    export.add_argument("--splits", default="all", help="splits, separated by commas, or all (default: all)")
    export.add_argument(
        "--overwrite",
        action="store_true",
        help="replace splits that a file has already; its other splits are kept in any case",
    )
    export.set_defaults(do=_export)

    onnx = commands.add_parser("onnx", help="write the graph of a network, with the shapes of its parameters, as ONNX")
    onnx.add_argument("out", type=output_path, help="file to write, .onnx")
    onnx.add_argument("--data", default="data", help="corpus folder (default: data)")
    onnx.add_argument("--split", default="test", help="split of the network (default: test)")
    onnx.add_argument("--index", type=non_negative, default=0, help="index of the network in the split (default: 0)")
    onnx.add_argument("--config", type=Path, help="write the NetworkConfig in this JSON file instead")
    onnx.add_argument("--genotype", help="write a network with this genotype instead, as for draw")
    onnx.add_argument("--model", help="write any model instead: module:callable, whose code is executed, or timm:NAME")
    onnx.add_argument("--cells", type=positive, default=8, help="number of cells for --genotype (default: 8)")
    onnx.set_defaults(do=_onnx)

    parquet = commands.add_parser("parquet", help="write splits as Parquet files, for Hugging Face datasets")
    parquet.add_argument("out", type=output_path, help="folder for the files")
    parquet.add_argument("--data", default="data", type=Path, help="corpus folder (default: data)")
    parquet.add_argument("--splits", default="all", help="splits, separated by commas, or all (default: all)")
    parquet.add_argument("--graphs", action="store_true", help="write node types and edges, too")
    parquet.set_defaults(do=_parquet)

    load = commands.add_parser("import", help="convert files of the original release to corpus files")
    load.add_argument("source", type=Path, help="folder with deepnets1m_*.hdf5 and deepnets1m_*_meta.json")
    load.add_argument("--out", default="imported", type=output_path, help="corpus folder to create (default: imported)")
    load.add_argument("--splits", default="all", help="splits, separated by commas, or all (default: all)")
    load.add_argument("--check", type=non_negative, default=100, metavar="N", help="graphs to compare (default: 100)")
    load.add_argument("--overwrite", action="store_true", help="replace existing files")
    load.set_defaults(do=_import)

    options = parser.parse_args(arguments)
    options.do(options)


def _info(options: argparse.Namespace) -> None:
    from deepnets.corpus import CorpusFile

    for path in _files(options.paths):
        with CorpusFile(path) as file:
            about = file.attributes
            nodes, edges = file.column("num_nodes"), file.column("num_edges")
            params = file.column("num_params") / 1e6
            print(f"{path}")
            print(f"  split        {file.split}: {file.num_networks:,} networks, {path.stat().st_size / 1e6:.2f} MB")
            try:
                print("\n".join(_origin(about, file.num_networks)))
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(f"{path}: its attributes do not describe how it was made: {error!r}") from error
            for what, values in (("nodes", nodes), ("edges", edges)):
                spread = f"{values.mean():.1f} ± {values.std():.1f}, {values.min()} to {values.max()}"
                print(f"  {what}        {spread} (with dead nodes)")
            widths = {"train": "at C=32; widths are drawn on load", "wide": "at the widths of test; multiplied on load"}
            at = widths.get(file.split, "at their widths")
            print(f"  parameters   {params.mean():.2f} M ± {params.std():.2f} M (CIFAR-10, {at})")
            print(f"  content      {file.content_digest}")


def _origin(about: dict[str, Any], num_networks: int) -> list[str]:
    if "candidates" not in about:
        return [f"  made from    {about.get('origin', 'unknown')}"]
    rejected = about["candidates"] - num_networks - about["duplicates"]
    return [
        f"  made from    seed {about['seed']}, stream {about['stream']} version {about['stream_version']}",
        f"  candidates   {about['candidates']:,}: {rejected:,} rejected, {about['duplicates']:,} duplicates",
        f"  rules        {json.dumps(about['rules'])}",
    ]


def _verify(options: argparse.Namespace) -> None:
    from deepnets.corpus import check_disjoint, find_shared_networks, verify

    for path in _files(options.paths):
        started = time.monotonic()
        found = verify(path, quick=options.quick, progress=True)
        what = "every byte and graph" if found.rebuilt else "every byte"
        print(f"{path}: {found.num_networks:,} networks, {what} verified ({time.monotonic() - started:.1f} s)")
    for folder in {path.parent for path in _files(options.paths)}:
        if pairs := check_disjoint(folder):
            print(f"{folder}: no network of an evaluation split is in another split ({', '.join(pairs)})")
        for shared in find_shared_networks(folder):  # only of imported files; otherwise there is an error above
            print(f"{folder}: note: {shared}")


def _draw(options: argparse.Namespace) -> None:
    from deepnets.drawing import draw, draw_legend

    if options.legend_only:
        draw_legend(options.out)
        print(f"{options.out}: legend")
        return
    if options.onnx is not None:
        from deepnets.onnx_models import read_onnx

        graph = read_onnx(options.onnx)
    else:
        graph = _selected_graph(options)
    draw(
        graph,
        options.out,
        title=options.title,
        virtual_edges=options.virtual_edges,
        dead=not options.pruned,
        size=options.size and tuple(options.size),
    )
    print(f"{options.out}: {graph}")


def _selected_graph(options: argparse.Namespace) -> Graph:
    """Return the graph of the network that options name: a configuration, a model, a genotype, or one of a split."""
    from deepnets.corpus import DeepNets1M
    from deepnets.graph import build_graph

    if options.config is not None:
        return build_graph(_read_config(options.config))
    if options.model is not None:
        from deepnets.support import load_model
        from deepnets.tracing import trace

        return trace(load_model(options.model, meta=True)).replace(label=options.model.rpartition(":")[2])
    if options.genotype is not None:
        genotype = parse_genotype(options.genotype)
        vit = options.genotype == "ViT"
        return build_graph(NetworkConfig(genotype, options.cells, C_mult=1 if vit else 2, preproc=not vit))
    nets = DeepNets1M(options.data, options.split)
    if options.index >= len(nets):
        raise ConfigError(f"--index: split {options.split} has the indices 0 to {len(nets) - 1}, got {options.index}")
    graph: Graph = nets[options.index]
    return graph


def _onnx(options: argparse.Namespace) -> None:
    from deepnets.onnx_models import write_onnx

    graph = _selected_graph(options)
    write_onnx(graph, options.out)
    print(f"{options.out}: {graph}")


def _parquet(options: argparse.Namespace) -> None:
    from deepnets.corpus import export_parquet

    if options.splits == "predefined":  # it needs no files
        splits = [options.splits]
    else:
        stored = _stored_splits(options.data)
        splits = stored if options.splits == "all" else _selected(options.splits, [*stored, "predefined"])
    for path in export_parquet(options.data, options.out, splits, graphs=options.graphs).values():
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _export(options: argparse.Namespace) -> None:
    from deepnets.original_format import export_official

    splits = _selected(options.splits, _stored_splits(options.data))
    for path in export_official(options.data, options.out, splits, overwrite=options.overwrite, progress=True):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _import(options: argparse.Namespace) -> None:
    from deepnets.original_format import find_official, import_official, list_splits

    if options.source.is_dir():
        found = find_official(options.source)
    else:
        found = dict.fromkeys(list_splits(options.source), options.source)
    for split in _selected(options.splits, list(found)):
        report = import_official(
            found[split], options.out, split, check=options.check, overwrite=options.overwrite, progress=True
        )
        print(f"{split}: imported from {found[split].name}; its graphs compared with their configurations:\n{report}")


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        files += [path] if path.is_file() else [corpus_path(path, split) for split in _stored_splits(path)]
    return files


def _stored_splits(folder: Path | str) -> list[str]:
    splits = [split for split in STORED_SPLITS if corpus_path(folder, split).exists()]
    if not splits:
        raise MissingDataError(f"{folder}: holds no corpus files (deepnets1m_SPLIT.h5); build them with `make dataset`")
    return splits


def _selected(names: str, available: Sequence[str]) -> list[str]:
    splits = list(available) if names == "all" else [split.strip() for split in names.split(",")]
    for split in splits:
        if split not in available:
            raise ConfigError(f"--splits: unknown {split!r}; available are {', '.join(available)}")
    return splits


def _read_config(path: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_dict(parse_json(read_whole(path, _LARGEST_CONFIG)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a NetworkConfig in JSON: {error}") from error


if __name__ == "__main__":
    run(main, after_interrupt="")
