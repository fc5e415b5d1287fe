"""Commands about graphs of networks: `draw`, `trace` and `onnx`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepnets.architecture import GENOTYPES, NODE_TYPES, VOCABULARIES, NetworkConfig, parse_genotype
from deepnets.commands.model_options import add_model, open_model
from deepnets.commands.output_option import add_out, chosen_out
from deepnets.support import (
    ConfigError,
    ListOption,
    examples,
    non_negative,
    output_path,
    parse_json,
    positive,
    positive_number,
    read_whole,
)

if TYPE_CHECKING:
    from deepnets.graph import Graph

__all__ = ["add_arguments"]

_LARGEST_CONFIG = 1 << 20  # bytes
_SPLIT, _CELLS = "test", 8


def add_arguments(commands: Any) -> None:
    """Add the commands to the result of `argparse.ArgumentParser.add_subparsers`.

    Parameters
    ----------
    commands
        The result of `add_subparsers`.
    """
    draw = commands.add_parser(
        "draw",
        help="draw the graph of a network",
        epilog=examples(
            "deepnets draw --out graph.png --split test --index 7",
            "deepnets draw --out darts.svg --genotype DARTS --cells 4",
            "deepnets draw --out resnet50.pdf --model torchvision:resnet50",
        ),
    )
    add_out(draw, "file of the picture: .png, .svg or .pdf", "FILE")
    _add_network(draw)
    draw.add_argument("--onnx", type=Path, metavar="FILE", help="the ONNX model in this file instead (default: none)")
    draw.add_argument("--virtual-edges", type=positive, default=1, metavar="K", help="largest virtual edge")
    draw.add_argument("--pruned", action="store_true", help="omit nodes that do not reach the output")
    draw.add_argument("--title", help="title of the picture (default: the name of the network, and its size)")
    draw.add_argument(
        "--size",
        action=ListOption,
        type=positive_number,
        count=2,
        metavar="INCHES",
        help="largest width and height of the graph; larger pictures have more labels (default: 10.5 9)",
    )
    draw.add_argument("--legend-only", action="store_true", help="draw a legend of all node types, and no network")
    draw.set_defaults(do=_draw)

    trace = commands.add_parser(
        "trace",
        help="describe the graph of any PyTorch model: its nodes by type, and parameters without a node",
        epilog=examples(
            "deepnets trace --model torchvision:resnet50",
            "deepnets trace --model timm:convnext_tiny --vocabulary ghn3",
            "deepnets trace --model mine:Net --model-kwarg width=64 --input-size 3 32 32 --out net.svg",
        ),
    )
    add_model(trace, required=True, purpose="the model")
    trace.add_argument(
        "--vocabulary",
        choices=(*VOCABULARIES, "published"),
        default=VOCABULARIES[0],
        help="which operations are nodes; published is ghn3",
    )
    trace.add_argument(
        "--out", type=output_path, help="write the graph to this file: .png, .svg, .pdf or .onnx (default: none)"
    )
    trace.set_defaults(do=_trace)

    onnx = commands.add_parser(
        "onnx",
        help="write the graph of a network, with the shapes of its parameters, as ONNX",
        epilog=examples("deepnets onnx --out network.onnx --split test --index 7"),
    )
    add_out(onnx, "file to write, .onnx", "FILE")
    _add_network(onnx)
    onnx.set_defaults(do=_onnx)


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that select a network."""
    parser.add_argument("--data", default="data", help="corpus folder")
    parser.add_argument("--split", help=f"split of the network (default: {_SPLIT})")
    parser.add_argument("--index", type=non_negative, help="index of the network in the split (default: 0)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the NetworkConfig in this JSON file instead (default: none)"
    )
    parser.add_argument(
        "--genotype",
        metavar="NAME",
        help=f"a network with this genotype instead: {', '.join(sorted(GENOTYPES))}, or one of DARTS, NASLib or "
        "NATS-Bench as text (default: none)",
    )
    parser.add_argument("--cells", type=positive, help=f"number of cells for --genotype (default: {_CELLS})")
    add_model(parser, required=False, purpose="any model instead (default: none)")


