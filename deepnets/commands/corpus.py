"""Commands about files of the corpus: `info`, `verify`, `parquet`, `export` and `import`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepnets.commands.output_option import add_out, chosen_out
from deepnets.support import (
    NETWORK_SPLITS,
    STORED_SPLITS,
    ConfigError,
    FormatError,
    ListOption,
    MissingDataError,
    corpus_path,
    examples,
    non_negative,
    output_path,
)

__all__ = ["add_arguments"]


def add_arguments(commands: Any) -> None:
    """Add the commands to the result of `argparse.ArgumentParser.add_subparsers`.

    Parameters
    ----------
    commands
        The result of `add_subparsers`.
    """
    info = commands.add_parser(
        "info",
        help="describe corpus files, and hypernetworks: bundled ones, ours, and those of the original releases",
        epilog=examples("deepnets info data", "deepnets info ghn2-digits", "deepnets info runs/mine/ghn.safetensors"),
    )
    info.add_argument(
        "paths",
        nargs="*",
        default=["data"],
        metavar="NAME",
        help="corpus files or folders, and names or files of hypernetworks (default: data)",
    )
    info.set_defaults(do=_info)

    verify = commands.add_parser(
        "verify",
        help="verify every byte, every graph and every number of corpus files",
        epilog=examples("deepnets verify data", "deepnets verify data/deepnets1m_test.h5 --quick"),
    )
    verify.add_argument("paths", nargs="*", default=["data"], help="corpus files or folders (default: data)")
    verify.add_argument("--quick", action="store_true", help="do not rebuild the graphs from their configurations")
    verify.set_defaults(do=_verify)

    parquet = commands.add_parser(
        "parquet",
        help="write splits as Parquet files, for Hugging Face datasets",
        epilog=examples("deepnets parquet --out parquet --splits val test --graphs"),
    )
    add_out(parquet, "folder for the files", "DIR")
    _add_data(parquet)
    parquet.add_argument("--graphs", action="store_true", help="write node types and edges, too")
    parquet.add_argument("--overwrite", action="store_true", help="replace files of these splits")
    parquet.set_defaults(do=_parquet)

    export = commands.add_parser(
        "export",
        help="write splits in the format of the original release",
        epilog=examples("deepnets export --out original-format --splits val test"),
    )
    add_out(export, "folder for the files", "DIR")
    _add_data(export)
    export.add_argument(
        "--overwrite",
        action="store_true",
        help="replace splits that a file has already; its other splits are kept in any case",
    )
    export.set_defaults(do=_export)

    load = commands.add_parser(
        "import",
        help="convert files of the original release to corpus files",
        epilog=examples("deepnets import folder-with-hdf5-and-json --out imported"),
    )
    load.add_argument(
        "source", nargs="?", type=Path, help="folder with deepnets1m_*.hdf5 and deepnets1m_*_meta.json (required)"
    )
    load.add_argument("--out", default="imported", type=output_path, help="corpus folder to create")
    _add_splits(load)
    load.add_argument("--check", type=non_negative, default=100, metavar="N", help="graphs to compare")
    load.add_argument("--overwrite", action="store_true", help="replace existing files")
    load.set_defaults(do=_import)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=Path("data"), type=Path, help="corpus folder")
    _add_splits(parser)


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--splits", action=ListOption, default=["all"], metavar="SPLIT", help="names of splits, or all (default: all)"
    )


def _out(options: argparse.Namespace) -> Path:
    """Return the value of --out, which may be given without the name of the option."""
    if options.out is None and options.given_out is None:
        options.out = _last_of_splits(options)
    return chosen_out(options)


def _last_of_splits(options: argparse.Namespace) -> Path | None:
    """Remove and return the last value of --splits if it is a path: `argparse` adds what follows the option to it."""
    splits = options.splits
    is_path = splits[-1] not in NETWORK_SPLITS and (os.sep in splits[-1] or Path(splits[-1]).is_dir())
    return Path(splits.pop()) if len(splits) > 1 and is_path else None  # other words are misspelt splits


def _info(options: argparse.Namespace) -> None:
    for text in options.paths:
        path = Path(text)
        run = next((file for file in map(path.joinpath, _OF_RUNS) if file.is_file()), None)
        if run is not None:
            _describe_checkpoint(str(run))
        elif path.is_dir() or path.suffix in (".h5", ".hdf5") or text == "data":
            _describe_files(_files([path]))
        else:
            _describe_checkpoint(text)


_OF_RUNS = ("ghn.safetensors", "hypernetwork.safetensors")
"""Hypernetworks in the folder of a training."""


def _describe_checkpoint(name: str) -> None:
    if importlib.util.find_spec("torch") is None and not Path(name).exists() and not _is_bundled(name):
        raise MissingDataError(f"{name}: no such file or folder")
    importlib.import_module("ghn_model.commands.info").describe_checkpoint(name)


def _is_bundled(name: str) -> bool:
    """Return whether a hypernetwork of the package has this name; does not import it, which needs PyTorch."""
    found = importlib.util.find_spec("ghn_model")
    folders = [] if found is None else found.submodule_search_locations or []
    return any(file.stem == name for folder in folders for file in Path(folder, "pretrained").glob("*.safetensors"))


def _describe_files(paths: Sequence[Path]) -> None:
    from deepnets.corpus import CorpusFile

    for path in paths:
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
    from deepnets.corpus import check_disjoint, check_one_corpus, find_shared_networks, verify

    for folder in filter(Path.is_dir, map(Path, options.paths)):
        check_one_corpus(folder)
    for path in _files(options.paths):
        started = time.monotonic()
        found = verify(path, quick=options.quick, progress=not options.quiet)
        what = "every byte and graph" if found.rebuilt else "every byte"
        print(f"{path}: {found.num_networks:,} networks, {what} verified ({time.monotonic() - started:.1f} s)")
    for folder in {path.parent for path in _files(options.paths)}:
        if pairs := check_disjoint(folder):
            print(f"{folder}: no network of an evaluation split is in another split ({', '.join(pairs)})")
        for shared in find_shared_networks(folder):  # only of imported files; otherwise there is an error above
            print(f"{folder}: note: {shared}")


def _parquet(options: argparse.Namespace) -> None:
    from deepnets.corpus import export_parquet

    out = _out(options)
    if options.splits == ["predefined"]:  # it needs no files
        splits = list(options.splits)
    else:
        stored = _stored_splits(options.data)
        splits = _selected(options.splits, [*stored, "predefined"], stored)
    files = export_parquet(options.data, out, splits, graphs=options.graphs, overwrite=options.overwrite)
    for path in files.values():
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _export(options: argparse.Namespace) -> None:
    from deepnets.original_format import export_official

    out = _out(options)
    splits = _selected(options.splits, _stored_splits(options.data))
    for path in export_official(options.data, out, splits, overwrite=options.overwrite, progress=not options.quiet):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _import(options: argparse.Namespace) -> None:
    from deepnets.original_format import find_official, import_official, list_splits

    source = options.source or _last_of_splits(options)
    if source is None:
        raise ConfigError("source: the folder with the files of the original release is needed")
    found = find_official(source) if source.is_dir() else dict.fromkeys(list_splits(source), source)
    splits = _selected(options.splits, list(found))
    there = [path for split in splits if (path := corpus_path(options.out, split)).exists()]
    if there and not options.overwrite:  # now rather than after the splits before it
        raise ConfigError(f"{there[0]}: already exists; name the other splits (--splits), or replace it (--overwrite)")
    for split in splits:
        report = import_official(
            found[split],
            options.out,
            split,
            check=options.check,
            overwrite=options.overwrite,
            progress=not options.quiet,
        )
        print(f"{split}: imported from {found[split].name}; its graphs compared with their configurations:\n{report}")


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.suffix and not path.exists():
            raise MissingDataError(f"{path}: no such file")
        files += [path] if path.is_file() else [corpus_path(path, split) for split in _stored_splits(path)]
    return files


def _stored_splits(folder: Path | str) -> list[str]:
    splits = [split for split in STORED_SPLITS if corpus_path(folder, split).exists()]
    if not splits:
        raise MissingDataError(
            f"{folder}: holds no corpus files (deepnets1m_SPLIT.h5); build them with `deepnets build --out {folder}`"
        )
    return splits


def _selected(names: Sequence[str], available: Sequence[str], every: Sequence[str] | None = None) -> list[str]:
    """Return the splits that are named; "all" stands for those in `every`, by default all that are available."""
    every = available if every is None else every
    splits = list(dict.fromkeys(split for name in names for split in (every if name == "all" else [name])))
    for split in splits:
        if split not in available:
            raise ConfigError(f"--splits: unknown {split!r}; available are {', '.join(available)}")
    return splits
