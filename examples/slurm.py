"""Train a hypernetwork on a SLURM cluster, in jobs that are shorter than the training; needs `submitit`.

python -m examples.slurm --hours 4 --jobs 6 --partition gpu -- --preset ghn3-t --images cifar10 --image-root cifar \
  --data data --out runs/ghn3-t

The jobs run one after the other.  Each continues from the state that the previous one has saved, and jobs that find a
finished training end at once.  `--cluster local` runs the jobs on this machine, to try it.
"""

import argparse
import subprocess
import sys

MARGIN = 10
"""Minutes of a job for starting, and for saving the state."""


def train(arguments: list[str], processes: int = 1) -> int:
    """Continue the training, and return the exit status; this runs in a job."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *(launcher if processes > 1 else []), "deepnets", "train", *arguments]
    return subprocess.run(command, check=True).returncode  # noqa: S603 - our own command


def submit(
    arguments: list[str],
    *,
    jobs: int,
    hours: float,
    processes: int = 1,
    folder: str = "jobs",
    cluster: str = "slurm",
    **options: object,
) -> list:
    """Submit the jobs, each of which waits for the one before it.

    Parameters
    ----------
    arguments
        Those of `deepnets train`.
    jobs, hours
        Number of jobs, and the time limit of each.
    processes
        Processes of a job, which share its GPUs and the networks of each step.
    folder
        Where the output of the jobs is written.
    cluster
        "slurm", or "local" for processes of this machine.
    options
        Parameters of SLURM, such as `slurm_partition="gpu"`.

    Returns
    -------
    list of submitit.Job
    """
    import submitit

    minutes = round(60 * hours)
    stop = ["--stop-after", str(max(1, minutes - MARGIN))]
    submitted: list = []
    for _ in range(jobs):
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        given = dict(options)
        if cluster == "slurm" and submitted:
            given["slurm_additional_parameters"] = {"dependency": f"afterany:{submitted[-1].job_id}"}
        executor.update_parameters(name="deepnets", timeout_min=minutes, **given)
        submitted.append(executor.submit(train, [*arguments, *stop], processes))
        if cluster != "slurm":
            submitted[-1].result()  # other clusters have no dependencies between jobs
    return submitted


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a hypernetwork in SLURM jobs.")
    parser.add_argument("--jobs", type=int, default=1, help="number of jobs (default: 1)")
    parser.add_argument("--hours", type=float, default=4.0, help="time limit of a job (default: 4)")
    parser.add_argument("--partition", help="partition of the cluster (default: that of the cluster)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of a job, with a process for each (default: 1)")
    parser.add_argument("--cluster", default="slurm", choices=("slurm", "local"), help="default: slurm")
    parser.add_argument("arguments", nargs="+", help="behind --: options of deepnets train")
    given = parser.parse_args()
    options = {"slurm_partition": given.partition} if given.partition else {}
    if given.cluster == "slurm":
        options |= {"gpus_per_node": given.gpus, "cpus_per_task": 8}
    submitted = submit(
        given.arguments, jobs=given.jobs, hours=given.hours, processes=given.gpus, cluster=given.cluster, **options
    )
    for job in submitted:
        print(f"job {job.job_id}: {job.paths.stdout}")


if __name__ == "__main__":
    main()
