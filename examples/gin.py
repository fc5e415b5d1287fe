"""Predict the number of parameters and the accuracy of networks from their graphs with a GIN; prints Kendall's tau.

deepnets bench --predictors ghn2-digits --splits val test --limit 30
python examples/gin.py data results
"""

import sys

import torch
from scipy.stats import kendalltau
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GIN, MLP, global_add_pool, global_max_pool, global_mean_pool

from benchmark.analyses import read_accuracies
from deepnets import NODE_TYPES, DeepNets1M


class Regressor(torch.nn.Module):
    def __init__(self, hidden: int = 64, num_layers: int = 3, num_targets: int = 2) -> None:
        super().__init__()
        self.types, self.sizes = torch.nn.Embedding(len(NODE_TYPES), hidden), torch.nn.Linear(4, hidden)
        self.powers = torch.nn.Linear(4, 8)  # of the sizes of a tensor, whose product is its number of elements
        self.gin = GIN(hidden, hidden, num_layers, norm="layer")
        self.head = MLP([2 * hidden + 8, hidden, num_targets], norm=None)

    def forward(self, data):
        sizes = data.shape.clamp(min=1).log()
        x = self.gin(self.types(data.x) + self.sizes(sizes), data.edge_index)
        total = global_add_pool(self.powers(sizes).exp(), data.batch).log()
        return self.head(torch.cat([global_mean_pool(x, data.batch), global_max_pool(x, data.batch), total], 1))


def graphs(data: str, results: str, split: str):
    nets = DeepNets1M(data, split)
    accuracies = read_accuracies(results, nets)
    return list(nets.to_pyg(targets=("num_params", "top1"), table=accuracies, shapes=True)[accuracies.index.tolist()])


def main(data: str, results: str, epochs: int = 60) -> list[float]:
    torch.manual_seed(0)
    train, test = graphs(data, results, "val"), graphs(data, results, "test")
    y = torch.cat([graph.y for graph in train])
    model = Regressor()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in DataLoader(train, batch_size=16, shuffle=True):
            loss = torch.nn.functional.huber_loss(model(batch), (batch.y - y.mean(0)) / y.std(0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        found = torch.cat([model(batch) for batch in DataLoader(test, batch_size=16)])
    truth = torch.cat([graph.y for graph in test])
    return [float(kendalltau(found[:, i], truth[:, i]).statistic) for i in range(2)]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    parameters, accuracy = main(*sys.argv[1:])
    print(f"Kendall's tau on test: {parameters:.2f} for parameters, {accuracy:.2f} for accuracy")
