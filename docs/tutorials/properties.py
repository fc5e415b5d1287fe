# %% [markdown]
# # Predict properties with PyG
#
# This tutorial trains a graph neural network of PyTorch Geometric to predict a property of networks from their graphs:
# the number of parameters. It needs the folder `data` of [Get the corpus](corpus.py) and
# `pip install "deepnets1m[pyg]"`.

# %% [markdown]
# ## Open a split as a dataset
#
# `to_pyg` makes a `torch_geometric.data.Dataset` that reads graphs when they are indexed. `targets` are the columns
# of `y`; with `shapes=True`, graphs have the sizes of the parameter of each node.

# %%
import torch
from torch_geometric.loader import DataLoader

from deepnets import NODE_TYPES, DeepNets1M

torch.manual_seed(0)
dataset = DeepNets1M("data", split="train").to_pyg(targets="num_params", shapes=True)
train, test = list(dataset[:200]), list(dataset[200:300])
print(train[0].y.shape, train[0].shape.shape == (train[0].num_nodes, 4))  # torch.Size([1, 1]) True

# %% [markdown]
# ## Train a GIN

# %%
from torch_geometric.nn import GIN, MLP, global_add_pool


class Regressor(torch.nn.Module):
    """Predicts the logarithm of a property."""

    def __init__(self, hidden=32):
        super().__init__()
        self.types = torch.nn.Embedding(len(NODE_TYPES), hidden)
        self.sizes = torch.nn.Linear(4, hidden)
        self.gin = GIN(hidden, hidden, num_layers=2, norm="layer")
        self.head = MLP([hidden, hidden, 1], norm=None)

    def forward(self, data):
        x = self.types(data.x) + self.sizes(data.shape.clamp(min=1).log())
        return self.head(global_add_pool(self.gin(x, data.edge_index), data.batch) / 100)


model = Regressor()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
mean = torch.cat([graph.y for graph in train]).log().mean()
for _ in range(5):
    for batch in DataLoader(train, batch_size=20, shuffle=True):
        loss = torch.nn.functional.mse_loss(model(batch), batch.y.log() - mean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %% [markdown]
# ## Compare rankings
#
# Kendall's tau is 1 for the same ranking, and 0 for an unrelated one.

# %%
from scipy.stats import kendalltau

with torch.no_grad():
    predicted = torch.cat([model(batch) for batch in DataLoader(test, batch_size=50)])
truth = torch.cat([graph.y for graph in test])
tau = kendalltau(predicted.flatten(), truth.flatten()).statistic
print(tau > 0.2)  # True

# %% [markdown]
# ## Predict accuracies
#
# The accuracies in a folder of results are targets, too:
#
# ```python
# from benchmark.analyses import read_accuracies
#
# nets = DeepNets1M("data", split="val")
# accuracies = read_accuracies("results", nets)  # after: deepnets bench --splits val --limit 0
# dataset = nets.to_pyg(targets=("num_params", "top1"), table=accuracies, shapes=True)
# ```
#
# [`examples/gin.py`](../../examples/gin.py) is a complete script. `deepnets properties` predicts accuracy,
# robustness, speed and convergence from embeddings of hypernetworks instead, as in the publication.
