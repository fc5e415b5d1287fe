"""`EvaluationJob` and `PredictionJob`: what is evaluated, in a form that can be sent to other processes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from benchmark.accuracy import BATCH_SIZE
from benchmark.evaluation.networks import Networks, open_networks
from benchmark.evaluation.predictor_context import ImageInfo, PredictorContext
from benchmark.evaluation.predictor_objects import Predictor, as_predictor
from benchmark.evaluation.predictors import (
    PREDICTORS,
    PredictorInfo,
    PredictorKind,
    open_predictor,
)
from benchmark.evaluation.rows import empty_row
from benchmark.metrics import Metric, get_metrics
from deepnets.data import Images, ImageStatistics
from deepnets.support import ConfigError
from ghn_model.ghn import GHN
from ghn_model.tasks import LogitTask, get_logit_task

__all__ = [
    "EvaluationJob",
    "OpenedPrediction",
    "PredictionJob",
]


class OpenedPrediction(NamedTuple):
    """The objects that a `PredictionJob` names.

    Attributes
    ----------
    networks, predictor
        The networks, and what predicts their parameters.
    device, seed, vocabulary, predict_class_layers
        As in the job.
    """

    networks: Networks
    predictor: Predictor | GHN
    device: str
    seed: int
    vocabulary: str
    predict_class_layers: bool = True


@dataclass(frozen=True, eq=False)
class PredictionJob:
    """Networks whose parameters are predicted, and the predictor: what the process of the predictor knows.

    Attributes
    ----------
    predictor
        The description of a predictor, or an object as for `benchmark.evaluation.predictor_objects.as_predictor`.
    predictor_kind
        The kind of a described predictor, because a process does not know kinds that the user has registered.
    networks, data, limit
        As in `EvaluationJob`.
    images
        Description of the images.
    image_root
        Folder of the image set, for predictors that train.
    device, seed
        Device of the predictor, and seed of random numbers.
    vocabulary
        Vocabulary of the graphs of models of libraries.
    predict_class_layers
        As in `benchmark.evaluate`.
    """

    predictor: Any
    predictor_kind: PredictorKind | None
    networks: str
    images: ImageInfo
    data: str = "data"
    limit: int | None = None
    image_root: str | None = None
    device: str = "cpu"
    seed: int = 0
    vocabulary: str = "complete"
    predict_class_layers: bool = True

    def open(self) -> OpenedPrediction:
        """Open networks and predictor.

        Raises
        ------
        DeepNetsError
            If one of them does not exist, is damaged, or does not fit the other.
        """
        networks = open_networks(
            self.networks,
            data=self.data,
            num_classes=self.images.num_classes,
            image_size=self.images.image_size,
            limit=self.limit,
        )
        context = PredictorContext(
            networks, self.images, self.image_root, self.device, self.seed, self.predict_class_layers
        )
        if isinstance(self.predictor, PredictorInfo):
            predictor = open_predictor(self.predictor, context, self.predictor_kind)
        else:
            predictor = as_predictor(self.predictor, "the object")
        return OpenedPrediction(networks, predictor, self.device, self.seed, self.vocabulary, self.predict_class_layers)


@dataclass(frozen=True, eq=False)
class EvaluationJob:
    """Networks, a predictor and images, and how the networks are evaluated.

    Attributes
    ----------
    predictor
        The description of a predictor, or an object as for `benchmark.evaluation.predictor_objects.as_predictor`.
    networks
        As for `benchmark.evaluation.open_networks`.
    images
        The name of an image set, or the images themselves.
    image_split
        Part of the image set, if it is given by its name.
    noise
        Standard deviation of the noise that is added to the images, if they are given by their name.
    data, image_root
        Folders of the corpus and of the image set.
    limit
        Number of networks, counted from the first; None for all.
    batch_size, seed
        As in `benchmark.evaluate`.
    metrics
        The metrics that are computed.
    vocabulary
        As in `benchmark.evaluate`.
    device
        Device of the images and of the predictor.
    corruption, corruption_root
        Corruption of the images, as for `deepnets.data.open_images`, if they are given by their name.
    statistics
        Statistics of the images, if they were computed for the run (`deepnets.data.run_statistics`).
    predict_class_layers
        As in `benchmark.evaluate`.
    task
        Task of the networks.
    data_options
        Options of the data set of the task, if it is given by its name (`ghn_model.tasks.Task.open_data`).

    Examples
    --------
    >>> from benchmark.evaluation import describe_predictor
    >>> job = EvaluationJob(describe_predictor("random"), "predefined", "digits")
    >>> images = job.open_images()
    >>> len(job.open_networks(images)), images.split
    (2, 'test')
    """

    predictor: Any
    networks: str
    images: str | Images
    image_split: str = "test"
    noise: float = 0.0
    data: str = "data"
    image_root: str | None = None
    limit: int | None = None
    batch_size: int = BATCH_SIZE
    seed: int = 0
    metrics: tuple[Metric, ...] = field(default_factory=get_metrics)
    vocabulary: str | None = None
    device: str = "cpu"
    corruption: str | None = None
    corruption_root: str | None = None
    statistics: ImageStatistics | None = None
    predict_class_layers: bool = True
    task: LogitTask = field(default_factory=lambda: get_logit_task("classification"))
    data_options: Mapping[str, Any] = field(default_factory=dict)

    def open_images(self, device: str | None = None) -> Images:
        """Open the images, on a device instead of the job's own if one is given.

        Raises
        ------
        DeepNetsError
            If they do not exist or are damaged.
        """
        if not isinstance(self.images, str):
            return self.images
        images: Images = self.task.open_data(
            self.images,
            self.image_split,
            root=self.image_root,
            device=device or self.device,
            noise=self.noise,
            **self.opening(),
            **({"corruption": self.corruption, "corruption_root": self.corruption_root} if self.corruption else {}),
        )
        return images

    def opening(self) -> dict[str, Any]:
        """Return the options of opening the data set that do not change its examples."""
        return {**self.data_options, **({"statistics": self.statistics} if self.statistics else {})}

    def open_networks(self, images: Images) -> Networks:
        """Open the networks for images.

        Raises
        ------
        DeepNetsError
            If they do not exist or are damaged.
        """
        return open_networks(
            self.networks,
            data=self.data,
            num_classes=images.num_classes,
            image_size=getattr(images, "image_size", None),
            limit=self.limit,
        )

    def prediction(self, device: str | None = None) -> PredictionJob:
        """Return what the process of the predictor must know.

        Examples
        --------
        >>> EvaluationJob(len, "test", "digits").prediction().images.num_classes
        10
        """
        kind = PREDICTORS[self.predictor.kind] if isinstance(self.predictor, PredictorInfo) else None
        if isinstance(self.images, str):
            given = tuple(sorted(self.opening().items()))
            images = _describe_images(self.task, self.images, self.image_split, self.image_root, given)
        else:
            images = ImageInfo.of(self.images, self.task.name)
        return PredictionJob(
            self.predictor,
            kind,
            self.networks,
            images,
            self.data,
            self.limit,
            self.image_root,
            device or self.device,
            self.seed,
            self.graph_vocabulary,
            self.predict_class_layers,
        )

    @property
    def graph_vocabulary(self) -> str:
        """Vocabulary of the graphs of models of libraries: the job's own, or that of the predictor."""
        if self.vocabulary is not None:
            return self.vocabulary
        if isinstance(self.predictor, GHN):
            return self.predictor.config.vocabulary
        return self.predictor.vocabulary if isinstance(self.predictor, PredictorInfo) else "complete"

    def empty_row(self, index: int) -> dict[str, Any]:
        """Return the row of a network before its evaluation.

        Examples
        --------
        >>> EvaluationJob(len, "test", "digits", batch_size=8).empty_row(3)["batch_size"]
        8
        """
        return empty_row(index, [metric.name for metric in self.metrics]) | {"batch_size": self.batch_size}

    def payloads(self, device: str) -> tuple[str, str]:
        """Return the job for the evaluating process and that for the process of the predictor, as texts.

        Functions of `__main__` and nested functions are included.

        Raises
        ------
        ConfigError
            If the predictor or the images cannot be pickled.
        """
        known: dict[str, tuple[str, str]] = self._payloads
        if device not in known:
            known[device] = (
                self._pickled(replace(self, predictor=None, vocabulary=self.graph_vocabulary)),
                self._pickled(self.prediction(device)),
            )
        return known[device]

    def _pickled(self, job: EvaluationJob | PredictionJob) -> str:
        import cloudpickle

        try:
            return base64.b64encode(cloudpickle.dumps(job)).decode()
        except Exception as error:
            raise ConfigError(
                f"{type(self.predictor).__name__}: cannot be sent to another process ({error}); leave out workers, "
                "timeout and memory"
            ) from error

    @cached_property
    def _payloads(self) -> dict[str, tuple[str, str]]:
        return {}


@lru_cache(maxsize=16)
def _describe_images(
    task: LogitTask, name: str, split: str, root: str | None, options: tuple[tuple[str, Any], ...]
) -> ImageInfo:
    return ImageInfo.of(task.open_data(name, split, root=root, **dict(options)), task.name)
