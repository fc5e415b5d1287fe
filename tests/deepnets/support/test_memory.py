"""Available memory in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepnets.support import available_memory, memory


@pytest.mark.parametrize(
    ("version", "limit", "used", "prefix"),
    [(0, "memory.max", "memory.current", ""), (1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")],
)
def test_files_in_the_cache_are_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, limit: str, used: str, prefix: str
) -> None:
    """A container that has read many files uses all of its memory, most of which the kernel gives back."""
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("900\n")
    other = "hierarchical_" if prefix else "total_"
    lines = [f"{prefix}inactive_file 300", f"{prefix}active_file 50", f"{prefix}active_anon 7", f"{other}active_file 9"]
    (tmp_path / "memory.stat").write_text("\n".join(lines))
    assert memory._CGROUPS[version][0].startswith("/sys/fs/cgroup")
    monkeypatch.setattr(memory, "_CGROUPS", [(str(tmp_path), *rest) for _, *rest in memory._CGROUPS])
    assert available_memory() == 1000 - 900 + 300 + 50


def test_containers_without_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUPS", [(str(tmp_path), *memory._CGROUPS[0][1:])])
    found = available_memory()
    assert (found is None) == (before is None)
    assert found is None or found > 0
