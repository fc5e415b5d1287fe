# %% [markdown]
# # Evaluate a method
#
# This tutorial compares a method of your own with bundled hypernetworks on networks that none of them has seen. It
# needs the folder `data` of [Get the corpus](corpus.py).

# %% [markdown]
# ## Write a method
#
# A method is a function of a model and its graph that returns all parameters by name. This one takes orthogonal
# matrices. It is in a file, because it runs in processes of its own.

# %%
from pathlib import Path

Path("mine.py").write_text('''
import torch


def predict(model, graph):
    """Orthogonal matrices; other parameters keep PyTorch's initialization."""
    values = dict(model.named_parameters())
    return {name: torch.nn.init.orthogonal_(w.clone()) if w.dim() > 1 else w for name, w in values.items()}


predict.training_data = "none"
''')

# %% [markdown]
# ## Try it on one network
#
# `evaluate` returns a table with one row per network. A network for which a method fails has a row, too, with the
# reason, and counts as 0 in the mean.

# %%
from benchmark import evaluate

table = evaluate("mine:predict", split="test", images="digits", index=0)
print(list(table.status))  # ['ok']

# %% [markdown]
# ## Compare
#
# `run` evaluates several methods on several splits into a folder. It resumes: networks that have a row are skipped.
# `limit` is the number of networks of each split; leave it out for all of them.

# %%
from benchmark.report import write_report
from benchmark.results import Machine, read_results, run

run(["mine:predict", "ghn2-digits", "random"], ["test"], "digits", limit=1, machine=Machine(workers=1), out="results")
rows = read_results("results").rows
print(len(rows), set(rows.status))  # 3 {'ok'}

means = rows.groupby("predictor").top1.mean()
print(means["ghn2-digits"] > means["random"])  # True

# %% [markdown]
# ## Share the result
#
# The report is one HTML file without external resources.

# %%
print(write_report("results"))  # results/report.html

# %% [markdown]
# The same in a terminal, with all splits for testing (`test`, `wide`, `deep`, `dense`, `bnfree` and `predefined`):
#
# ```sh
# deepnets bench --predictors mine:predict ghn2-digits random --limit 20
# ```
#
# [The benchmark](../benchmark.md) defines the protocol and lists all kinds of predictors: checkpoints, functions,
# trained networks, and initializations of the literature. [Run on a cluster](cluster.py) uses more machines.
