"""`Network` against the specification: parameters, outputs, gradients, and errors."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from deepnets.architecture import GENOTYPES, PRIMITIVES, Genotype, Network, NetworkConfig
from deepnets.architecture.operations import drop_path
from deepnets.support import ConfigError
from tests.oracles.autograd_graph import autograd_graph
from tests.oracles.functional_forward import functional_forward
from tests.oracles.parameter_table import count_parameters, list_parameters
from tests.oracles.worked_examples import EXAMPLES, STREAM, example_parameters, genes
from tests.support.strategies import configs, has_output

Shape = tuple[int, ...]


def shapes(network: Network) -> list[tuple[str, Shape]]:
    return [(name, tuple(parameter.shape)) for name, parameter in network.named_parameters()]


def on_meta(*args: object, **options: object) -> Network:
    with torch.device("meta"):
        return Network(*args, **options)


def randomised(network: Network, seed: int = 0) -> Network:
    """Return the network in double precision, with random values in place of initial zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dim() >= 2:
                fan_in = tensor[0].numel()
                tensor.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            elif tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    return network


def images(size: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def assume_finite(values: Tensor) -> None:
    """Skip examples that overflow: without norms, several squeeze-and-excitation blocks exceed the largest double."""
    assume(values.isfinite().all())


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def config_of(normal: str, reduce: str = "skip 0, skip 1", concat: tuple[int, ...] = (2,), **fields) -> NetworkConfig:
    return NetworkConfig(Genotype(genes(normal), concat, genes(reduce), concat), **{"n_cells": 3, "C": 8, **fields})


# ----- parameters -----


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_have_these_parameters(name: str) -> None:
    assert shapes(Network(EXAMPLES[name].config)) == list(example_parameters(name))


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", [*EXAMPLES, *STREAM])
def test_published_networks_have_as_many_parameters_as_published(name: str, size: int) -> None:
    known = EXAMPLES.get(name) or STREAM[name]
    network = on_meta(known.config, 10, size)
    assert sum(parameter.numel() for parameter in network.parameters()) == known.num_params[size == 224]


@pytest.mark.parametrize(
    ("genotype", "fields", "classes", "size", "count"),
    [
        ("ViT", {"n_cells": 12, "C": 128, "C_mult": 1, "preproc": False}, 10, 32, 1_012_234),
        ("ViT", {"n_cells": 12, "C": 128, "C_mult": 1, "preproc": False}, 1000, 224, 1_244_392),
        ("DARTS", {"n_cells": 20, "C": 36}, 10, 32, 3_349_342),
        ("DARTS", {"n_cells": 14, "C": 48, "stem_type": 1}, 1000, 224, 4_718_752),
        ("PDARTS", {"n_cells": 20, "C": 36}, 10, 32, 3_433_798),
    ],
)
def test_known_networks_have_as_many_parameters_as_published(
    genotype: str, fields: dict[str, object], classes: int, size: int, count: int
) -> None:
    network = on_meta(NetworkConfig(GENOTYPES[genotype], norm="bn-track", **fields), classes, size)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@settings(deadline=None, max_examples=100)
@given(configs(max_steps=5, max_cells=9, widths=(2, 6, 8, 16), with_output=True), st.data())
def test_names_shapes_order_and_number_of_parameters(config: NetworkConfig, data: st.DataObject) -> None:
    size, classes, auxiliary = data.draw(st.tuples(st.sampled_from([32, 224]), st.integers(1, 20), st.booleans()))
    try:
        network = on_meta(config, classes, size, auxiliary=auxiliary)
    except ConfigError:
        assert auxiliary  # its input cell can be disconnected
        auxiliary = False
        network = on_meta(config, classes, size)
    assert shapes(network) == list_parameters(config, classes, size, auxiliary=auxiliary)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == count_parameters(config, classes, size, auxiliary=auxiliary)


def test_only_tracking_norms_have_buffers() -> None:
    for norm in (None, "bn", "bnorm"):
        assert not list(Network(config_of("conv_1x1 0, skip 1", norm=norm)).buffers())
    assert list(Network(config_of("conv_1x1 0, skip 1", norm="bn-track")).buffers())


# ----- logits -----

SMALL = {"n_cells": 4, "C": 8}
NAMED = {
    "ViT": NetworkConfig(GENOTYPES["ViT"], **SMALL, C_mult=1, preproc=False),
    "DARTS": NetworkConfig(GENOTYPES["DARTS"], **SMALL, norm="bn-track"),
    "PDARTS": NetworkConfig(GENOTYPES["PDARTS"], **SMALL, stem_type=1, fc_layers=2, fc_dim=16),
    "rectified stem": config_of("skip 0, max 1", stem_type=1, norm=None, preproc=False, C_mult=1),
    "rectified stem, one cell": config_of("avg 0, conv_1x1 1", stem_type=1, preproc=False, C_mult=1, n_cells=1),
    "flat head": config_of("conv_5x5 0, sep5 1", "dil3 0, avg 1", glob_avg=False, stem_pool=True),
    "flat head, wide image": config_of("conv_3x3 0, cse 1", "cse 0, skip 1", glob_avg=False, imagenet_stride=2),
    "absent states": config_of(
        "none 0, none 1, conv_7x1_1x7 0, none 2", "none 0, max 1, conv_7x1_1x7 2, none 1", (2, 3), n_cells=5
    ),
    "absent cells": config_of("none 1, conv_3x3 0", "none 0, none 1", n_cells=5, preproc=False, C_mult=1),
    "absent cells, flat head": config_of("none 1, conv_3x3 0", "none 0, none 1", n_cells=5, glob_avg=False),
    "attention": config_of("msa 0, cse 1, conv_7x7 2, msa 2", "msa 0, skip 1, dil5 1, none 2", (2, 3), n_cells=3),
    **{name: example.config.replace(C=8) for name, example in EXAMPLES.items()},
}


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", NAMED)
def test_logits_of_named_networks(name: str, size: int) -> None:
    network = randomised(Network(NAMED[name], 7, size)).eval()
    with torch.no_grad():
        expected, _ = functional_forward(network.config, network.state_dict(), images(size))
        assert_same(network(images(size)), expected)


@settings(deadline=None, max_examples=80)
@given(configs(with_output=True), st.integers(0, 2**32))
def test_logits_of_any_network(config: NetworkConfig, seed: int) -> None:
    network = randomised(Network(config), seed).eval()
    with torch.no_grad():
        expected, _ = functional_forward(config, network.state_dict(), images())
        assume_finite(expected)
        assert_same(network(images()), expected)


@settings(deadline=None, max_examples=10)
@given(configs(max_steps=2, max_cells=4, widths=(8,), with_output=True))
def test_logits_of_any_network_for_large_images(config: NetworkConfig) -> None:
    network = randomised(Network(config, 5, 224)).eval()
    with torch.no_grad():
        expected, _ = functional_forward(config, network.state_dict(), images(224))
        assume_finite(expected)
        assert_same(network(images(224)), expected)


def test_batch_norm_without_running_statistics_uses_those_of_the_batch() -> None:
    for norm, depends in (("bnorm", True), ("bn", True), ("bn-track", False), (None, False)):
        network = randomised(Network(config_of("conv_3x3 0, skip 1", norm=norm))).eval()
        batch = images(batch=3)
        alone = network(batch[:1])
        assert torch.allclose(network(batch)[:1], alone) is not depends


# ----- gradients, devices, precision -----


@settings(deadline=None, max_examples=25)
@given(configs(with_output=True))
def test_gradients_reach_exactly_the_parameters_that_the_output_depends_on(config: NetworkConfig) -> None:
    network = Network(config)
    network(images().float()).sum().backward()
    used = {name for node in autograd_graph(network).pruned().nodes for name in node.names}
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == used


def test_unused_parameters_have_no_gradient() -> None:
    config = config_of("none 0, none 1, conv_3x3 2, skip 1", "skip 0, sep3 1, max 0, skip 1", (3,), norm=None)
    network = Network(config)
    network(images().float()).sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert "cells.0._ops.2.op.1.weight" in without  # starved
    assert "cells.0.preprocess0.op.1.weight" in without  # its state is not used
    assert "cells.1._ops.1.op.1.weight" in without  # its sum is not concatenated
    assert "cells.0.preprocess1.op.1.weight" not in without


@settings(deadline=None, max_examples=20)
@given(configs(max_cells=4, with_output=True))
def test_functional_call_gives_the_same_logits_and_gradients(config: NetworkConfig) -> None:
    network = randomised(Network(config)).eval()
    logits = network(images())
    logits.square().sum().backward()
    assume_finite(logits.square())
    parameters = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    with torch.device("meta"):
        shell = Network(config).eval()
    tensors = {**dict(network.named_buffers()), **parameters}
    called = functional_call(shell, tensors, (images(),))
    called.square().sum().backward()
    assert_same(called, logits)
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            assert parameters[name].grad is None
        else:
            assert_same(parameters[name].grad, parameter.grad)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(configs(max_cells=4, with_output=True), st.sampled_from([32, 224]))
def test_meta_device(config: NetworkConfig, size: int) -> None:
    network = on_meta(config, 10, size, drop_path=0.2)
    batch = torch.empty(2, 3, size, size, device="meta")
    for mode in (True, False):
        logits = network.train(mode)(batch)
        assert logits.shape == (2, 10)
        assert logits.device.type == "meta"


# ----- auxiliary head -----


@settings(deadline=None, max_examples=30)
@given(configs(max_cells=5, with_output=True))
def test_auxiliary_head(config: NetworkConfig) -> None:
    config = config.replace(fc_layers=1)  # no dropout
    try:
        network = randomised(Network(config, auxiliary=True))
    except ConfigError as error:
        assert "auxiliary" in str(error)  # noqa: PT017
        return
    network.train()
    # Copied first, because running statistics move in training.
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        logits, auxiliary_logits = network(images())
        expected, auxiliary_expected = functional_forward(config, state, images(), training=True)
    assume_finite(torch.stack([expected, auxiliary_expected]))
    assert_same(logits, expected)
    assert_same(auxiliary_logits, auxiliary_expected)
    assert isinstance(network.eval()(images()), Tensor)


@pytest.mark.parametrize("name", ["ViT", "DARTS", "PDARTS", "attention"])
def test_auxiliary_head_for_large_images(name: str) -> None:
    network = randomised(Network(NAMED[name].replace(fc_layers=1), 7, 224, auxiliary=True)).train()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        logits, auxiliary_logits = network(images(224))
        expected, auxiliary_expected = functional_forward(network.config, state, images(224), training=True)
    assert_same(logits, expected)
    assert_same(auxiliary_logits, auxiliary_expected)


def test_auxiliary_head_of_a_cell_without_output_is_an_error() -> None:
    config = config_of("skip 0, none 1", "none 0, none 1", n_cells=5)
    Network(config)
    with pytest.raises(ConfigError, match=r"auxiliary: cell 3.*no output"):
        Network(config, auxiliary=True)


# ----- drop path -----


def test_drop_path_keeps_the_expected_value_and_the_samples_whole() -> None:
    torch.manual_seed(0)
    x = torch.rand(4000, 2, 3, 3) + 1
    before = x.clone()
    y = drop_path(x, 0.25)
    ratio = (y / x).flatten(1)
    assert torch.equal(x, before)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))
    kept = ratio[:, 0] > 0
    assert torch.allclose(ratio[kept], torch.tensor(4 / 3))
    assert abs(kept.float().mean().item() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)


