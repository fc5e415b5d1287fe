"""Embeddings of architectures: the mean of the node embeddings that a hypernetwork computes.

    vectors = embed_networks(ghn, nets)                            (n, hidden)
    vectors = cached_embeddings(ghn, nets, "results/embeddings")   the same, stored in files
    points = project(vectors)                                      (n, 2), for charts

Source: Knyazev et al., NeurIPS 2021, section 5.3.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import torch

from benchmark.choices import PROJECTIONS
from deepnets.corpus import DeepNets1M
from deepnets.graph import Graph
from deepnets.support import Budget, ConfigError, ProgressBar, at_least, check_regular, checked_integer, replace_file
from ghn_model.checkpoints import content_digest
from ghn_model.ghn import GHN

__all__ = ["PROJECTIONS", "cached_embeddings", "embed_networks", "project"]

BLOCK = 8_192
"""Networks per file of the cache; an interruption loses at most this many embeddings."""

_TASK = 256  # networks per task of a process
_MOST_PAIRS = 1 << 23  # most node pairs per batch, which bounds the memory of their distances
_FORMAT = 1

Vectors = npt.NDArray[np.float32]


# --- computing ---


def embed_networks(
    ghn: GHN,
    nets: DeepNets1M | Sequence[Graph],
    *,
    indices: Sequence[int] | None = None,
    workers: int = 1,
    batch_size: int = 32,
    progress: bool = False,
) -> Vectors:
    """Embed many networks; every vector equals that of `GHN.embed`.

    Parameters
    ----------
    ghn
        The hypernetwork, on any device.
    nets
        A split of the corpus, or a list of graphs.
    indices
        Indices of the networks to embed.  Default: all.
    workers
        Number of processes.  A hypernetwork on a GPU always uses the current process.
    batch_size
        Most graphs per batch.
    progress
        Whether to show a progress bar.

    Returns
    -------
    `(n, hidden) float32`, in the order of the indices.  The result does not depend on the number of processes.

    Raises
    ------
    ConfigError
        If there are no networks, or `workers` or `batch_size` is less than 1.
    FormatError
        If a graph of the corpus is damaged.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> from ghn_model.config import GHNConfig
    >>> nets = DeepNets1M(split="predefined")
    >>> embed_networks(GHN(GHNConfig(hidden=8)), [nets[0], nets[1]]).shape
    (2, 8)
    """
    workers = checked_integer("workers", workers, at_least(1))
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    wanted = list(range(len(nets))) if indices is None else [int(index) for index in indices]
    if not wanted:
        raise ConfigError("nets: there are no networks to embed")
    with _bar(len(wanted), nets, progress) as bar:
        return _computed(ghn, nets, wanted, workers, batch_size, bar)


def _bar(total: int, nets: DeepNets1M | Sequence[Graph], progress: bool) -> Any:
    what = f"embeddings of {nets.split}" if isinstance(nets, DeepNets1M) else "embeddings"
    return ProgressBar(total=total, desc=what, unit="network", show=progress)


def _computed(
    ghn: GHN, nets: DeepNets1M | Sequence[Graph], wanted: Sequence[int], workers: int, batch_size: int, bar: Any
) -> Vectors:
    if next(ghn.parameters()).device.type != "cpu":
        workers = 1
    tasks = [list(wanted[start : start + _TASK]) for start in range(0, len(wanted), _TASK)]
    vectors = []
    for part in _in_order(ghn, nets, tasks, min(workers, len(tasks)), batch_size):
        vectors.append(part)
        bar.update(len(part))
    return np.concatenate(vectors)


def _in_order(
    ghn: GHN, nets: DeepNets1M | Sequence[Graph], tasks: list[list[int]], workers: int, batch_size: int
) -> Iterator[Vectors]:
    """Yield the vectors of the tasks in order."""
    if workers == 1:
        return (_embed_part(ghn, nets, task, batch_size) for task in tasks)
    calls: list[Any] = []
    for task in tasks:
        if isinstance(nets, DeepNets1M):  # every process opens the file
            calls.append(joblib.delayed(_embed_part)(ghn, nets, task, batch_size))
        else:
            calls.append(joblib.delayed(_embed)(ghn, [nets[index] for index in task], batch_size))
    parts: Iterator[Vectors] = joblib.Parallel(n_jobs=workers, return_as="generator")(calls)
    return parts


def _embed_part(ghn: GHN, nets: DeepNets1M | Sequence[Graph], indices: list[int], batch_size: int) -> Vectors:
    return _embed(ghn, [nets[index] for index in indices], batch_size)


@torch.no_grad()
def _embed(ghn: GHN, graphs: list[Graph], batch_size: int) -> Vectors:
    """Embed graphs in batches of graphs of similar size, which need less padding."""
    vectors = np.empty((len(graphs), ghn.config.hidden), np.float32)
    order = sorted(range(len(graphs)), key=lambda position: graphs[position].num_nodes)
    while order:
        count = max(1, min(batch_size, len(order)))
        while count > 1 and count * graphs[order[count - 1]].num_nodes ** 2 > _MOST_PAIRS:
            count -= 1
        places, order = order[:count], order[count:]
        group = [graphs[place] for place in places]
        nodes = ghn.encode(ghn.prepare(group, encoder_inputs=False))  # encoders that need one make it themselves
        for place, part in zip(places, torch.split(nodes, [graph.num_nodes for graph in group])):
            vectors[place] = part.mean(0).float().cpu().numpy()
    return vectors


# --- cache ---


def cached_embeddings(
    ghn: GHN,
    nets: DeepNets1M,
    folder: Path | str,
    *,
    workers: int = 1,
    batch_size: int = 32,
    progress: bool = False,
) -> Vectors:
    """Embed all networks of a split, or read embeddings that an earlier call stored.

    Parameters
    ----------
    ghn, nets, workers, batch_size, progress
        As for `embed_networks`.
    folder
        Folder of the cache, with one file per 8,192 networks, so that the next call resumes an interrupted one.  Files
        of another hypernetwork or corpus, and damaged files, are not used.  Embeddings of the training split, whose
        widths are random, are not stored.

    Returns
    -------
    `(len(nets), hidden) float32`.

    Raises
    ------
    ConfigError, FormatError
        As for `embed_networks`.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from ghn_model.config import GHNConfig
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cached_embeddings(GHN(GHNConfig(hidden=8)), DeepNets1M(split="predefined"), folder).shape
    (2, 8)
    """
    workers = checked_integer("workers", workers, at_least(1))
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    if nets.split == "train":
        return embed_networks(ghn, nets, workers=workers, batch_size=batch_size, progress=progress)
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
                block = _computed(ghn, nets, wanted, workers, batch_size, bar)
                _write(path, identity, block)
            else:
                bar.update(len(wanted))
            blocks.append(block)
    return np.concatenate(blocks)


def _source(ghn: GHN, nets: DeepNets1M) -> dict[str, Any]:
    """Return everything that the embeddings depend on."""
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
    """Return the embeddings in a file of the cache; None if it is missing, damaged or of another source."""
    try:
        check_regular(path)
        budget = Budget(path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                budget.spend(entry.file_size)  # no entry is read further than its stated size
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            found, checksum = str(content["identity"]), str(content["checksum"])
            vectors: Vectors = content["vectors"]
    except Exception:  # zipfile and NumPy raise many types for damaged files
        return None
    if found != identity or vectors.shape != shape or vectors.dtype != np.float32 or _checksum(vectors) != checksum:
        return None
    return vectors


def _write(path: Path, identity: str, vectors: Vectors) -> None:
    content = io.BytesIO()
    np.savez(content, identity=identity, checksum=_checksum(vectors), vectors=vectors)
    replace_file(path, content.getvalue())


# --- projection ---


def project(
    vectors: npt.NDArray[Any], method: str = "pca", *, seed: int = 0, perplexity: float = 30.0
) -> npt.NDArray[np.float64]:
    """Project embeddings to two dimensions.

    Parameters
    ----------
    vectors
        `(n, hidden)` embeddings, at least 2.
    method
        "pca" for the first two principal components, or "tsne" (van der Maaten and Hinton, 2008).
    seed, perplexity
        Options of t-SNE.  The perplexity is reduced for few vectors.

    Returns
    -------
    `(n, 2) float64`.  The result is deterministic; the sign of a principal component makes its largest weight positive.

    Raises
    ------
    ConfigError
        If the method is unknown, there are fewer than 2 vectors, or a value is not finite.

    Examples
    --------
    >>> project(np.array([[0.0, 1.0], [0.0, 3.0]])).round(6).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
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
