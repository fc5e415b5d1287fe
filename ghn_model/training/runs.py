"""`train`: start a run in a folder, or resume it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from deepnets.corpus import DeepNets1M
from deepnets.families import FamilyNetworks
from deepnets.support import ConfigError, exclusive, remove_temporary
from ghn_model.config import GHNConfig
from ghn_model.tasks import LogitTask, get_logit_task
from ghn_model.training.distributed import Distributed, joined
from ghn_model.training.hypernetwork import Hypernetwork, Weights
from ghn_model.training.images import Images
from ghn_model.training.loggers import LoggedRun, Logger
from ghn_model.training.recipe import Recipe
from ghn_model.training.schedules import Budget
from ghn_model.training.state import CheckpointPolicy
from ghn_model.training.task_data import check_data
from ghn_model.training.texts import TextStream
from ghn_model.training.trainer import Trainer
from ghn_model.training.validation import Validation

__all__ = ["train"]

FILES = ("state.safetensors", "ghn.safetensors", "hypernetwork.safetensors", "log.csv", "curve.csv")
"""Files of a run that are replaced atomically."""


def train(
    out: Path | str,
    hypernetwork: GHNConfig | Hypernetwork | Callable[[], Hypernetwork],
    recipe: Recipe,
    images: Images | TextStream,
    nets: DeepNets1M | FamilyNetworks,
    *,
    task: str | LogitTask = "classification",
    budget: Budget | None = None,
    checkpoints: CheckpointPolicy | None = None,
    init: Weights | None = None,
    validation: Validation | None = None,
    distributed: Distributed | None = None,
    workers: int = 0,
    resume: bool | None = None,
    quiet: bool = False,
    after_step: Callable[[int], None] | None = None,
    loggers: Sequence[str | Callable[[LoggedRun], Logger]] | None = None,
) -> Path:
    """Train a hypernetwork, or resume a training that was interrupted.

    Parameters
    ----------
    out : Path or str
        Folder of the run; created if it is missing.  If it holds the state of a run, this run is resumed.
    hypernetwork : GHNConfig, Hypernetwork, or callable
        Configuration of a `GHN`; or a hypernetwork of your own; or a class or function that returns one when called
        without arguments, so that the seed of the recipe decides its initial weights.
    recipe : Recipe
        Hyperparameters.  They must not change when a run is resumed.
    images : Images or TextStream
        Training data of the task: images (`image_stream`), or texts.
    nets : DeepNets1M or FamilyNetworks
        Training split, for the number of classes and the size of the images; for texts, a family of language models.
    task : str or LogitTask, default "classification"
        What the networks are given, how their output becomes a loss, and which metric is logged
        (`ghn_model.tasks`): "classification", "text", "module:attribute", or an object.
    budget : Budget, optional
        Length of the training; by default `recipe.epochs`.  It may change when a run is resumed.
    checkpoints : CheckpointPolicy, optional
        How often to log and save.
    init : nn.Module or mapping of str to Tensor, optional
        Hypernetwork, or its state dict, whose weights a new run starts from, with a new optimizer.  Tensors that have
        another shape because of the number of classes keep their random initial values; embedding tables of a `GHN` are
        rearranged (see `ghn_model.checkpoints.grow_tables`).  A run is resumed only with the same `init`, or without
        it.
    validation : Validation, optional
        Networks and images to validate on; results are written to `curve.csv`.
    distributed : Distributed, optional
        This process among others, and its device.  By default the processes of the program or of `torchrun`
        (`Distributed()`), on GPUs if there are any.
    workers : int, default 0
        Worker processes that prepare graphs.
    resume : bool, optional
        True requires a state to resume from, False an empty folder.  By default a state is resumed if there is one.
    quiet : bool, default False
        Whether to show no progress bar.
    after_step : callable, optional
        Called after each step with the number of steps done.
    loggers : sequence of str or callable, optional
        Programs that receive the rows of `log.csv`: "tensorboard", "wandb", "module:attribute", or functions of a
        `LoggedRun` that return a `Logger`.  By default TensorBoard if it is installed; `()` for none.

    Returns
    -------
    Path
        File of the hypernetwork: `ghn.safetensors`, or `hypernetwork.safetensors` if it is not a `GHN`.

    Raises
    ------
    ConfigError
        If arguments do not fit together, the folder is in use or holds another run, or a hypernetwork of your own
        predicts tensors that are missing, have other shapes or are not finite (before the first step).
    MissingDependencyError
        If the package of a logger is not installed.
    TrainingError
        If too many meta-batches were skipped, or a worker process or another process of the training has ended.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import DeepNets1M
    >>> from ghn_model import GHN
    >>> from ghn_model.training import image_stream
    >>> config = GHNConfig(hidden=8, max_shape=(16, 16, 11, 11))
    >>> recipe = Recipe.preset("ghn2", "digits", max_params=2_000_000, max_nodes=0, meta_batch_size=1, batch_size=2)
    >>> images = image_stream("digits", 2, device=torch.device("cpu"))
    >>> nets = DeepNets1M(split="predefined")  # use DeepNets1M("data", split="train")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = train(
    ...         folder, config, recipe, images, nets, budget=Budget(steps=1), distributed=Distributed("cpu"), quiet=True
    ...     )
    ...     GHN.from_pretrained(path).config.hidden
    8
    """
    out = Path(out)
    task = get_logit_task(task)
    check_data(task, hypernetwork, recipe, images, nets)
    with joined(distributed) as processes:
        if recipe.meta_batch_size % processes.world_size:
            given = f"{recipe.meta_batch_size} networks cannot be shared by {processes.world_size} processes"
            raise ConfigError(f"meta_batch_size: {given}")
        has_state = (out / "state.safetensors").exists()
        if resume is not None and resume != has_state:
            raise ConfigError(f"{out}: {'there is no state to resume from' if resume else 'already holds a run'}")
        budget = budget or Budget()
        if budget.steps is None and budget.minutes is None:
            budget = Budget(steps=recipe.epochs * images.per_epoch)
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out) if processes.is_main else contextlib.nullcontext(), _global_state(recipe, processes):
            if processes.is_main:
                remove_temporary(out, FILES)
            trainer = Trainer(out, hypernetwork, recipe, images, nets, budget, processes, init, task=task)
            trainer.checkpoints, trainer.validation = checkpoints or CheckpointPolicy(), validation
            trainer.workers, trainer.after_step = workers, after_step
            trainer.log_options = {"quiet": quiet, "loggers": loggers}
            return trainer.run()


@contextlib.contextmanager
def _global_state(recipe: Recipe, distributed: Distributed) -> Iterator[None]:
    """Set the precision of single precision on GPUs; restore it and the random number generators afterwards."""
    on_gpu = distributed.device.type == "cuda"
    precision = "tf32" if recipe.precision == "tf32" else "ieee"
    with contextlib.ExitStack() as stack:
        if on_gpu:
            stack.enter_context(single_precision(precision))
        stack.enter_context(torch.random.fork_rng([distributed.device] if on_gpu else []))
        yield


@contextlib.contextmanager
def single_precision(precision: str) -> Iterator[None]:
    """Set how GPUs compute in single precision, "ieee" or "tf32"; by default, PyTorch uses TF32 for convolutions.

    Meanwhile, PyTorch refuses to read its older flags `allow_tf32`.

    Examples
    --------
    >>> with single_precision("ieee"):
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    cudnn: Any = torch.backends.cudnn
    backends = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
