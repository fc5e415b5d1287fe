"""The images or texts of a step that a process of a training uses."""

from __future__ import annotations

from torch import Tensor

from ghn_model.training.images import FolderStream, Images
from ghn_model.training.recipe import Recipe
from ghn_model.training.texts import TextStream

__all__ = ["examples_of_process"]


def examples_of_process(
    data: Images | TextStream, step: int, recipe: Recipe, rank: int, world_size: int
) -> tuple[Tensor, Tensor]:
    """Return the examples and targets of a step that a process uses: all, or those of its networks.

    Parameters
    ----------
    data : Images or TextStream
        Training data.  Of a `FolderStream`, other images are not decoded.
    step : int
        Number of the step.
    recipe, rank, world_size
        As for `Recipe.images_of`, which raises errors.

    Examples
    --------
    >>> import torch
    >>> from ghn_model.training.images import image_stream
    >>> stream = image_stream("digits", 8, device=torch.device("cpu"), augment=False)
    >>> recipe = Recipe(meta_batch_size=4, batch_size=2, share_images=False)
    >>> own, _ = examples_of_process(stream, 0, recipe, rank=1, world_size=4)
    >>> torch.equal(own, stream.at(0)[0][2:4])
    True
    """
    if isinstance(data, FolderStream):
        return data.at(step, recipe.images_of(rank, world_size, data.batch_size))
    examples, targets = data.at(step)
    own = recipe.images_of(rank, world_size, len(targets))
    return examples[own], targets[own]
