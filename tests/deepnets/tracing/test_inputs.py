"""`trace` with inputs of integers and conditions, and with inputs in objects of other types."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, Graph, TraceError, trace
from deepnets.support import import_torchvision
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.zoo.case import Parts, parameter


def types_of(graph: Graph) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


def linear() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


# --- integers and conditions that become numbers ---


def denoiser(self: Any, x: Tensor, step: Tensor) -> Tensor:
    """The step of a diffusion model, as sines and cosines."""
    angles = step[:, None].float() * 1000 * torch.exp(-torch.arange(4) / 4)
    return self.head(self.stem(x) + self.time(torch.cat([angles.sin(), angles.cos()], -1)))


WORDS = torch.tensor([[1, 5, 2], [7, 0, 3]])
NUMBERS: dict[str, tuple[Callable[..., Tensor], dict[str, Any], Any, str]] = {
    "one_hot": (lambda self, ids: self.a(F.one_hot(ids, 8).float()), {"a": linear()}, WORDS, "input conv"),
    "comparison": (
        lambda self, ids: self.a((ids[..., None] == torch.arange(8)).to(torch.float32)),
        {"a": linear()},
        WORDS,
        "input conv",
    ),
    "scatter_": (
        lambda self, ids: self.a(torch.zeros(2, 8).scatter_(1, ids, 1.0)),
        {"a": linear()},
        WORDS,
        "input conv",
    ),
    "bits": (
        lambda self, bits: self.a(torch.where(bits, 1.0, -1.0)),
        {"a": linear()},
        torch.rand(2, 8) > 0.5,
        "input conv",
    ),
    "learned frequencies": (
        lambda self, ids: self.a(ids.float()[..., None] * self.w),
        {"a": linear(), "w": parameter(8)},
        WORDS,
        "input scale conv",
    ),
    "joined": (
        lambda self, x, ids: self.a(torch.cat([self.b(x), ids.float()], -1)),
        {"a": nn.Linear(11, 8, bias=False), "b": linear()},
        (torch.randn(2, 8), WORDS),
        "input conv concat conv",
    ),
    "steps": (
        denoiser,
        {"stem": linear(), "time": linear(), "head": linear()},
        (torch.randn(2, 8), torch.tensor([3, 7])),
        "input conv conv sum conv",
    ),
    "pooled bytes": (
        lambda self, x: self.a((x.float() / 127.5 - 1).mean((2, 3))),
        {"a": nn.Linear(3, 2)},
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        "input glob_avg conv bias",
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_from_integers_are_the_input(name: str) -> None:
    run, parts, inputs, types = NUMBERS[name]
    graph = trace(Parts(run, **parts), inputs)
    assert types_of(graph) == types
    assert graph.live[0]


def masked_mean(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    x, kept = self.a(x), mask[..., None].float()
    return self.b((x * kept).sum(1) / kept.sum(1).clamp(min=1))


def masked_attention(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    x = self.a(x)
    shift = (1.0 - mask[:, None].to(x.dtype)) * torch.finfo(x.dtype).min
    return self.b((x @ x.mT + (self.table + shift)).softmax(-1) @ x)


def masked_selection(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    last = mask.sum(1) - 1
    return self.b(self.a(x)[torch.arange(2), last])


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.int32])
@pytest.mark.parametrize(
    ("run", "types", "parts"),
    [
        (masked_mean, "input conv conv", {}),
        (masked_attention, "input conv rel_pos msa conv", {"table": parameter(5, 5)}),
        (masked_selection, "input conv conv", {}),
    ],
)
def test_masks_and_indices_are_no_operands(run: Any, types: str, parts: dict[str, Any], dtype: torch.dtype) -> None:
    model = Parts(run, a=linear(), b=linear(), **parts)
    inputs = (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=dtype))
    graph = trace(model, inputs)
    assert types_of(graph) == types
    assert ancestry_differences(graph, model, inputs) == []


# --- types of arguments ---


@dataclass
class Batch:
    image: Tensor
    more: dict[str, Any] = field(default_factory=dict)

    def doubled(self) -> Tensor:
        return self.image * 2


class Slotted:
    __slots__ = ("image", "owner")

    def __init__(self, image: Tensor) -> None:
        self.image, self.owner = image, self  # a cycle


Pair = namedtuple("Pair", "image scale")
IMAGE = torch.randn(2, 8)
ARGUMENTS: dict[str, Any] = {
    "dataclass": Batch(IMAGE, {"mode": "x"}),
    "slots and a cycle": Slotted(IMAGE),
    "namespace": SimpleNamespace(image=IMAGE, inner=SimpleNamespace(depth=2)),
    "named tuple": Pair(IMAGE, 1.0),
    "user dict": UserDict(image=IMAGE, more=UserDict(mode="x")),
}


def image_of(batch: Any) -> Tensor:
    return batch["image"] if isinstance(batch, UserDict) else batch.image


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_keep_their_types(name: str) -> None:
    argument = ARGUMENTS[name]

    def run(self: Any, batch: Any) -> Tensor:
        assert type(batch) is type(argument)
        assert image_of(batch) is not IMAGE
        return self.a(batch.doubled() if isinstance(batch, Batch) else image_of(batch))

    assert types_of(trace(Parts(run, a=linear()), (argument,))) == "input conv"
    assert image_of(argument) is IMAGE


@pytest.mark.parametrize("kind", [UserDict, OrderedDict, lambda **named: UserDict(OrderedDict(named))])
def test_mappings_are_keyword_arguments(kind: Callable[..., Any]) -> None:
    def run(self: Any, *, image: Tensor, scale: float) -> Tensor:
        return self.a(image) * scale

    assert types_of(trace(Parts(run, a=linear()), kind(image=IMAGE, scale=2.0))) == "input conv"


def test_outputs_of_transformers() -> None:
    """What an encoder returns, as the input of a decoder; its item and its attribute are one tensor."""
    pytest.importorskip("transformers")
    with contextlib.suppress(ImportError):
        import_torchvision()  # transformers imports it, too, and does not know how to without a GPU
    kind = pytest.importorskip("transformers.modeling_outputs").BaseModelOutput
    encoded = kind(last_hidden_state=IMAGE)

    def run(self: Any, output: Any) -> Tensor:
        assert type(output) is kind
        assert list(output) == ["last_hidden_state"]
        assert output[0] is output["last_hidden_state"] is not IMAGE
        return self.a(output.last_hidden_state)

    assert types_of(trace(Parts(run, a=linear()), (encoded,))) == "input conv"
    assert encoded.last_hidden_state is encoded["last_hidden_state"] is IMAGE


def test_the_same_tensor_stays_the_same() -> None:
    def run(self: Any, query: Tensor, key: Tensor) -> Tensor:
        return self.a(query) if query is key else self.b(query)

    graph = trace(Parts(run, a=linear(), b=linear()), (IMAGE, IMAGE))
    assert [slot.name for slots in graph.parameters for slot in slots] == ["a.weight"]


def test_graphs_of_pytorch_geometric() -> None:
    data = pytest.importorskip("torch_geometric.data")

    def run(self: Any, graph: Any) -> Tensor:
        assert isinstance(graph, data.Data)
        assert graph.num_nodes == 4
        return self.a(graph.x)[graph.edge_index[0]]

    graph = data.Data(x=torch.randn(4, 8), edge_index=torch.tensor([[0, 1], [1, 3]]))
    assert types_of(trace(Parts(run, a=linear()), graph)) == "input conv"
    assert not graph.x.is_meta


def test_what_cannot_be_followed() -> None:
    model = Parts(lambda self, batch: self.a(batch.image), a=linear())
    with pytest.raises(TraceError, match=r"Namespace.*cannot be copied"):
        trace(model, (SimpleNamespace(image=IMAGE, lock=threading.Lock()),))
    text = Parts(lambda self, text: self.a(torch.tensor([float(len(word)) for word in text])), a=linear())
    with pytest.raises(TraceError, match="holds no tensor"):
        trace(text, (["a"] * 8,))


def test_complex_inputs_and_parameters() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.a((x * self.filter).abs())

    model = Parts(run, a=linear(), filter=nn.Parameter(torch.randn(8, dtype=torch.complex64)))
    inputs = torch.randn(2, 8, dtype=torch.complex64)
    graph = trace(model, inputs)
    assert types_of(graph) == "input scale conv"
    assert graph.parameters[1][0].name == "filter"
    with torch.device("meta"):
        assert trace(model, inputs) == graph


# --- images of bytes, and tables ---


def warped(self: Any, pixels: Tensor) -> Tensor:
    grid = F.affine_grid(self.place(pixels.mean((2, 3))).view(2, 2, 3), [2, 3, 8, 8], align_corners=False)
    return self.conv(F.grid_sample(pixels, grid, align_corners=False))


PIXELS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "gate": (lambda self, pixels: self.conv(pixels * self.gate(pixels).sigmoid()), "input conv mul conv"),
    "transformer": (warped, "input glob_avg conv other conv"),
    "product": (
        lambda self, pixels: self.head(pixels.flatten(1) @ self.gate(pixels).flatten(1).mT),
        "input conv matmul conv",
    ),
}


@pytest.mark.parametrize("name", PIXELS)
def test_bytes_are_pixels(name: str) -> None:
    run, types = PIXELS[name]
    layers = {"place": nn.Linear(3, 6, bias=False), "head": nn.Linear(2, 3, bias=False)}
    layers |= {key: nn.Conv2d(3, 3, 1, bias=False) for key in ("conv", "gate")}
    model = Parts(lambda self, x: run(self, x.float() / 255), **layers)
    image = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    graph = trace(model, image).pruned()
    assert types_of(graph) == types
    assert graph == trace(Parts(run, **layers), image.float()).pruned()


LOOKUPS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "embedding": lambda self, ids: F.embedding(ids, self.table),
    "[]": lambda self, ids: self.table[ids],
    "index_select": lambda self, ids: self.table.index_select(0, ids.flatten()).view(2, 3, 8),
    "gather": lambda self, ids: self.table.gather(0, ids.view(6, 1).expand(6, 8)),
    "take_along_dim": lambda self, ids: torch.take_along_dim(self.table, ids.view(6, 1), 0),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_all_ways_to_look_up_a_table_are_embeddings(name: str) -> None:
    model = Parts(lambda self, ids: self.a(LOOKUPS[name](self, ids)), table=parameter(9, 8), a=linear())
    graph = trace(model, WORDS)
    assert types_of(graph) == "input embed conv"
    assert graph.parameters[1][0].role == "embed"
    assert "table" not in {slot.name for slot in trace(model, WORDS, vocabulary="ghn3").unused}


def test_weights_of_the_parts_of_a_sentence() -> None:
    def run(self: Any, ids: Tensor) -> Tensor:
        return self.a(F.embedding_bag(ids, self.table, per_sample_weights=self.w[ids], mode="sum"))

    graph = trace(Parts(run, table=parameter(9, 8), w=parameter(9), a=linear()), WORDS)
    assert types_of(graph) == "input embed embed conv"
    assert graph.live.all()