def test_drop_path_zeroes_operations_per_sample_in_training_only() -> None:
    config = config_of("max 0, none 1", n_cells=1, norm=None, preproc=False, C_mult=1)
    network = Network(config, drop_path=0.5)
    features = []
    network.cells[0].register_forward_hook(lambda module, args, output: features.append(output.detach()))
    batch = images(batch=64).float()
    torch.manual_seed(0)
    network.eval()(batch)
    network.train()(batch)
    plain, dropped = features
    kept = dropped.abs().amax((1, 2, 3)) > 0
    assert 10 < kept.sum() < 54
    assert torch.equal(dropped[kept], 2 * plain[kept])
    assert torch.equal(network.eval()(batch), network(batch))


def test_drop_path_spares_skips_that_do_nothing_and_follows_the_attribute() -> None:
    torch.manual_seed(0)
    batch = images(batch=16).float()
    skips = Network(config_of("skip 0, skip 1", n_cells=1), drop_path=0.9).train()
    assert torch.equal(skips(batch), skips(batch))
    strided = Network(config_of("skip 0, skip 1", n_cells=3), drop_path=0.9).train()
    assert not torch.equal(strided(batch), strided(batch))
    strided.drop_path = 0.0
    assert torch.equal(strided(batch), strided(batch))


@pytest.mark.parametrize("primitive", [op for op in PRIMITIVES if op != "none"])
def test_drop_path_is_not_in_place(primitive: str) -> None:
    network = Network(config_of(f"{primitive} 0, {primitive} 1", f"{primitive} 0, skip 1"), drop_path=0.5).train()
    network(images().float()).sum().backward()


