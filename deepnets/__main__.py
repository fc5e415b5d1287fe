"""Command line of the data: `python -m deepnets info | verify | draw | export | import`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from deepnets.architecture import GENOTYPES, NetworkConfig
from deepnets.support import ConfigError, Parser, non_negative, positive, run

PREFIX, SUFFIX = "deepnets1m_", ".h5"


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and do what they say."""
    parser = Parser(prog="python -m deepnets", description="Describe, check, picture and convert DeepNets-1M.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)

    info = commands.add_parser("info", help="what is in a corpus folder or file")
    info.add_argument("paths", nargs="*", default=["data"], help="files, or folders of them (data)")
    info.set_defaults(do=_info)

    verify = commands.add_parser("verify", help="check every byte, every graph and every number of corpus files")
    verify.add_argument("paths", nargs="*", default=["data"], help="files, or folders of them (data)")
    verify.add_argument("--quick", action="store_true", help="do not rebuild every graph from its configuration")
    verify.set_defaults(do=_verify)

    draw = commands.add_parser("draw", help="a picture of a network's graph (png, svg or pdf)")
    draw.add_argument("out", help="the picture; its suffix decides the format")
    draw.add_argument("--data", default="data", help="corpus folder (data)")
    draw.add_argument("--split", default="test", help="split of the network (test)")
    draw.add_argument("--index", type=non_negative, default=0, help="its position in the split (0)")
    draw.add_argument("--config", type=Path, help="instead: a JSON file of a NetworkConfig")
    draw.add_argument("--genotype", choices=sorted(GENOTYPES), help="instead: a genotype with a name")
    draw.add_argument("--model", help="instead: any model, as module:callable or timm:NAME")
    draw.add_argument("--cells", type=positive, default=8, help="number of cells, with --genotype (8)")
    draw.add_argument("--virtual-edges", type=positive, default=1, metavar="K", help="show paths of up to K edges (1)")
    draw.add_argument("--pruned", action="store_true", help="leave out nodes that do not reach the output")
    draw.add_argument("--title", help="text above the picture")
    draw.set_defaults(do=_draw)

    export = commands.add_parser("export", help="write splits in the format of the original release")
    export.add_argument("out", type=Path, help="folder of the new files")
    export.add_argument("--data", default="data", type=Path, help="corpus folder (data)")
    export.add_argument("--splits", default="all", help="comma-separated, or all that there are (all)")
    export.add_argument("--overwrite", action="store_true", help="replace files that are there")
    export.set_defaults(do=_export)

    load = commands.add_parser("import", help="make corpus files from those of the original release")
    load.add_argument("source", type=Path, help="folder with deepnets1m_*.hdf5 and deepnets1m_*_meta.json")
    load.add_argument("--out", default="imported", type=Path, help="corpus folder (imported)")
    load.add_argument("--splits", default="all", help="comma-separated, or all that there are (all)")
    load.add_argument("--check", type=non_negative, default=100, metavar="N", help="compare N graphs a split (100)")
    load.add_argument("--overwrite", action="store_true", help="replace files that are there")
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
            if "seed" in about:
                print(
                    f"  made from    seed {about['seed']}, stream {about['stream']} version {about['stream_version']}"
                )
                rejected = about["candidates"] - file.num_networks - about["duplicates"]
                counts = f"{rejected:,} rejected, {about['duplicates']:,} duplicates"
                print(f"  candidates   {about['candidates']:,}: {counts}")
                print(f"  rules        {json.dumps(about['rules'])}")
            else:
                print(f"  made from    {about.get('origin', 'unknown')}")
            for what, values in (("nodes", nodes), ("edges", edges)):
                spread = f"{values.mean():.1f} ± {values.std():.1f}, {values.min()} to {values.max()}"
                print(f"  {what}        {spread} (dead ones included)")
            widths = {"train": "at C=32, before widths are drawn", "wide": "at the widths of test, before they grow"}
            at = widths.get(file.split, "at their own widths")
            print(f"  parameters   {params.mean():.2f} M ± {params.std():.2f} M (CIFAR-10, {at})")
            print(f"  content      {file.content_digest}")


def _verify(options: argparse.Namespace) -> None:
    from deepnets.corpus import check_disjoint, verify

    for path in _files(options.paths):
        started = time.monotonic()
        found = verify(path, quick=options.quick, progress=True)
        what = "every byte and graph" if found.rebuilt else "every byte"
        print(f"{path}: {found.num_networks:,} networks, {what} as it should be ({time.monotonic() - started:.1f} s)")
    for folder in {path.parent for path in _files(options.paths)}:
        if pairs := check_disjoint(folder):
            print(f"{folder}: no network of an evaluation split in another split ({', '.join(pairs)})")


def _draw(options: argparse.Namespace) -> None:
    from deepnets.corpus import DeepNets1M
    from deepnets.drawing import draw
    from deepnets.graph import build_graph

    if options.config is not None:
        graph = build_graph(_read_config(options.config))
    elif options.model is not None:
        from deepnets.support import load_model
        from deepnets.tracing import trace

        graph = trace(load_model(options.model, meta=True))
    elif options.genotype is not None:
        vit = options.genotype == "ViT"
        genotype = GENOTYPES[options.genotype]
        graph = build_graph(NetworkConfig(genotype, options.cells, C_mult=1 if vit else 2, preproc=not vit))
    else:
        nets = DeepNets1M(options.data, options.split)
        if options.index >= len(nets):
            raise ConfigError(
                f"--index: split {options.split} has the networks 0 to {len(nets) - 1}, got {options.index}"
            )
        graph = nets[options.index]
    try:
        draw(graph, options.out, title=options.title, virtual_edges=options.virtual_edges, dead=not options.pruned)
    except ImportError as error:
        raise ConfigError(str(error)) from error
    print(f"{options.out}: {graph}")


def _export(options: argparse.Namespace) -> None:
    from deepnets.original_format import export_official

    splits = _chosen(options.splits, [_split_of(path) for path in _files([options.data])])
    for path in export_official(options.data, options.out, splits, overwrite=options.overwrite, progress=True):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _import(options: argparse.Namespace) -> None:
    from deepnets.original_format import import_official, list_splits

    files = sorted(options.source.glob("*.hdf5")) if options.source.is_dir() else [options.source]
    if not files:
        raise ConfigError(f"{options.source}: holds no .hdf5 files of the original release")
    found = {split: path for path in files for split in list_splits(path)}
    for split in _chosen(options.splits, list(found)):
        report = import_official(
            found[split], options.out, split, check=options.check, overwrite=options.overwrite, progress=True
        )
        print(f"{split}: imported; of the graphs in the file, compared with their configurations:\n{report}")


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        found = [path] if path.is_file() else sorted(path.glob(f"{PREFIX}*{SUFFIX}"))
        if not found:
            raise ConfigError(f"{path}: holds no corpus files ({PREFIX}*{SUFFIX}); make them with `make dataset`")
        files += found
    return files


def _split_of(path: Path) -> str:
    return path.name.removeprefix(PREFIX).removesuffix(SUFFIX)


def _chosen(wanted: str, available: Sequence[str]) -> list[str]:
    splits = list(available) if wanted == "all" else [split.strip() for split in wanted.split(",")]
    for split in splits:
        if split not in available:
            raise ConfigError(f"--splits: there is no {split!r}; available are {', '.join(available)}")
    return splits


def _read_config(path: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_dict(json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not the JSON of a NetworkConfig: {error}") from error


if __name__ == "__main__":
    run(main, after_interrupt="")
