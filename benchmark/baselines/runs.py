"""Training of many networks, one after another, into a folder: existing results are kept, missing ones are added.

OUT/curves.csv                          one row per epoch of every training, or one row for a failed training
OUT/settings.json                       settings of the trainings of every label, so that only equal ones are added
OUT/LABEL/SPLIT-INDEX.safetensors       parameters and running statistics after the last epoch
OUT/LABEL/SPLIT-INDEX.state.safetensors state of the training that is in progress, from which it continues
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.baselines.jobs import TrainingJob
from benchmark.baselines.store import Curves, group_of
from benchmark.evaluation import FAILED, OK
from benchmark.training import SGDRecipe, Start, Trained, evaluated_epochs, initialized, train_network
from benchmark.training.progress import SAVE_SECONDS
from benchmark.training.start import UNFINISHED, is_auxiliary
from deepnets.architecture import Network
from deepnets.data import Images
from deepnets.support import CheckpointError, DeepNetsError, FormatError, ProgressBar
from ghn_model.checkpoints import write_tensors
from ghn_model.tasks import Task

__all__ = ["run_trainings", "start_network", "train_all"]


def train_all(
    curves: Curves,
    jobs: Sequence[TrainingJob],
    starts: Sequence[Start],
    recipe: SGDRecipe,
    train_images: Images,
    eval_images: Images,
    *,
    epochs_evaluated: Sequence[int] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    save: bool = True,
    save_seconds: float = SAVE_SECONDS,
    progress: bool = False,
    retry_failed: bool = False,
    task: str | Task = "classification",
) -> None:
    """Train every network from every source of initial parameters, except for trainings that have rows.

    A training that was interrupted continues from its last saved state, with the same results.

    Parameters
    ----------
    curves
        The folder of the results, opened.
    jobs, starts, recipe
        Networks, sources of initial parameters, and settings of the training.  For a network, all sources see the same
        images in the same order.
    train_images, eval_images
        Images for training and evaluation.
    epochs_evaluated
        As in `train_network`.
    settings
        Further settings that must be equal for all trainings of a label, as values that JSON can represent.
    seed
        Seed of initial values and of the order of images; each network has its own random numbers.
    device
        Device of the training.
    save
        Whether to write the final state of each network, without auxiliary head.
    save_seconds
        Seconds between two saved states of a training.
    progress
        Whether to show a progress bar.
    retry_failed
        Whether to train those of these networks again that failed before.
    task
        As in `train_network`; `curves` needs columns for its metrics.

    Raises
    ------
    ConfigError
        If the folder has trainings with other settings, or, with `save`, of the same networks on other images.
    CheckpointError
        If the state of a training is damaged, or a file cannot be written.
    FormatError, IntegrityError
        If the corpus, an image or a file of the folder is damaged.  Other errors are failures of the network that is
        being trained.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from torch import nn
    >>> from benchmark.baselines import TrainingJob
    >>> from deepnets.data import load_images
    >>> digits = load_images("digits", "val")
    >>> job = TrainingJob("mine", 0, "linear", 0, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), graph=None)
    >>> with tempfile.TemporaryDirectory() as folder, Curves(Path(folder)).opened() as curves:
    ...     train_all(curves, [job], [Start()], SGDRecipe(epochs=1), digits, digits)
    ...     curves.table()[["network", "epoch", "status"]].values.tolist()
    [['linear', 1, 'ok']]
    """
    about = {
        **(settings or {}),
        "epochs_evaluated": sorted(evaluated_epochs(recipe.epochs, epochs_evaluated)),
        "train": [train_images.split, len(train_images)],
        "evaluate": [eval_images.split, len(eval_images)],
    }

    def train(job: TrainingJob, start: Start, row: dict[str, Any], seed: int, **options: Any) -> Trained:
        net = start_network(job, start, row, seed, eval_images.num_classes, recipe)
        return train_network(
            net,
            train_images,
            recipe,
            eval_images=eval_images,
            epochs_evaluated=epochs_evaluated,
            seed=seed >> 1,
            device=device,
            save_seconds=save_seconds,
            task=task,
            **options,
        )

    options: dict[str, Any] = {"seed": seed, "save": save, "progress": progress, "retry_failed": retry_failed}
    run_trainings(curves, jobs, starts, recipe, eval_images.name, about, train, **options)


def start_network(
    job: TrainingJob, start: Start, row: dict[str, Any], seed: int, num_classes: int, recipe: SGDRecipe
) -> nn.Module:
    """Build a network with its initial parameters, and enter its number of parameters, without auxiliary head.

    Parameters
    ----------
    job, start, recipe
        The network, its initial parameters, and the recipe of the training.
    row
        Row of the table; its `num_params` is set.
    seed
        Seed of random parameters and of noise.
    num_classes
        Number of classes.

    Examples
    --------
    >>> from benchmark.baselines.jobs import genotype_jobs
    >>> row = {}
    >>> (job,) = genotype_jobs(["DARTS"], num_classes=10, image_size=32)
    >>> net = start_network(job, Start(), row, 0, 10, SGDRecipe.preset("darts"))
    >>> row["num_params"], net.auxiliary
    (3349342, True)
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        model = job.build()
        if recipe.auxiliary_weight and isinstance(model, Network):
            model = Network(model.config, model.num_classes, model.image_size, auxiliary=True)
    row["num_params"] = sum(p.numel() for name, p in model.named_parameters() if not is_auxiliary(name))
    graph = job.graph(model, start.ghn.config.vocabulary) if start.ghn else None
    options: dict[str, Any] = {"num_classes": num_classes, "recipe": recipe, "name": job.name, "seed": seed >> 1}
    return initialized(model, start, graph=graph, **options)