def _check_sources(options: argparse.Namespace) -> None:
    """Check that the options name one network, and that no option of another kind of network is given."""
    names = ("config", "model", "genotype", "onnx", "legend_only")
    given = [_option(name) for name in names if getattr(options, name, None)]
    if len(given) > 1:
        raise ConfigError(f"{given[0]}: cannot be combined with {given[1]}")
    source = given[0] if given else None
    for name, needed in (("model_kwarg", "--model"), ("input_size", "--model"), ("cells", "--genotype")):
        if getattr(options, name) and source != needed:
            raise ConfigError(f"{_option(name)}: is for {needed}")
    for name in ("split", "index"):
        if getattr(options, name) is not None and source is not None:
            raise ConfigError(f"{_option(name)}: is for networks of the corpus, not for {source}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _draw(options: argparse.Namespace) -> None:
    from deepnets.drawing import draw, draw_legend

    _check_sources(options)
    out = chosen_out(options)
    _check_writer(out)  # before the graph is made, which may take long
    if options.legend_only:
        draw_legend(out)
        print(f"{out}: legend")
        return
    if options.onnx is not None:
        from deepnets.onnx_models import read_onnx

        graph = read_onnx(options.onnx)
    else:
        graph = _selected_graph(options)
    draw(
        graph,
        out,
        title=options.title,
        virtual_edges=options.virtual_edges,
        dead=not options.pruned,
        size=options.size and tuple(options.size),
    )
    print(f"{out}: {graph}")


def _trace(options: argparse.Namespace) -> None:
    from deepnets.tracing import trace

    if options.out is not None:
        _check_writer(options.out)
    model, example = open_model(options, meta=True)
    graph = trace(model, example, vocabulary=options.vocabulary)
    counts = [sum(slot.numel for slot in node) for node in graph.parameters]
    tensors = sum(map(len, graph.parameters))
    print(
        f"{options.model}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges, "
        f"{sum(counts):,} parameters in {tensors:,} tensors"
    )
    nodes: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for node_type, count in zip(graph.node_types, counts):
        nodes[NODE_TYPES[node_type]] += 1
        parameters[NODE_TYPES[node_type]] += count
    print(f"  {'node type':12}{'nodes':>8}{'parameters':>16}")
    for name, number in nodes.most_common():
        print(f"  {name:12}{number:8,}{parameters[name]:16,}")
    if graph.unused:
        names = [slot.name for slot in graph.unused]
        print(f"  without a node: {', '.join(names[:5])}{f' and {len(names) - 5:,} more' if len(names) > 5 else ''}")
    if options.out is not None:
        _write_graph(graph, options.out, options.model)


def _check_writer(out: Path) -> None:
    """Check the suffix of a file, and that what writes it is installed."""
    if out.suffix.lower() == ".onnx":
        from deepnets.onnx_models import import_onnx

        import_onnx()
    else:
        from deepnets.drawing import check_matplotlib, check_picture

        check_picture(out)
        check_matplotlib()


def _write_graph(graph: Graph, out: Path, title: str) -> None:
    """Write a graph in the format that the suffix of the file names."""
    if out.suffix.lower() == ".onnx":
        from deepnets.onnx_models import write_onnx

        write_onnx(graph, out)
    else:
        from deepnets.drawing import draw

        draw(graph, out, title=title)
    print(f"{out}: {graph}")


def _selected_graph(options: argparse.Namespace) -> Graph:
    """Return the graph of the network that options name: a configuration, a model, a genotype, or one of a split."""
    from deepnets.corpus import DeepNets1M
    from deepnets.graph import build_graph

    if options.config is not None:
        return build_graph(_read_config(options.config))
    if options.model is not None:
        from deepnets.tracing import trace

        return trace(*open_model(options, meta=True)).replace(label=options.model.rpartition(":")[2])
    if options.genotype is not None:
        genotype = parse_genotype(options.genotype)
        vit = options.genotype == "ViT"
        return build_graph(NetworkConfig(genotype, options.cells or _CELLS, C_mult=1 if vit else 2, preproc=not vit))
    split, index = options.split or _SPLIT, options.index or 0
    nets = DeepNets1M(options.data, split)
    if index >= len(nets):
        raise ConfigError(f"--index: split {split} has the indices 0 to {len(nets) - 1}, got {index}")
    graph: Graph = nets[index]
    return graph


def _onnx(options: argparse.Namespace) -> None:
    from deepnets.onnx_models import import_onnx, write_onnx

    _check_sources(options)
    out = chosen_out(options)
    import_onnx()  # before the graph is made
    graph = _selected_graph(options)
    write_onnx(graph, out)
    print(f"{out}: {graph}")


def _read_config(path: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_dict(parse_json(read_whole(path, _LARGEST_CONFIG)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a NetworkConfig in JSON: {error}") from error
