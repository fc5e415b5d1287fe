"""The parts of hypernetworks, used outside of `GHN`, give the values that `GHN` predicts."""

from __future__ import annotations

import pytest
import torch

from deepnets import GENOTYPES, NetworkConfig, build_graph
from ghn_model import GHN, GHNConfig, parts
from ghn_model.parts import NUM_NODE_TYPES, NodeDecoder, ShapeEncoder, collate_graphs, make_encoder

GRAPHS = [build_graph(NetworkConfig(GENOTYPES[name], n_cells=3, C=16)) for name in ("DARTS", "ViT")]


@pytest.mark.parametrize("preset", ["ghn2", "ghn3-t", "logah-t"])
def test_a_hypernetwork_made_of_parts_predicts_what_ghn_predicts(preset: str) -> None:
    """Features, encoder and decoder with the weights of a `GHN` are this `GHN`."""
    ghn = GHN(GHNConfig.preset(preset)).eval()
    config = ghn.config
    weights = ghn.state_dict()
    types = torch.nn.Embedding.from_pretrained(weights["embed.weight"])
    assert types.num_embeddings == NUM_NODE_TYPES
    shapes = ShapeEncoder(config.hidden, config.num_classes, max(config.max_shape[2:]))
    shapes.load_state_dict(ghn.shape_enc.state_dict())
    encoder = make_encoder(config).eval()
    encoder.load_state_dict(ghn.gnn.state_dict())
    decoder = NodeDecoder(config)
    renamed = {"decoder.": "maps.", "decoder_1d.": "vectors.", "bias_class.": "class_bias."}
    for old, new in renamed.items():
        own = {name.removeprefix(old): value for name, value in weights.items() if name.startswith(old)}
        decoder.get_submodule(new[:-1]).load_state_dict(own)

    batch = collate_graphs(GRAPHS, config, encoder)
    x = encoder(types(batch.node_types) + shapes(batch.shapes), batch)
    found = decoder(batch, ghn.ln(x))
    for one, other in zip(found, ghn(GRAPHS), strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("preset", ["ghn2", "mlp", "ghn3-t"])
def test_encoders_prepare_what_a_batch_lacks(preset: str) -> None:
    config = GHNConfig.preset(preset)
    encoder = make_encoder(config).eval()
    x = torch.randn(sum(graph.num_nodes for graph in GRAPHS), config.hidden)
    prepared, plain = collate_graphs(GRAPHS, config, encoder), collate_graphs(GRAPHS, config)
    assert plain.encoder_inputs is None
    assert torch.equal(encoder(x, plain), encoder(x, prepared))


def test_small_initial_weights_make_small_predictions() -> None:
    norms = []
    for init in ("published", "small"):
        torch.manual_seed(0)
        config = GHNConfig(hidden=16, init=init, weight_norm=False)
        batch = collate_graphs(GRAPHS[0], config)
        (parameters,) = NodeDecoder(config)(batch, torch.randn(len(batch.node_types), 16))
        norms.append(float(torch.stack([tensor.norm() for tensor in parameters.values()]).norm().detach()))
    assert norms[1] < norms[0] / 3


def test_all_parts_are_documented() -> None:
    for name in parts.__all__:
        assert getattr(parts, name).__doc__ or name == "NUM_NODE_TYPES"
