"""`Network` under autocast: logits have the type of the classifier."""

from __future__ import annotations

import torch
from hypothesis import given, settings

from deepnets.architecture import Network, NetworkConfig
from tests.deepnets.architecture.test_network import NAMED, assert_same, images
from tests.support.strategies import configs


@settings(deadline=None, max_examples=15)
@given(configs(max_cells=4, with_output=True))
def test_autocast(config: NetworkConfig) -> None:
    network = Network(config.replace(norm="bnorm")).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images().float())
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    logits.sum().backward()
    assert network.classifier[-1].weight.grad.dtype == torch.float32


def test_autocast_of_a_network_in_half_precision() -> None:
    network = Network(NAMED["DARTS"]).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images().to(torch.bfloat16)).dtype == torch.bfloat16


def test_autocast_is_close_to_full_precision_and_leaves_the_classifier_alone() -> None:
    torch.manual_seed(0)
    network = Network(NAMED["DARTS"].replace(fc_layers=2)).eval()
    dtypes = []
    network.classifier.register_forward_hook(lambda module, args, output: dtypes.append((args[0].dtype, output.dtype)))
    with torch.no_grad():
        exact = network(images().float())
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images().float())
    assert dtypes == [(torch.float32, torch.float32)] * 2
    assert not torch.equal(exact, rounded)
    assert_same(rounded, exact, tolerance=0.05)


def test_a_classifier_that_was_replaced_may_have_no_parameters() -> None:
    network = Network(NAMED["DARTS"])
    network.classifier = torch.nn.Identity()
    with torch.no_grad():
        features = network(images().float())
        with torch.autocast("cpu", torch.bfloat16):
            assert network(images().float()).shape == features.shape
