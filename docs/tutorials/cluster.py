# %% [markdown]
# # Run on a cluster
#
# This tutorial evaluates networks on a Dask cluster. It needs the folder `data` of [Get the corpus](corpus.py) and
# `pip install "deepnets1m[torch,cluster]"`. Ray works in the same way: `backend="ray"`.

# %% [markdown]
# ## Start a cluster
#
# A script that starts processes needs `if __name__ == "__main__":`. This cluster has two workers on this machine. On
# several machines, start `dask scheduler` on one of them and `dask worker tcp://HOST:8786` on the others, and use
# `tcp://HOST:8786` as the address. The working directory, the corpus and the images must be on a file system that all
# of them share.

# %%
from distributed import LocalCluster

from benchmark.results import Machine, read_results, run

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        machine = Machine(backend="dask", address=cluster.scheduler_address)
        run(["random"], ["test"], "digits", limit=2, machine=machine, out="results/cluster")
    print(list(read_results("results/cluster").rows.status))  # ['ok', 'ok']

# %% [markdown]
# Rows are equal to those of one machine. If a machine is lost, its networks are evaluated again on the others.
#
# ## On SLURM
#
# [dask-jobqueue](https://jobqueue.dask.org) submits the workers as jobs (`pip install dask-jobqueue`):
#
# ```python
# from dask_jobqueue import SLURMCluster
#
# cluster = SLURMCluster(cores=8, processes=1, memory="32GB", walltime="04:00:00")  # one job: 8 networks at a time
# cluster.scale(jobs=4)
# ```
#
# ## In a terminal
#
# ```sh
# deepnets bench --backend dask --address tcp://HOST:8786
# deepnets build --backend dask --address tcp://HOST:8786
# ```
#
# The trainings of hypernetworks use processes of PyTorch instead:
# [Train with several processes](../training.md#train-with-several-processes).
