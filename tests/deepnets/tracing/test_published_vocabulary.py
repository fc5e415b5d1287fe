"""`trace` on the networks of torchvision and timm: known sizes, every parameter, ancestry."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deepnets import NODE_TYPES, Graph, trace
from deepnets.support import import_timm, import_torchvision
from tests.oracles.autograd_ancestry import ancestry_differences

try:
    torchvision = import_torchvision()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


def built(maker: Callable[[], nn.Module], device: str = "meta") -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on how weights are initialised
        try:
            with torch.device(device):
                return maker()
        except (RuntimeError, NotImplementedError):  # some constructors compute
            return maker()


def make(name: str, device: str = "meta", **options: Any) -> nn.Module:
    return built(lambda: torchvision.models.get_model(name, **options), device).eval()


def count(graph: Graph, kind: str) -> int:
    return [NODE_TYPES[index] for index in graph.node_types].count(kind)


def assert_covered(graph: Graph, model: nn.Module) -> None:
    """Every parameter is in exactly one node."""
    listed = [(slot.name, slot.shape) for slots in graph.parameters for slot in slots]
    assert sorted(listed) == sorted((name, tuple(p.shape)) for name, p in model.named_parameters())
    assert graph.unused == ()
    assert NODE_TYPES[graph.node_types[0]] == "input"
    assert (graph.edges[:, 0] < graph.edges[:, 1]).all()


# Nodes, edges, and counts of some node types.
SIZES: dict[str, tuple[int, int, dict[str, int]]] = {
    "resnet18": (53, 60, {"glob_avg": 1, "sum": 8, "bn": 20, "max_pool": 1}),
    "resnet50": (127, 142, {"glob_avg": 1, "sum": 16, "bn": 53}),
    "vgg11_bn": (37, 36, {"max_pool": 5}),
    "alexnet": (21, 20, {"max_pool": 3}),
    "mobilenet_v2": (118, 127, {"sep_conv": 17, "glob_avg": 1}),
    "mobilenet_v3_small": (125, 139, {"cse": 9, "glob_avg": 1}),
    "googlenet": (140, 166, {"glob_avg": 1, "concat": 9}),
    "densenet121": (307, 841, {"glob_avg": 1, "concat": 58}),
    "shufflenet_v2_x1_0": (133, 148, {"glob_avg": 1}),
    "mnasnet1_0": (118, 127, {"glob_avg": 1}),
    "regnet_y_400mf": (206, 237, {"cse": 16, "glob_avg": 1}),
    "efficientnet_b0": (191, 215, {"cse": 16, "glob_avg": 1}),
    "squeezenet1_1": (65, 72, {"glob_avg": 1}),
    "convnext_tiny": (161, 178, {"glob_avg": 1, "sum": 18, "scale": 0}),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", SIZES)
def test_known_sizes(name: str) -> None:
    nodes, edges, counts = SIZES[name]
    model = make(name)
    graph = trace(model, vocabulary="ghn3").pruned()
    assert (graph.num_nodes, graph.num_edges) == (nodes, edges)
    assert {kind: count(graph, kind) for kind in counts} == counts
    if name != "convnext_tiny":  # its layer scales are nodes otherwise
        assert trace(model).pruned() == graph
    assert [graph.parameters[i][0].role for i in (-2, -1)] == ["class_weight", "class_bias"]


def test_sizes_do_not_depend_on_image_and_device() -> None:
    graph = trace(make("resnet18"))
    assert trace(make("resnet18", "cpu"), torch.randn(2, 3, 64, 64)) == graph
    assert trace(make("resnet18", "cpu").train(), torch.randn(1, 3, 224, 224)) == graph


def test_auxiliary_heads_of_googlenet() -> None:
    graph = trace(make("googlenet"))
    dead = {slot.name for slots, live in zip(graph.parameters, graph.live) if not live for slot in slots}
    assert dead == {name for name, _ in make("googlenet").named_parameters() if name.startswith("aux")}
    assert_covered(graph, make("googlenet"))


def test_convnext_with_layer_scale() -> None:
    model = make("convnext_tiny")
    assert count(trace(model), "scale") == 18
    published = trace(model, vocabulary="ghn3")
    assert {slot.name.rpartition(".")[2] for slot in published.unused} == {"layer_scale"}


# One of every family; those that are slow on real numbers are made small, or given small images.
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    **dict.fromkeys(("alexnet", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5"), (64, {})),
    **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf"), (64, {})),
    **dict.fromkeys(("resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"), (64, {})),
    **dict.fromkeys(("convnext_tiny", "swin_t", "swin_v2_t"), (64, {})),
    "googlenet": (96, {}),
    "inception_v3": (299, {}),
    "vgg11_bn": (32, {}),
    "maxvit_t": (224, {}),
    "vit_b_16": (64, {"image_size": 64}),
}


@pytest.mark.sampled(14)
@pytest.mark.parametrize("name", FAMILIES)
def test_ancestry_of_every_family(name: str) -> None:
    size, options = FAMILIES[name]
    model = make(name, "cpu", **options)
    images = torch.randn(2 if name in ("googlenet", "inception_v3") else 1, 3, size, size)
    graph = trace(model, images)
    assert_covered(graph, model)
    assert ancestry_differences(graph, model, images) == []
    assert graph.live.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(torchvision.models))
def test_every_classifier_of_torchvision(name: str) -> None:
    model = make(name)
    assert_covered(trace(model), model)
    published = trace(model, vocabulary="ghn3")
    assert max(published.node_types) < 15
    assert published.pruned().num_nodes > 0.7 * published.num_nodes


# Families with something of their own: norms, attention, gates, tables, tokens, branches, reparametrisation.
TIMM = (
    *("beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "coatnet_nano_rw_224", "convit_tiny"),
    *("convmixer_768_32", "crossvit_tiny_240", "cs3darknet_s", "davit_tiny", "deit_tiny_distilled_patch16_224"),
    *("dla34", "dpn48b", "eca_nfnet_l0", "edgenext_xx_small", "efficientformer_l1", "efficientvit_b0"),
    *("eva02_tiny_patch14_224", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_100", "gmixer_12_224"),
    *("gmlp_ti16_224", "halonet26t", "hiera_tiny_224", "hrnet_w18_small", "inception_next_tiny", "lambda_resnet26t"),
    *("levit_128s", "mambaout_femto", "maxvit_nano_rw_256", "mixer_s32_224", "mobilenetv4_conv_small"),
    *("mobileone_s0", "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "nf_resnet26", "pit_ti_224", "poolformer_s12"),
    *("pvt_v2_b0", "repvgg_a0", "res2net50_26w_4s", "resmlp_12_224", "resnest14d", "resnetv2_50", "rexnet_100"),
    *("selecsls42b", "sequencer2d_s", "skresnet18", "swinv2_cr_tiny_224", "swinv2_tiny_window8_256"),
    *("tiny_vit_5m_224", "tnt_s_patch16_224", "tresnet_m", "twins_svt_small", "visformer_tiny", "volo_d1_224"),
    *(
        "vovnet39a",
        "xception41",
        "xcit_nano_12_p16_224",
        "vit_relpos_small_patch16_224",
        "vit_srelpos_small_patch16_224",
    ),
)


@pytest.mark.sampled(19)
@pytest.mark.parametrize("name", TIMM)
def test_difficult_families_of_timm(name: str) -> None:
    timm = import_timm()
    if name not in timm.list_models():
        pytest.skip(f"this version of timm has no {name}")
    model = built(lambda: timm.create_model(name))
    graph = trace(model)
    assert_covered(graph, model)
    assert trace(model, vocabulary="ghn3").num_nodes <= graph.num_nodes


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_ancestry_of_difficult_families(name: str) -> None:
    timm = import_timm()
    if name not in timm.list_models():
        pytest.skip(f"this version of timm has no {name}")
    model = built(lambda: timm.create_model(name), "cpu")
    images = torch.randn(1, *model.default_cfg["input_size"])
    assert ancestry_differences(trace(model, images), model, images) == []
