"""Embeddings of architectures: values, cache, and projections to two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.analyses import cached_embeddings, embeddings, project
from benchmark.analyses.embeddings import embed_networks
from deepnets import ConfigError, DeepNets1M
from ghn_model import GHN, GHNConfig


def small_ghn(seed: int = 0, preset: str = "ghn2") -> GHN:
    torch.manual_seed(seed)
    return GHN(GHNConfig.preset(preset, hidden=16, heads=4, layers=2, max_shape=(16, 16, 11, 11))).eval()


@pytest.fixture(scope="module")
def ghn() -> GHN:
    return small_ghn()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("preset", ["ghn2", "ghn1", "mlp", "ghn3-t"])
def test_embeddings_are_those_of_the_hypernetwork(corpus: Path, preset: str) -> None:
    ghn = small_ghn(1, preset)
    nets = DeepNets1M(corpus, "val", num_nets=12)
    expected = torch.stack([ghn.embed(nets.network(i), graph=nets[i]) for i in range(12)]).numpy()
    found = embed_networks(ghn, nets, batch_size=5)
    assert (found.shape, found.dtype) == ((12, ghn.config.hidden), np.float32)
    assert found == pytest.approx(expected, abs=2e-6)
    assert embed_networks(ghn, nets, indices=[7, 2], batch_size=1) == pytest.approx(expected[[7, 2]], abs=2e-6)
    assert embed_networks(ghn, [nets[3], nets[9]]) == pytest.approx(expected[[3, 9]], abs=2e-6)


@pytest.mark.slow
def test_processes_compute_the_same_embeddings(corpus: Path, ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = DeepNets1M(corpus, "val", num_nets=11)
    alone = embed_networks(ghn, nets)
    monkeypatch.setattr(embeddings, "_TASK", 4)
    assert np.array_equal(embed_networks(ghn, nets, workers=2), alone)
    assert np.array_equal(embed_networks(ghn, list(nets), workers=2), alone)


def test_nothing_to_embed(corpus: Path, ghn: GHN) -> None:
    with pytest.raises(ConfigError, match="there are no networks to embed"):
        embed_networks(ghn, [])
    with pytest.raises(ConfigError, match="workers: expected an integer, 1 or more; got 0"):
        embed_networks(ghn, DeepNets1M(corpus, "val"), workers=0)


def test_the_cache(corpus: Path, ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only embeddings that are missing, damaged, or of another hypernetwork or corpus are computed."""
    nets = DeepNets1M(corpus, "val", num_nets=10)
    expected = embed_networks(ghn, nets)
    computed: list[int] = []
    original = embeddings._computed

    def counted(ghn: GHN, nets: Any, wanted: Sequence[int], *rest: Any) -> Any:
        computed.extend(wanted)
        return original(ghn, nets, wanted, *rest)

    def call(ghn: GHN = ghn, nets: DeepNets1M = nets) -> tuple[Any, list[int]]:
        computed.clear()
        return cached_embeddings(ghn, nets, tmp_path), list(computed)

    monkeypatch.setattr(embeddings, "_computed", counted)
    monkeypatch.setattr(embeddings, "BLOCK", 4)
    for wanted in (list(range(10)), []):
        found, now = call()
        assert np.array_equal(found, expected)
        assert now == wanted
    first, second, third = sorted(tmp_path.iterdir(), key=lambda path: int(path.name.split("-")[1]))
    content = second.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damage in (content[:100], bytes(changed), b"", b"not a file of NumPy", first.read_bytes()):
        second.write_bytes(damage)
        found, now = call()
        assert np.array_equal(found, expected)
        assert now == [4, 5, 6, 7]
    third.unlink()  # an interrupted call
    assert call()[1] == [8, 9]
    other, now = call(small_ghn(5))
    assert len(now) == 10
    assert not np.allclose(other, expected)
    assert call(nets=DeepNets1M(corpus, "test", num_nets=3))[1] == [0, 1, 2]
    assert call()[1] == []
    assert not list(tmp_path.glob(".*"))


def test_training_networks_are_not_cached(corpus: Path, ghn: GHN, tmp_path: Path) -> None:
    nets = DeepNets1M(corpus, "train", num_nets=2)
    assert np.array_equal(cached_embeddings(ghn, nets, tmp_path), embed_networks(ghn, nets))
    assert list(tmp_path.iterdir()) == []


def test_principal_components() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)) * (5, 1, 3, 0.2, 0.1, 0.1) + 7
    points = project(vectors)
    variances, axes = np.linalg.eigh(np.cov(vectors.T))
    for column, axis in ((0, axes[:, -1]), (1, axes[:, -2])):
        axis = axis * np.sign(axis[np.abs(axis).argmax()])
        assert points[:, column] == pytest.approx((vectors - vectors.mean(0)) @ axis, abs=1e-9)
    assert points.var(axis=0, ddof=1) == pytest.approx(variances[[-1, -2]])
    assert project(vectors[:, :1]).shape == (40, 2)


def test_tsne_keeps_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(20, 5)), rng.normal(size=(20, 5)) + 30])
    points = project(vectors, "tsne", perplexity=5)
    assert points.shape == (40, 2)
    assert np.array_equal(points, project(vectors, "tsne", perplexity=5))
    within = np.linalg.norm(points[:20] - points[:20].mean(0), axis=1).max()
    assert np.linalg.norm(points[:20].mean(0) - points[20:].mean(0)) > within


def test_invalid_projections() -> None:
    with pytest.raises(ConfigError, match="projection: unknown 'umap'; use one of pca, tsne"):
        project(np.zeros((3, 2)), "umap")
    for vectors in (np.zeros((1, 2)), np.zeros(3), np.full((3, 2), math.nan)):
        with pytest.raises(ConfigError, match="vectors: expected 2 or more rows of finite numbers"):
            project(vectors)
