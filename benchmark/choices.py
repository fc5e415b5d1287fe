"""Names and limits that options accept, in one module that imports nothing, so that `--help` is fast."""

from __future__ import annotations

__all__ = [
    "BACKENDS",
    "DETECTION_METRICS",
    "EVALUATION_COMMANDS",
    "LIBRARIES",
    "LOSSES",
    "MAX_PICTURES",
    "MAX_TIMEOUT",
    "OPTIMIZERS",
    "PROJECTIONS",
    "PROPERTIES",
    "PROTOCOLS",
    "SAVE_SECONDS",
    "SCHEDULES",
    "TEXT_METRICS",
]

BACKENDS = ("threading", "loky", "sequential", "dask", "ray")
"""Backends of joblib on one machine, of which threads suffice, since each one only waits for its worker processes; and
clusters of Dask and Ray.  joblib's "multiprocessing" does not return rows one by one."""

MAX_PICTURES = 60
"""Most networks that a report draws for the details of single networks."""

LIBRARIES = ("torchvision", "timm")
"""Libraries whose models can be evaluated."""

MAX_TIMEOUT = 1e9
"""Largest time limit in seconds, about 30 years, which clocks of all systems can represent."""

EVALUATION_COMMANDS = (
    ["python", "-m", "benchmark", "run"],
    ["python", "-m", "deepnets", "bench"],
    ["deepnets", "bench"],
)
"""Beginnings of recorded commands that evaluate predictors."""

DETECTION_METRICS = ("ap", "ap50", "ap75")
"""Average precision in percent: mean over the thresholds 0.5, 0.55, ... 0.95 of the overlap, and at 0.5 and 0.75."""

TEXT_METRICS = ("perplexity", "top1", "top5")
"""Metrics of the task text."""

PROPERTIES = ("val_acc", "val_acc_noise", "time", "converge_time")
"""Accuracy on clean and on noisy validation images (percent), evaluation time, and convergence time of training."""

PROJECTIONS = ("pca", "tsne")
"""Methods that project embeddings to two dimensions."""

PROTOCOLS = (
    *("cifar10", "imagenet", "darts", "darts-imagenet", "digits", "finetune-100shot", "orth-resnet50", "orth-convnext"),
    *("ghn3-resnet50", "ghn3-imagenet", "ghn3-imagenet-random"),
    *("logah-vit", "logah-vit-large", "logah-vit-imagenet", "logah-vit-adamw", "logah-gpt2", "penn-fudan"),
)
"""Published settings of trainings, as `benchmark.training.PRESETS` defines them."""

OPTIMIZERS = ("sgd", "adam", "adamw", "lamb")
LOSSES = ("cross_entropy", "bce")
SCHEDULES = ("cosine", "exponential", "multistep", "constant")

SAVE_SECONDS = 300.0
"""Seconds of training between two saved states, by default."""
