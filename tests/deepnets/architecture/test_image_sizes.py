"""Networks for images of any size: module, functional pass, graph and counts agree, and the stem follows one rule."""

from __future__ import annotations

import pytest
import torch

from deepnets import GENOTYPES, DeepNets1M, Network, NetworkConfig, build_graph
from deepnets.architecture import has_cifar_stem, run_network
from deepnets.corpus.widths import evaluation_factor
from deepnets.graph import count_parameters
from ghn_model import GHN, GHNConfig

SIZES = (16, 17, 28, 31, 64, 65, 75, 96)
DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=8)
CONFIGS = {
    "pooled": DARTS,
    "stem of two layers": DARTS.replace(stem_type=1),
    "flat": DARTS.replace(glob_avg=False, stem_pool=True),
    "flat, stride 2": DARTS.replace(glob_avg=False, imagenet_stride=2),
    "flat, stem of two layers": DARTS.replace(glob_avg=False, stem_type=1),
    "attention": NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=16, C_mult=1, preproc=False),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_module_function_and_graph_agree(name: str, size: int) -> None:
    config = CONFIGS[name]
    network, images = Network(config, 7, size), torch.randn(2, 3, size, size)
    parameters = dict(network.named_parameters())
    logits = network(images)
    assert logits.shape == (2, 7)
    assert torch.equal(logits, run_network(config, parameters, images, image_size=size))
    assert count_parameters(config, 7, size) == sum(tensor.numel() for tensor in parameters.values())
    slots = [slot for node in build_graph(config, 7, size).parameters for slot in node]
    assert {slot.name: slot.shape for slot in slots} == {name: tuple(p.shape) for name, p in parameters.items()}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_largest_size(name: str) -> None:
    """The same on the meta device, which computes shapes only."""
    config, size = CONFIGS[name], 512
    with torch.device("meta"):
        network, images = Network(config, 7, size), torch.empty(2, 3, size, size)
    parameters = dict(network.named_parameters())
    assert network(images).shape == run_network(config, parameters, images, image_size=size).shape == (2, 7)
    assert count_parameters(config, 7, size) == sum(tensor.numel() for tensor in parameters.values())
    slots = [slot for node in build_graph(config, 7, size).parameters for slot in node]
    assert {slot.name: slot.shape for slot in slots} == {name: tuple(p.shape) for name, p in parameters.items()}


@pytest.mark.parametrize("size", [16, 28, 48, 65, 96, 200])
@pytest.mark.parametrize("name", ["pooled", "stem of two layers", "attention"])
def test_auxiliary_heads_fit(name: str, size: int) -> None:
    network = Network(CONFIGS[name].replace(n_cells=3), 7, size, auxiliary=True).train()
    assert [output.shape for output in network(torch.randn(2, 3, size, size))] == [(2, 7), (2, 7)]


def test_the_stem_is_that_of_cifar10_up_to_64_pixels() -> None:
    strides = {size: Network(DARTS.replace(stem_type=0), 7, size).stem[0].stride[0] for size in (16, 32, 64, 65, 224)}
    assert strides == {16: 1, 32: 1, 64: 1, 65: 4, 224: 4}
    assert [size for size in range(16, 513) if has_cifar_stem(size)] == list(range(16, 65))
    patches = {size: Network(CONFIGS["attention"], 7, size).stem0.kernel_size[0] for size in (64, 65)}
    assert patches == {64: 3, 65: 16}


def test_widths_and_decoded_shapes_follow_the_stem() -> None:
    assert [evaluation_factor("wide", size) for size in (16, 64, 65, 224)] == [4, 4, 2, 2]
    sides = [GHNConfig.preset("ghn2", image_size=size).max_shape[2] for size in (16, 32, 64, 65, 224, 512)]
    assert sides == [11, 11, 11, 16, 16, 16]
    graph, network = (
        DeepNets1M("", "predefined", num_classes=3, image_size=48)[1],
        Network(CONFIGS["attention"], 3, 48),
    )
    assert next(slot.shape for node in graph.parameters for slot in node if slot.role == "pos_enc") == (1, 128, 16, 16)
    assert tuple(network.pos_enc.weight.shape) == (1, 16, 16, 16)


@pytest.mark.parametrize("preset", ["ghn2", "ghn3-t"])
@pytest.mark.parametrize("size", [16, 60, 100])
def test_hypernetworks_predict_for_other_sizes(preset: str, size: int) -> None:
    """Position encodings can be larger than the largest decoded map."""
    ghn = GHN(GHNConfig.preset(preset, num_classes=7, image_size=size, hidden=8, max_shape=(16, 16, 11, 11)))
    for name in ("attention", "flat"):
        network = Network(CONFIGS[name], 7, size)
        predicted = ghn.predict(network)
        shapes = {key: tuple(tensor.shape) for key, tensor in predicted.items()}
        assert shapes == {key: tuple(tensor.shape) for key, tensor in network.named_parameters()}
        assert run_network(CONFIGS[name], predicted, torch.randn(2, 3, size, size), image_size=size).isfinite().all()
