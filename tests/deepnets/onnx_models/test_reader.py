"""Graphs of ONNX models are those of the PyTorch models that they were exported from."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import (
    GENOTYPES,
    NODE_TYPES,
    ConfigError,
    FormatError,
    Graph,
    Network,
    NetworkConfig,
    TraceError,
    load_model,
    read_onnx,
    trace,
)

onnx = pytest.importorskip("onnx")


def exported(model: nn.Module, *inputs: Tensor):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                inputs,
                file,
                dynamo=False,
                do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                opset_version=17,
            )
        except (ImportError, TypeError) as error:  # this version of PyTorch needs another package
            pytest.skip(f"torch.onnx.export: {error}")
    return onnx.load_model_from_string(file.getvalue())


def assert_as_traced(model: nn.Module, *inputs: Tensor) -> Graph:
    found = read_onnx(exported(model, *inputs))
    graph = trace(model, inputs)
    assert found == graph
    assert found.windows.tolist() == graph.windows.tolist()
    described = [[[(slot.shape, slot.role) for slot in node] for node in each.parameters] for each in (found, graph)]
    assert described[0] == described[1]
    assert not found.unused
    return found


class Residual(nn.Module):
    """Convolutions of all kinds, poolings, a sum, a concatenation and a squeeze-excite block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False)
        self.squeeze, self.excite = nn.Linear(8, 2), nn.Linear(2, 8)
        self.up, self.act = nn.ConvTranspose2d(16, 4, 2, stride=2), nn.PReLU(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        x = x * gate[:, :, None, None]
        y = x + self.depthwise(x)
        y = torch.cat([F.max_pool2d(y, 3, 1, 1), self.dilated(F.avg_pool2d(y, (5, 3), 1, (2, 1)))], 1)
        return self.fc(self.act(self.up(y)).mean((2, 3)))


class Transformer(nn.Module):
    """A class token, position encoding, layer norms, attention with relative positions, a gate, and layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.randn(1, 1, 16))
        self.position, self.relative = nn.Parameter(torch.randn(1, 17, 16)), nn.Parameter(torch.randn(4, 17, 17))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.qkv, self.out, self.gamma = nn.Linear(16, 48), nn.Linear(16, 16), nn.Parameter(torch.ones(16))
        self.gate, self.value, self.head = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        q, k, v = self.qkv(self.norms[0](x)).reshape(len(x), 17, 3, 4, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * 0.5 + self.relative
        x = x + self.gamma * self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = self.norms[1](x)
        x = self.gate(x).sigmoid() * self.value(x)
        return self.head(x[:, 0])


class Normed(nn.Module):
    """Group norm, instance norm and RMSNorm, which exporters write as elementary operators."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.group, self.fc = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 4)
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.conv(x)).mean((2, 3))
        return self.fc(x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.gain)


