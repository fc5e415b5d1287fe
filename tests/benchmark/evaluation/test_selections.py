"""`select_networks`: networks by index, range and name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.evaluation import open_networks, select_networks
from deepnets.support import ConfigError


class Named:
    """Ten networks, of which the first three have names."""

    name = "made"

    def __len__(self) -> int:
        return 10

    def name_of(self, index: int) -> str:
        return "abcdefghij"[index] + "-net"


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("0:3,7,2,:1,8:", [0, 1, 2, 7, 8, 9]),
        ("8:30", [8, 9]),
        ("j-net, a-net,3", [9, 0, 3]),
        (["b-net", 4, "5:7"], [1, 4, 5, 6]),
        (np.int64(3).item(), [3]),
        (np.array([3, 1]), [3, 1]),
    ],
)
def test_selections_of_networks(index: Any, expected: list[int]) -> None:
    assert select_networks(Named(), index) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (10, "index: made has networks 0 to 9, there is no 10"),
        ("3,30", "index: made has networks 0 to 9, there is no 30"),
        (-1, "there is no -1"),
        (True, "there is no True"),
        (1.0, "there is no 1.0"),
        ("k-net", "index: made has no network 'k-net'; did you mean"),
        ("1-3", "index: made has no network '1-3'"),
        ("", "index: made has no network ''"),
        ([], r"index: \[\] selects none of the 10 networks"),
        ("20:30", "index: '20:30' selects none"),
    ],
)
def test_wrong_selections_of_networks(index: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_networks(Named(), index)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 2.5])
@pytest.mark.parametrize("text", ["torchvision:resnet18,alexnet", "family:resnet-widths", "predefined"])
def test_limits_that_are_no_numbers_of_networks(tmp_path: Path, text: str, limit: Any) -> None:
    with pytest.raises(ConfigError, match=f"^limit: expected an integer, 1 or more; got {limit}"):
        open_networks(text, data=tmp_path, num_classes=10, image_size=32, limit=limit)