def run_trainings(
    curves: Curves,
    jobs: Sequence[TrainingJob],
    starts: Sequence[Start],
    recipe: SGDRecipe,
    images: str,
    settings: Mapping[str, Any],
    train: Callable[..., Trained],
    *,
    seed: int,
    save: bool,
    progress: bool,
    retry_failed: bool,
) -> None:
    """Run the trainings that have no rows, and write their results.

    Parameters
    ----------
    curves, jobs, starts, recipe, seed, save, progress, retry_failed
        As for `train_all`.
    images
        Name of the images.
    settings
        Settings that must be equal for all trainings of a label, beside the recipe, as values that JSON can represent.
    train
        Function that trains a network: ``train(job, start, row, seed, each_epoch=..., state_file=...)``, with the row
        of the table, in which it enters `num_params`.

    Raises
    ------
    ConfigError, CheckpointError, FormatError, IntegrityError
        As for `train_all`.
    """
    for split in sorted({job.split for job in jobs}):
        for start in starts:
            about = {**recipe.to_dict(), "init": start.about, "seed": seed, **settings}
            if save:
                curves.check_images(start.label, split, images)
            curves.check_settings(group_of(start.label, split, images), about)
    asked = {
        (start.label, job.split, job.network or str(job.index), images): (job, start)
        for job in jobs
        for start in starts
    }
    if retry_failed:
        curves.remove_failed(asked)
    done = curves.finished()
    todo = [training for key, training in asked.items() if key not in done]
    bar = ProgressBar(todo, desc="training", show=progress and bool(todo), unit="network")
    for job, start in bar:
        bar.set_postfix_str(f"{job.name} from {start.label}")
        row = {"predictor": start.label, "split": job.split, "index": job.index, "network": job.network}
        row |= {"images": images, "num_params": 0, "status": OK, "reason": ""}

        def show(point: dict[str, float], about: str = f"{job.name} from {start.label}") -> None:
            bar.set_postfix_str(f"{about}: epoch {point['epoch']} of {recipe.epochs}, loss {point['loss']:.3f}")

        folder = curves.folder / start.label
        state_file = folder / f"{job.name}{UNFINISHED}"
        try:
            word = int(np.random.Philox(key=[seed, job.key]).random_raw())
            trained = train(job, start, row, word, each_epoch=show, state_file=state_file)
        except (FormatError, CheckpointError):  # damaged images or a file that cannot be written concern all networks
            raise
        except Exception as error:  # models are arbitrary code
            reason = str(error) if isinstance(error, DeepNetsError) else f"{type(error).__name__}: {error}"
            curves.append([{**row, "epoch": 0, "status": FAILED, "reason": " ".join(reason.split())[:300]}])
            state_file.unlink(missing_ok=True)
            continue
        if save:
            folder.mkdir(exist_ok=True)
            about = {"job": json.dumps({**row, "recipe": recipe.to_dict(), "seed": seed}, sort_keys=True)}
            state = {name: tensor for name, tensor in trained.state.items() if not is_auxiliary(name)}
            write_tensors(folder / f"{job.name}.safetensors", state, about)
        points = trained.curve.rename(columns={"loss": "train_loss"}).to_dict("records")
        curves.append([{**row, **point, "seconds": round(point["seconds"], 3)} for point in points])
        state_file.unlink(missing_ok=True)