class Embedded(nn.Module):
    """An embedding of integer inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embed(x)[:, -1])


def test_convolutional_networks() -> None:
    assert_as_traced(Residual(), torch.zeros(2, 3, 16, 16))


def test_transformers() -> None:
    graph = assert_as_traced(Transformer(), torch.zeros(2, 3, 16, 16))
    kinds = {NODE_TYPES[kind] for kind in graph.node_types}
    assert {"msa", "token", "pos_enc", "rel_pos", "scale", "mul", "ln"} <= kinds


def test_embeddings() -> None:
    assert_as_traced(Embedded(), torch.zeros(2, 5, dtype=torch.long))


def test_multi_head_attention() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.attention(x, x, x, need_weights=False)[0].mean(1))

    found = read_onnx(exported(Net(), torch.zeros(2, 4, 8)))
    assert found == trace(Net(), torch.zeros(2, 4, 8))


class Translator(nn.Module):
    """The last states of one recurrent network are the first ones of another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.fc = nn.LSTM(4, 8), nn.LSTM(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.fc(self.decoder(y, self.encoder(x)[1])[0])


class GeneralizedMean(nn.Module):
    """A power with a learned exponent for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.power, self.fc = (
            nn.Conv2d(3, 4, 3),
            nn.Parameter(torch.full((1, 4, 1, 1), 3.0)),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.conv(x).clamp(min=1e-6).pow(self.power), 1).flatten(1))


def test_states_and_powers() -> None:
    assert_as_traced(GeneralizedMean(), torch.zeros(2, 3, 8, 8))
    given = torch.zeros(5, 1, 4), torch.zeros(6, 1, 4)
    found, traced = read_onnx(exported(Translator(), *given)), trace(Translator(), given)
    assert found == traced
    assert found.live.all()


OPERATORS = {
    "query, key and value": (
        """net (float[1,4,2] x) => (float[1,4,2] z) <float[2,2] q = {1,2,3,4}, float[2,2] k = {1,2,3,4},
        float[2,2] v = {1,2,3,4}> { a = MatMul (x, q)  b = MatMul (x, k)  c = MatMul (x, v)
        z = com.microsoft.MultiHeadAttention <num_heads = 1> (a, b, c) }""",
        "input conv conv conv msa",
        [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4], [3, 4]],
    ),
    "query, key, value and bias": (
        """net (float[1,4,2] x) => (float[1,4,2] z) <float[2,2] q = {1,2,3,4}, float[2,2] k = {1,2,3,4},
        float[2,2] v = {1,2,3,4}, float[6] s = {1,2,3,4,5,6}> { a = MatMul (x, q)  b = MatMul (x, k)  c = MatMul (x, v)
        z = com.microsoft.MultiHeadAttention <num_heads = 1> (a, b, c, s) }""",
        "input conv conv conv bias msa",
        [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4], [3, 4], [4, 5]],
    ),
    "the sum before a norm": (
        """net (float[1,4,2] x) => (float[1,4,2] z) <float[2,2] w = {1,2,3,4}, float[2,2] v = {1,2,3,4},
        float[2] g = {1,2}, float[2] b = {1,2}> { m = MatMul (x, w)
        n, _, _, s = com.microsoft.SkipLayerNormalization (x, m, g, b)  h = MatMul (n, v)  z = Add (s, h) }""",
        "input conv sum ln conv sum",
        [[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [2, 5], [4, 5]],
    ),
    "dynamic quantization": (
        """net (float[1,3,8,8] x) => (float[1,2,8,8] z) <int8[2,3,1,1] w = {1,2,3,4,5,6}, float k = {0.1},
        int8 o = {0}> { q, s, p = DynamicQuantizeLinear (x)  c = ConvInteger (q, w, p, o)  f = Cast <to = 1> (c)
        t = Mul (s, k)  z = Mul (f, t) }""",
        "input conv",
        [[0, 1]],
    ),
    "one-hot vectors": (
        """net (int64[4] x) => (float[4,2] z) <float[3,2] w = {1,2,3,4,5,6}, int64 depth = {3}, float[2] on = {0, 1}> {
        a = OneHot (x, depth, on)  z = MatMul (a, w) }""",
        "input conv",
        [[0, 1]],
    ),
    "a power of two": (
        """net (float[1,4] x) => (float[1,2] z) <float[4,2] w = {1,2,3,4,5,6,7,8}, float two = {2}> {
        a = Pow (two, x)  z = MatMul (a, w) }""",
        "input conv",
        [[0, 1]],
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    text, types, edges = OPERATORS[name]
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n' + text)
    graph = read_onnx(model)
    assert [NODE_TYPES[kind] for kind in graph.node_types] == types.split()
    assert graph.edges.tolist() == edges
    assert graph.live.all()


def test_norms_of_elementary_operators() -> None:
    found = read_onnx(exported(Normed(), torch.zeros(2, 3, 8, 8)))
    assert [NODE_TYPES[kind] for kind in found.node_types] == [
        *("input", "conv", "bias", "gn", "glob_avg", "rms", "conv", "bias")
    ]
    assert [slot.shape for slot in found.parameters[3]] == [(8,), (8,)]
    assert [slot.role for slot in found.parameters[5]] == ["norm_weight"]


@pytest.mark.parametrize("name", ["PDARTS", "ViT"])  # exporters merge equal poolings, which DARTS has
def test_networks_of_deepnets(name: str) -> None:
    vit = name == "ViT"
    config = NetworkConfig(GENOTYPES[name], 3, C=16, C_mult=1 if vit else 2, preproc=not vit)
    model = Network(config).train()
    found = read_onnx(exported(model, torch.zeros(2, 3, 32, 32)))
    graph = trace(model, torch.zeros(2, 3, 32, 32)).pruned()  # exporters remove operators without influence
    assert found.node_types.tolist() == graph.node_types.tolist()
    assert found.edges.tolist() == graph.edges.tolist()
    assert [[slot.shape for slot in node] for node in found.parameters] == [
        [slot.shape for slot in node] for node in graph.parameters
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "vit_b_32", "shufflenet_v2_x0_5"])
def test_models_of_torchvision(name: str) -> None:
    try:
        model = load_model(f"torchvision:{name}", num_classes=10).train()
    except ConfigError as error:
        pytest.skip(str(error))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = read_onnx(exported(model, torch.zeros(2, 3, 224, 224)))
    assert found == trace(model.eval(), torch.zeros(2, 3, 224, 224))


# --- models that other tools write ---


def model_of(text: str, **tensors: np.ndarray):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, values in tensors.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def kinds_of(graph: Graph) -> list[str]:
    return [NODE_TYPES[kind] for kind in graph.node_types]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_linear_layers_have_shapes_of_pytorch() -> None:
    text = """net (float[1, 6] x) => (float[1, 2] y) {
        a = MatMul (x, w1)
        b = Add (a, b1)
        c = Gemm (b, w2, b2)
        d = Gemm <transB = 1> (c, w3)
        t = Transpose <perm = [1, 0]> (w4)
        y = MatMul (d, t)
    }"""
    graph = read_onnx(
        model_of(text, w1=random(6, 5), b1=random(5), w2=random(5, 4), b2=random(4), w3=random(3, 4), w4=random(2, 3))
    )
    slots = [node[0] for node in graph.parameters if node]
    assert [(slot.name, slot.shape) for slot in slots] == [
        *(("w1", (5, 6)), ("b1", (5,)), ("w2", (4, 5)), ("b2", (4,)), ("w3", (3, 4)), ("w4", (2, 3)))
    ]


def test_masks_of_attention_are_no_parameters() -> None:
    text = """net (float[1, 4, 4] x) => (float[1, 4, 4] y) {
        s = MatMul (x, x)
        m = Add (s, mask)
        p = Softmax (m)
        v = Softmax (x)
        y = MatMul (p, x)
    }"""
    causal = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    graph = read_onnx(model_of(text, mask=causal))
    assert kinds_of(graph) == ["input", "msa"]
    assert not graph.unused
    learned = read_onnx(model_of(text, mask=random(4, 4)))
    assert kinds_of(learned) == ["input", "rel_pos", "msa"]


def test_quantized_layers() -> None:
    text = """net (uint8[1, 3, 8, 8] x) => (uint8[1, 4, 6, 6] y) {
        y = QLinearConv (x, s, z, w, s, zw, s, z, b)
    }"""
    scale, zero, signed = np.float32(0.1), np.uint8(0), np.int8(0)
    weight, bias = np.ones((4, 3, 3, 3), np.int8), np.ones(4, np.int32)
    graph = read_onnx(model_of(text, s=np.array(scale), z=np.array(zero), zw=np.array(signed), w=weight, b=bias))
    assert kinds_of(graph) == ["input", "conv", "bias"]
    assert graph.parameters[1][0].shape == (4, 3, 3, 3)


def test_weights_in_other_files_are_not_needed(tmp_path: Path) -> None:
    model = exported(Residual(), torch.zeros(2, 3, 16, 16))
    expected = read_onnx(model)
    onnx.save_model(model, tmp_path / "a.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    assert read_onnx(tmp_path / "a.onnx") == expected


def test_parameters_without_influence_are_unused() -> None:
    text = "net (float[1, 3] x) => (float[1, 3] y) { y = Relu (x) }"
    graph = read_onnx(model_of(text, spare=random(2, 3)))
    assert [slot.name for slot in graph.unused] == ["spare"]


def test_vocabularies() -> None:
    model = exported(Residual(), torch.zeros(2, 3, 16, 16))
    assert read_onnx(model, vocabulary="ghn3") == trace(Residual(), torch.zeros(2, 3, 16, 16), vocabulary="ghn3")


def test_control_flow_is_an_error() -> None:
    body = onnx.parser.parse_graph("body () => (float[1] z) { z = Constant <value = float[1] {1.0}> () }")
    branch = onnx.helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    model = model_of("net (bool c) => (float[1] y) { d = Identity (c) }")
    model.graph.node.append(branch)
    with pytest.raises(FormatError, match="operator If: control flow has no graph"):
        read_onnx(model)


INVALID = [
    "net (float[1] x) => (float[1] y) { y = Relu (missing) }",
    "net (float[1] x) => (float[1] y) { z = Relu (x) }",
    "net (float[1, 3, 8, 8] x) => (float[1] y) { y = Conv (x) }",
    "net (float[1] x) => (float[1] y) { y = Gemm (x) }",
    "net (float[1] x) => (float[1] y) { y = LSTM (x) }",
    "net (float[1, 3, 8, 8] x) => (float[1] y) { y = MaxPool <kernel_shape = 3> (x) }",
    "net (float[1, 3] x) => (float[1] y) { y = ReduceMean <axes = [1, 9], keepdims = 0> (x) }",
]


@pytest.mark.parametrize("text", INVALID)
def test_invalid_models_are_one_error(text: str) -> None:
    with pytest.raises((FormatError, TraceError), match="ONNX model: "):
        read_onnx(model_of(text))


def test_an_output_that_is_constant() -> None:
    text = "net (float[2, 3] x) => (int64[2] y) { y = Shape (x) }"
    with pytest.raises(TraceError, match="returns nothing that depends on its input"):
        read_onnx(model_of(text))
