"""Speed and memory of tracing and of predictions, compared with measurements of the published tools."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import torch
from torch import nn

from deepnets import GENOTYPES, Genotype, Graph, Network, NetworkConfig, build_graph, trace
from deepnets.support import import_torchvision
from ghn_model import GHN, GHNConfig
from tests.perf.timing import Row, median

DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=14, C=48, stem_type=1)
LIKE_DEEPNETS = NetworkConfig(
    Genotype(
        normal=[("sep_conv_3x3", 0), ("conv_5x5", 1), ("dil_conv_3x3", 2), ("skip_connect", 0)],
        normal_concat=[2, 3],
        reduce=[("max_pool_3x3", 0), ("skip_connect", 1), ("avg_pool_3x3", 2), ("conv_3x3", 0)],
        reduce_concat=[2, 3],
    ),
    n_cells=10,
)


def on_meta(name: str) -> nn.Module:
    """Return a classifier of torchvision on the device `meta`."""
    with torch.device("meta"):
        model: nn.Module = import_torchvision().models.get_model(name, weights=None)
    return model


def tracing() -> list[Row]:
    """From a module to its graph with virtual edges; published tools: 113 and 228 ms for the ResNet-50."""
    rows = []
    for name, target in (
        ("resnet50", "30"),
        ("vit_b_16", "250"),
        ("convnext_tiny", "250"),
        ("efficientnet_v2_l", "250"),
    ):
        model = on_meta(name)
        seconds = median(lambda model=model: trace(model).distances(50), 15)
        rows.append((f"trace {name}, virtual edges included: ms", f"{1e3 * seconds:.1f}", target))
    return rows


def predicting() -> list[Row]:
    """From a module to all its parameters, GHN-2; published tool: 262 ms (ResNet-50), 1,081 ms (DARTS)."""
    ghn = GHN(GHNConfig.preset("ghn2", 1000, 224)).eval()
    resnet, vgg = on_meta("resnet50"), on_meta("vgg16")
    with torch.device("meta"):
        darts = Network(DARTS, 1000, 224)
    rows = [
        (
            "trace and predict resnet50, 25.6 M parameters: ms",
            f"{1e3 * median(lambda: ghn.predict(resnet), 15):.0f}",
            "80",
        ),
        (
            "trace and predict DARTS C48 x 14: ms",
            f"{1e3 * median(lambda: ghn.predict(darts, graph=trace(darts)), 15):.0f}",
            "150",
        ),
    ]
    predicted = ghn.predict(vgg)
    copied = median(lambda: [tensor.clone() for tensor in predicted.values()], 5)
    seconds = median(lambda: ghn.predict(vgg), 5)
    rows.append(
        ("trace and predict vgg16, 138 M parameters: times the time of copying them", f"{seconds / copied:.1f}", "3")
    )
    for name in ("resnet50", "vgg16"):
        done = subprocess.run([sys.executable, "-c", MEMORY, name], check=True, capture_output=True)
        rows.append((f"memory beyond the predicted tensors, {name}: MB", f"{json.loads(done.stdout):.0f}", "50"))
    return rows


def low_rank() -> list[Row]:
    """From a module to all its parameters, LoGAH; published tool: 10.2 s and 3.0 GB for the ViT-B, with one thread."""
    ghn, model = GHN(GHNConfig.preset("logah-t", 1000, 224)).eval(), on_meta("vit_b_16")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = median(lambda: ghn.predict(model), 7)
    torch.set_num_threads(threads)
    rows = [("trace and predict vit_b_16, 86 M parameters, logah-t, one thread: ms", f"{1e3 * seconds:.0f}", "510")]
    rows.append(("    times as fast as published", f"{10.2 / seconds:.0f}", "20"))
    models = [("vit_b_16", "100")]
    if importlib.util.find_spec("transformers"):
        models.append(("gpt2-xl", "200"))  # 1.6 billion parameters
    for name, target in models:
        done = subprocess.run([sys.executable, "-c", MEMORY, name, "logah-t"], check=True, capture_output=True)
        row = f"memory beyond the predicted tensors, {name}, logah-t: MB"
        rows.append((row, f"{json.loads(done.stdout.splitlines()[-1]):.0f}", target))
    return rows


def text_on_meta(blocks: int, width: int, heads: int) -> nn.Module:
    """Return a GPT-2 of transformers on the device `meta`."""
    import_torchvision()  # transformers imports it, too, and does not know how to without a GPU
    import transformers

    config = transformers.GPT2Config(n_layer=blocks, n_embd=width, n_head=heads, tie_word_embeddings=False)
    with torch.device("meta"):
        model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


MEMORY = """
import json, resource, sys
import torch
from ghn_model import GHN, GHNConfig
from tests.perf.prediction import on_meta, text_on_meta
name, preset = sys.argv[1], (*sys.argv[2:], "ghn2")[0]
text = name == "gpt2-xl"
ghn = GHN(GHNConfig.preset(preset, 1000, 224, **({"task": "text"} if text else {}))).eval()
model = text_on_meta(48, 1600, 25) if text else on_meta(name)
ghn.predict(text_on_meta(1, 16, 2) if text else on_meta("alexnet"))  # loads libraries, compiles code
current = int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
predicted = ghn.predict(model)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
size = sum(tensor.nbytes for tensor in predicted.values()) / 2**20
print(json.dumps(max(0.0, peak - current - size)))
"""


def propagation() -> list[Row]:
    """Time only the propagation of GHN-2 and GHN-1, with one thread; times of the published tool for comparison."""
    small = build_graph(LIKE_DEEPNETS)
    graphs: dict[str, list[Graph]] = {
        "resnet50": [trace(on_meta("resnet50"))],
        "mobilenet_v2": [trace(on_meta("mobilenet_v2"))],
        "densenet121": [trace(on_meta("densenet121"))],
        "DARTS C48 x 14": [build_graph(DARTS, 1000, 224)],
        f"DeepNets-like, {small.num_nodes} nodes": [small],
        "batch of 8": [build_graph(LIKE_DEEPNETS.replace(n_cells=4 + i)) for i in range(8)],
    }
    published = {
        "ghn2": dict(zip(graphs, (51, 45, 253, 1008, 105, 349))),
        "ghn1": {"resnet50": 24, "DARTS C48 x 14": 104, "batch of 8": 62},
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for preset, references in published.items():
        ghn = GHN(preset).eval()
        for name, reference in references.items():
            nodes = sum(graph.num_nodes for graph in graphs[name])
            x = torch.randn(nodes, ghn.config.hidden)
            batch = ghn.prepare(graphs[name], encoder_inputs=False)
            with torch.no_grad():
                seconds = median(lambda ghn=ghn, x=x, batch=batch: ghn.gnn(x, batch), 15)
            factor = "4" if preset == "ghn2" else "2"
            rows.append((f"propagation of {preset}, {name} ({nodes} nodes): ms", f"{1e3 * seconds:.2f}", ""))
            rows.append(("    times as fast as published", f"{reference / (1e3 * seconds):.0f}", factor))
    torch.set_num_threads(threads)
    return rows
