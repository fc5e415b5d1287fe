"""Training of many networks into a folder of results that can be resumed.

jobs       the networks to train: those of a split, of a library, or of the user
runs       training one network after another
store      the files of the results
detection  training of detectors, with the networks as backbones
curves     tables and figures of training curves
"""

from __future__ import annotations

from benchmark.baselines.curves import curves_text, draw_curves
from benchmark.baselines.jobs import TrainingJob, genotype_config, genotype_jobs, jobs_of, model_jobs
from benchmark.baselines.runs import train_all
from benchmark.baselines.store import COLUMNS, TEXT_COLUMNS, Curves

__all__ = [
    "COLUMNS",
    "TEXT_COLUMNS",
    "Curves",
    "TrainingJob",
    "curves_text",
    "draw_curves",
    "genotype_config",
    "genotype_jobs",
    "jobs_of",
    "model_jobs",
    "train_all",
]
