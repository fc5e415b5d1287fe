"""Architectures as vectors: the mean of the embeddings that a hypernetwork gives a network's nodes.

    vectors = embed_networks(ghn, nets)                        (n, hidden)
    vectors = cached_embeddings(ghn, nets, "results/embeddings")   the same, computed once
    points = project(vectors)                                  (n, 2), to look at

Source: Knyazev et al., NeurIPS 2021, section 5.3.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from deepnets.corpus import DeepNets1M
from deepnets.graph import Graph
from deepnets.support import ConfigError, at_least, checked_integer, replace_file
from ghn_model.checkpoints import content_digest
from ghn_model.ghn import GHN

__all__ = ["PROJECTIONS", "cached_embeddings", "embed_networks", "project"]

PROJECTIONS = ("pca", "tsne")
"""Ways to flatten vectors for a picture."""

BLOCK = 8_192
"""Networks in a file of the cache: what an interruption costs at most."""

_TASK = 256  # networks that a process is given at a time
_MOST_PAIRS = 1 << 23  # of nodes in a batch, which bounds the memory for their distances
_FORMAT = 1

Vectors = npt.NDArray[np.float32]


# --- computing ---


def embed_networks(
    ghn: GHN,
    nets: DeepNets1M | Sequence[Graph],
    *,
    indices: Sequence[int] | None = None,
    jobs: int = 1,
    batch: int = 32,
    progress: bool = False,
) -> Vectors:
    """Represent networks by vectors, as `GHN.embed` does, many at a time.

    Parameters
    ----------
    ghn
        The hypernetwork, on any device.
    nets
        A split of the corpus, or a list of graphs.
    indices
        Which of them; by default all.
    jobs
        Processes; a hypernetwork on a GPU works in this one.
    batch
        Graphs that go through the hypernetwork at a time, at most.
    progress
        Whether to show a bar.

    Returns
    -------
    `(n, hidden) float32`, in the order of the indices, whatever the number of jobs.

    Raises
    ------
    ConfigError
        If there are no networks, or jobs or batch are not 1 or more.
    FormatError
        If a graph of the corpus is damaged.
    """
    jobs = checked_integer("jobs", jobs, at_least(1))
    batch = checked_integer("batch", batch, at_least(1))
    wanted = list(range(len(nets))) if indices is None else [int(index) for index in indices]
    if not wanted:
        raise ConfigError("nets: there are no networks to embed")
    with _bar(len(wanted), nets, progress) as bar:
        return _computed(ghn, nets, wanted, jobs, batch, bar)


def _bar(total: int, nets: DeepNets1M | Sequence[Graph], progress: bool) -> Any:
    what = f"embeddings of {nets.split}" if isinstance(nets, DeepNets1M) else "embeddings"
    return tqdm(total=total, desc=what, unit="network", disable=None if progress else True)


def _computed(
    ghn: GHN, nets: DeepNets1M | Sequence[Graph], wanted: Sequence[int], jobs: int, batch: int, bar: Any
) -> Vectors:
    if next(ghn.parameters()).device.type != "cpu":
        jobs = 1
    tasks = [list(wanted[start : start + _TASK]) for start in range(0, len(wanted), _TASK)]
    vectors = []
    for part in _in_order(ghn, nets, tasks, min(jobs, len(tasks)), batch):
        vectors.append(part)
        bar.update(len(part))
    return np.concatenate(vectors)


def _in_order(
    ghn: GHN, nets: DeepNets1M | Sequence[Graph], tasks: list[list[int]], jobs: int, batch: int
) -> Iterator[Vectors]:
    """The vectors of every task, one after the other."""
    if jobs == 1:
        return (_embed_part(ghn, nets, task, batch) for task in tasks)
    calls: list[Any] = []
    for task in tasks:
        if isinstance(nets, DeepNets1M):  # every process opens the file for itself
            calls.append(joblib.delayed(_embed_part)(ghn, nets, task, batch))
        else:
            calls.append(joblib.delayed(_embed)(ghn, [nets[index] for index in task], batch))
    return joblib.Parallel(n_jobs=jobs, return_as="generator")(calls)  # type: ignore[no-any-return]


def _embed_part(ghn: GHN, nets: DeepNets1M | Sequence[Graph], indices: list[int], batch: int) -> Vectors:
    return _embed(ghn, [nets[index] for index in indices], batch)


@torch.no_grad()
def _embed(ghn: GHN, graphs: list[Graph], batch: int) -> Vectors:
    """Graphs of similar size go together, where they are laid side by side."""
    vectors = np.empty((len(graphs), ghn.config.hidden), np.float32)
    order = sorted(range(len(graphs)), key=lambda position: graphs[position].num_nodes)
    while order:
        count = max(1, min(batch, len(order)))
        while count > 1 and count * graphs[order[count - 1]].num_nodes ** 2 > _MOST_PAIRS:
            count -= 1
        places, order = order[:count], order[count:]
        group = [graphs[place] for place in places]
        nodes = ghn.encode(ghn.prepare(group, encoder_inputs=False))  # encoders that need one make it themselves
        for place, part in zip(places, torch.split(nodes, [graph.num_nodes for graph in group])):
            vectors[place] = part.mean(0).float().cpu().numpy()
    return vectors


# --- keeping ---


def cached_embeddings(
    ghn: GHN,
    nets: DeepNets1M,
    folder: Path | str,
    *,
    jobs: int = 1,
    batch: int = 32,
    progress: bool = False,
) -> Vectors:
    """The vectors of all networks of a split, from files of an earlier call where there are any.

    Parameters
    ----------
    ghn, nets, jobs, batch, progress
        As in `embed_networks`.
    folder
        Where they are kept: a file for every 8,192 networks, so that an interrupted call is continued by the next.
        What another hypernetwork or another corpus was, or was damaged, is computed again.  Vectors of the training
        split, whose widths are drawn, are not kept.

    Returns
    -------
    `(len(nets), hidden) float32`.

    Raises
    ------
    ConfigError, FormatError
        As `embed_networks`.
    OSError
        If a file cannot be written.
    """
    jobs = checked_integer("jobs", jobs, at_least(1))
    batch = checked_integer("batch", batch, at_least(1))
    if nets.split == "train":
        return embed_networks(ghn, nets, jobs=jobs, batch=batch, progress=progress)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(ghn, nets)
    blocks = []
    with _bar(len(nets), nets, progress) as bar:
        for start in range(0, len(nets), BLOCK):
            wanted = range(start, min(start + BLOCK, len(nets)))
            identity = json.dumps({**source, "start": start, "stop": wanted.stop}, sort_keys=True)
            digest = hashlib.sha256(identity.encode()).hexdigest()
            path = folder / f"{nets.split}-{start}-{digest[:16]}.npz"
            block = _read(path, identity, (len(wanted), ghn.config.hidden))
            if block is None:
                block = _computed(ghn, nets, wanted, jobs, batch, bar)
                _write(path, identity, block)
            else:
                bar.update(len(wanted))
            blocks.append(block)
    return np.concatenate(blocks)


def _source(ghn: GHN, nets: DeepNets1M) -> dict[str, Any]:
    """Everything that the vectors depend on."""
    return {
        "format": _FORMAT,
        "hypernetwork": content_digest(dict(ghn.state_dict()), {"config": json.dumps(ghn.config.to_dict())}),
        "corpus": nets.file.content_digest if nets.file is not None else nets.split,
        "split": nets.split,
        "num_classes": nets.num_classes,
        "image_size": nets.image_size,
    }


def _checksum(vectors: Vectors) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()


def _read(path: Path, identity: str, shape: tuple[int, int]) -> Vectors | None:
    """What a file of the cache holds, None if it is not there or not what it should be."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            found, checksum, vectors = str(content["identity"]), str(content["checksum"]), content["vectors"]
    except Exception:  # whatever zip and NumPy stumble over in a damaged file
        return None
    if found != identity or vectors.shape != shape or vectors.dtype != np.float32 or _checksum(vectors) != checksum:
        return None
    return vectors  # type: ignore[no-any-return]


