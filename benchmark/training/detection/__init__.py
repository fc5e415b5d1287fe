"""Detection of pedestrians: Faster R-CNN on the features of a network whose initial parameters are predicted.

The protocol is that of Knyazev et al. (NeurIPS 2021, section 5.4): only the backbone is initialized from predictions,
then the whole detector is trained on 120 images of Penn-Fudan and evaluated on 50.

penn_fudan  the images
detector    Faster R-CNN on a network
precision   average precision as in COCO
task        `Detection`, the task: its loss and metrics
trainer     `train_detector`
"""

from __future__ import annotations

from benchmark.training.detection.detector import build_detector
from benchmark.training.detection.penn_fudan import PennFudan, open_penn_fudan
from benchmark.training.detection.precision import DETECTION_METRICS, Detections, average_precision
from benchmark.training.detection.task import Detection
from benchmark.training.detection.trainer import check_detection_recipe, train_detector

__all__ = [
    "DETECTION_METRICS",
    "Detection",
    "Detections",
    "PennFudan",
    "average_precision",
    "build_detector",
    "check_detection_recipe",
    "open_penn_fudan",
    "train_detector",
]
