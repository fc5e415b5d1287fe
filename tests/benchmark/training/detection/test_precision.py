"""Average precision: values of pycocotools, values by hand, and what must not matter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from benchmark.training.detection import Detections, average_precision
from tests.benchmark.training.detection.scenes import scene

OF_PYCOCOTOOLS = [  # version 2.0.11
    ((0, 20, 2, 4), (23.90659619769277, 33.932155190463774, 27.288586982268015)),
    ((1, 40, 6, 8), (8.899205382904448, 22.31056074713715, 3.9617607238667993)),
    ((2, 10, 1, 250), (1.4267320838765647, 1.6812495112347934, 1.5091629211880786)),  # more than 100 detections
    ((3, 30, 4, 3), (17.100672397681247, 35.17076721419522, 16.62752342298181)),
]


@pytest.mark.parametrize(("arguments", "wanted"), OF_PYCOCOTOOLS)
def test_values_of_pycocotools(arguments: tuple[int, int, float, int], wanted: tuple[float, ...]) -> None:
    assert tuple(average_precision(*scene(*arguments)).values()) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in OF_PYCOCOTOOLS])
def test_pycocotools_agrees(arguments: tuple[int, int, float, int]) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, wanted = scene(*arguments)

    def records(boxes: torch.Tensor, image: int) -> list[dict[str, Any]]:
        sizes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes.tolist()]
        return [{"image_id": image, "category_id": 1, "bbox": s, "area": s[2] * s[3], "iscrowd": 0} for s in sizes]

    truth, results = COCO(), []
    annotations = [each for image, boxes in enumerate(wanted) for each in records(boxes, image)]
    truth.dataset = {
        "images": [{"id": image} for image in range(len(wanted))],
        "categories": [{"id": 1}],
        "annotations": [{**each, "id": i + 1} for i, each in enumerate(annotations)],
    }
    truth.createIndex()
    for image, each in enumerate(found):
        for record, score in zip(records(each.boxes, image), each.scores.tolist(), strict=True):
            results.append({**record, "score": score})
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert tuple(average_precision(found, wanted).values()) == pytest.approx(100 * evaluation.stats[:3], rel=1e-9)


def boxes(*corners: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def test_values_by_hand() -> None:
    one, two = (0, 0, 10, 10), (20, 0, 30, 10)
    half = (0, 0, 10, 6)  # overlap 0.6 with the first: correct up to the threshold 0.6
    found = [Detections(boxes(half, two, (50, 50, 60, 60)), torch.tensor([0.9, 0.5, 0.7]))]
    values = average_precision(found, [boxes(one, two)])
    # At 0.5: correct, wrong, correct.  Precision is 1 up to recall 0.5 (51 of 101 recalls), then 2/3.
    assert values["ap50"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    # At 0.75: wrong, wrong, correct.  Precision is 1/3 up to recall 0.5, then 0.
    assert values["ap75"] == pytest.approx(100 * 51 / 3 / 101)
    thresholds = 3 * (51 + 50 * 2 / 3) + 7 * 51 / 3  # 0.5, 0.55 and 0.6, and the other seven
    assert values["ap"] == pytest.approx(100 * thresholds / 10 / 101)


def test_a_box_counts_once() -> None:
    box = boxes((0, 0, 10, 10))
    values = average_precision([Detections(box.repeat(2, 1), torch.tensor([0.9, 0.8]))], [box])
    assert values == {"ap": 100.0, "ap50": 100.0, "ap75": 100.0}
    both = boxes((0, 0, 10, 10), (40, 40, 50, 50))
    values = average_precision([Detections(box.repeat(2, 1), torch.tensor([0.9, 0.8]))], [both])
    assert values["ap"] == pytest.approx(100 * 51 / 101)


def test_nothing_found_and_nothing_there() -> None:
    none = Detections(boxes(), torch.zeros(0))
    assert average_precision([none], [boxes((0, 0, 1, 1))])["ap"] == 0
    assert all(math.isnan(value) for value in average_precision([none], [boxes()]).values())
    with pytest.raises(ValueError, match="zip"):
        average_precision([none, none], [boxes()])


def test_scores_matter_only_by_their_order() -> None:
    found, wanted = scene(5, 15, 3, 5)
    squeezed = [Detections(each.boxes, each.scores**3 / 7) for each in found]
    assert average_precision(squeezed, wanted) == average_precision(found, wanted)