def _write(path: Path, identity: str, vectors: Vectors) -> None:
    content = io.BytesIO()
    np.savez(content, identity=identity, checksum=_checksum(vectors), vectors=vectors)
    replace_file(path, content.getvalue())


# --- looking ---


def project(
    vectors: npt.NDArray[Any], method: str = "pca", *, seed: int = 0, perplexity: float = 30.0
) -> npt.NDArray[np.float64]:
    """Flatten vectors for a map of architectures.

    Parameters
    ----------
    vectors
        `(n, hidden)`, 2 or more of them.
    method
        "pca", the two directions in which they differ most, or "tsne" (van der Maaten & Hinton, 2008), which keeps
        neighbours together.
    seed, perplexity
        Of t-SNE; the perplexity is lowered where there are few vectors.

    Returns
    -------
    `(n, 2) float64`.  The same vectors give the same map: of a principal component, the largest weight is positive.

    Raises
    ------
    ConfigError
        For another method, fewer than 2 vectors, or values that are not finite.
    """
    if method not in PROJECTIONS:
        raise ConfigError(f"projection: unknown {method!r}; use one of {', '.join(PROJECTIONS)}")
    values = np.asarray(vectors, np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ConfigError(f"vectors: expected 2 or more rows of finite numbers, got shape {values.shape}")
    centred = values - values.mean(axis=0)
    if method == "tsne" and len(values) > 3:
        from sklearn.manifold import TSNE

        spread = max(1.0, min(perplexity, (len(values) - 1) / 3))
        start = _components(centred)
        scale = start[:, 0].std() or 1.0
        tsne = TSNE(perplexity=spread, init=(1e-4 * start / scale).astype(np.float32), random_state=seed)
        return np.asarray(tsne.fit_transform(centred), np.float64)
    return _components(centred)


def _components(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    strongest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), strongest])
    points = np.zeros((len(centred), 2))
    points[:, : len(directions)] = centred @ (directions * signs[:, None]).T
    return points
