# %% [markdown]
# # Get the corpus
#
# This tutorial builds a small DeepNets-1M, and reads graphs, networks and tables from it. In a terminal,
# `deepnets build` builds all of it.

# %% [markdown]
# ## Build it
#
# `train_size` and `search_size` are a million and 100,000 by default. A smaller corpus is the beginning of the large
# one: its networks are the same. Finished files are kept, so the same call resumes an interrupted build.

# %%
from generator import BuildPlan, build_corpus

reports = build_corpus("data", BuildPlan(train_size=300, search_size=100))
print(sum(report.networks for report in reports))  # 1800

# %% [markdown]
# The folder `data` now has one HDF5 file for each split. The [data card](../data-card.md) describes the splits, and
# [file formats](../file-formats.md) the files.
#
# ## Read graphs
#
# A split is a sequence of graphs. A node is an operation, such as a convolution; nodes are sorted topologically.

# %%
from deepnets import NODE_TYPES, DeepNets1M

nets = DeepNets1M("data", split="test")
print(len(nets))  # 500

graph = nets[0]
print(graph.edges.shape == (graph.num_edges, 2))  # True
print(NODE_TYPES[graph.node_types[0]])  # input

# %% [markdown]
# Every node states which parameter tensors of the network it stands for. Node 1 is the first convolution of the stem.

# %%
print([(slot.name, slot.shape) for slot in graph.parameters[1]])  # [('stem.0.weight', (240, 3, 5, 5))]

# %% [markdown]
# Hypernetworks connect distant nodes by *virtual edges*. They are computed when they are needed: an entry of the matrix
# is 0 for no path, 1 for an edge, and k for a shortest path of k edges.

# %%
distances = graph.distances(cutoff=50)
print(distances.shape == (graph.num_nodes, graph.num_nodes), distances.max() <= 50)  # True True

# %% [markdown]
# ## Read networks and tables
#
# `Network` builds the PyTorch module of a configuration, and `nets.table` has a row for each network.

# %%
import torch

from deepnets import Network

model = Network(graph.config)
print(model.eval()(torch.rand(2, 3, 32, 32)).shape)  # torch.Size([2, 10])

table = nets.table
print(len(table), round(table.num_params.mean() / 1e6, 2))  # 500 3.24

# %% [markdown]
# ## Read batches for training
#
# For your own training loop, the loader yields random batches of training graphs without end.

# %%
train = DeepNets1M("data", split="train", virtual_edges=50)
for batch in train.loader(meta_batch_size=4):
    print(len(batch.graphs))  # 4
    print(len(batch.node_types) == sum(graph.num_nodes for graph in batch.graphs))  # True
    break

# %% [markdown]
# ## Convert any network
#
# `trace` converts any PyTorch module to a graph of the same kind.

# %%
from deepnets import trace

perceptron = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
traced = trace(perceptron, torch.zeros(1, 8))
print([NODE_TYPES[kind] for kind in traced.node_types])  # ['input', 'conv', 'bias', 'conv', 'bias']

# %% [markdown]
# Next: [predict the parameters of a network](predict.py), or [train a hypernetwork](train.py) on these graphs.