# ----- errors and side effects -----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 15}, "image_size: expected an integer, 16 to 512; got 15"),
        ({"image_size": 0}, "image_size"),
        ({"num_classes": 0}, "num_classes: expected an integer, 1 to 2147483647; got 0"),
        ({"num_classes": True}, "num_classes"),
        ({"num_classes": 2.0}, "num_classes"),
        ({"drop_path": 1.0}, "drop_path: expected a probability"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"drop_path": math.nan}, "drop_path"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Network(NAMED["DARTS"], **arguments)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(configs(max_steps=3, primitives=("none", "skip_connect", "conv_1x1")))
def test_a_network_without_output_is_an_error(config: NetworkConfig) -> None:
    if has_output(config):
        assert on_meta(config)(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)
    else:
        with pytest.raises(ConfigError, match="no output"):
            on_meta(config)


def test_the_input_is_left_as_it_is_and_copies_are_independent() -> None:
    for name in ("DARTS", "PDARTS", "ViT"):
        network, batch = Network(NAMED[name]).eval(), images().float()
        logits = network(batch)
        assert torch.equal(batch, images().float())
        assert torch.equal(copy.deepcopy(network)(batch), logits)
        other = Network(NAMED[name]).eval()
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(batch), logits)


def test_initialisation_is_not_degenerate() -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=64, C_mult=1, preproc=False))
    assert abs(network.pos_enc.weight.std().item() - 1) < 0.05
    assert network(images().float()).std() > 0


@pytest.mark.parametrize("wrong", [GENOTYPES["DARTS"], "DARTS", None])
def test_other_things_than_configurations(wrong: Any) -> None:
    """Other libraries take the genotype itself."""
    with pytest.raises(ConfigError, match=r"got \w+; for a genotype, use Network\(NetworkConfig\("):
        Network(wrong)
