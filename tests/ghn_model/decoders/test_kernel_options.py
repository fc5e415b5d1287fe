"""What `GHNConfig.dirac` and `GHNConfig.width_invariant` have in common: files, and values that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig
from tests.support.training_runs import small_config

pytestmark = pytest.mark.parametrize("name", ["dirac", "width_invariant"])


def test_the_option_is_saved_with_the_hypernetwork(name: str, tmp_path: Path) -> None:
    ghn = GHN(small_config(**{name: True}))
    assert getattr(GHN.from_pretrained(ghn.save(tmp_path / "ghn.safetensors")).config, name) is True
    assert name not in GHNConfig().to_dict()  # files of earlier versions do not have it
    with pytest.raises(ConfigError, match=f"ppuda cannot represent {name} True"):
        ghn.save(tmp_path / "ghn.pt", format="ppuda")


def test_values_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: cannot be combined with the decoder 'lowrank'"):
        GHNConfig.preset("logah-t", **{name: True})
    with pytest.raises(ConfigError, match=f"{name}: expected true or false, got 1"):
        GHNConfig(**{name: 1})  # type: ignore[arg-type]
