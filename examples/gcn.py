"""A graph convolutional hypernetwork of your own: docs/own-hypernetwork.md explains it.

deepnets train --hypernetwork examples.gcn:GCN --images digits --minutes 2 --out runs/gcn
deepnets bench --predictors trained:examples.gcn:GCN:runs/gcn/hypernetwork.safetensors ghn2-digits
"""

import torch
from torch import nn

from ghn_model import GHNConfig
from ghn_model.parts import NUM_NODE_TYPES, NodeDecoder, PreparedBatch, ShapeEncoder, collate_graphs


class GCN(nn.Module):
    """Embeds the nodes by graph convolutions (Kipf and Welling, 2017), along edges and against them."""

    def __init__(self, num_classes: int = 10, hidden: int = 32, layers: int = 4):
        super().__init__()
        self.config = GHNConfig(num_classes=num_classes, hidden=hidden, virtual_edges=1, init="small")
        self.types = nn.Embedding(NUM_NODE_TYPES, hidden)
        self.shapes = ShapeEncoder(hidden, num_classes, largest=11)
        self.layers = nn.ModuleList(nn.Linear(3 * hidden, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.decoder = NodeDecoder(self.config)

    def prepare(self, graphs):
        """Do what needs no weights; the trainer calls this in the workers of the data loader."""
        return collate_graphs(graphs, self.config)

    def forward(self, graphs):
        batch = graphs if isinstance(graphs, PreparedBatch) else self.prepare(graphs)
        batch = batch.to(self.norm.weight.device)
        x = self.types(batch.node_types) + self.shapes(batch.shapes)  # (nodes, hidden)
        source, target = batch.graphs.edges.to(x.device).T
        for layer in self.layers:
            messages = torch.cat([x, mean(x, source, target), mean(x, target, source)], dim=1)
            x = x + layer(messages).relu()
        return self.decoder(batch, self.norm(x))  # one dict of tensors per graph


def mean(x, source, target):
    """The mean of the sources of the edges into each node; 0 for a node without edges."""
    sums = torch.zeros_like(x).index_add(0, target, x[source])
    return sums / target.bincount(minlength=len(x)).clamp(min=1)[:, None]
