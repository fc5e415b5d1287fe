"""Tasks of the networks whose parameters are predicted, and the metrics that judge them.

task            `Task`, what a network is given and how its output becomes a loss; the registry `TASKS`
classification  `Classification` of images
next_token      `NextToken`, next-token prediction on texts
metrics         `Metric`, with its name, unit and direction; the registry `METRICS`

Detection, which needs a network around the network, is in `benchmark.training.detection`.
"""

from __future__ import annotations

from ghn_model.tasks.classification import Classification
from ghn_model.tasks.metrics import METRICS, Metric, get_metric, get_metrics, register_metric
from ghn_model.tasks.next_token import NextToken
from ghn_model.tasks.task import TASKS, LogitTask, Task, get_logit_task, get_task, recorded_name

__all__ = [
    "METRICS",
    "TASKS",
    "Classification",
    "LogitTask",
    "Metric",
    "NextToken",
    "Task",
    "get_logit_task",
    "get_metric",
    "get_metrics",
    "get_task",
    "recorded_name",
    "register_metric",
]
