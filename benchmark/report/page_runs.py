"""The bottom of the page: what was run, how to run it again, and what the figures mean."""

from __future__ import annotations

import json
from typing import Any

from benchmark.report.page_parts import escape, label, scroll
from benchmark.results import Results, moment

__all__ = ["again", "definitions", "runs"]

DEFINITIONS = (
    (
        "Accuracy",
        "The percentage of the images of a set that a network classifies correctly with the parameters that were "
        "predicted for it: top-1 if the right class is the first, top-5 if it is among the first five. Networks of "
        "train, val and search see validation images, all others test images, unless the table says otherwise.",
    ),
    (
        "Mean and standard error",
        "Over the networks that did not fail. The standard error is the standard deviation of the population (divided "
        "by n, not n \u2212 1) over the square root of n. Nothing else is left out: networks at the level of chance "
        "count.",
    ),
    (
        "Best",
        "The highest accuracy of a network, and its index in the split. The predefined networks, a ResNet-50 and a "
        "ViT, are not averaged: both accuracies are shown.",
    ),
    (
        "Failures",
        "A predictor fails on a network if it raises an error, takes too long or too much memory, or returns "
        "parameters that are missing, of another shape or not finite, or that make the outputs of the network so. "
        "Failures are in no mean; they are counted beside it. Where predictors are compared network by network, one "
        "that fails is worse than one that does not.",
    ),
    (
        "Protocol",
        "Batches of 64 images in a fixed order, and batch norms with the statistics of the batch, since predicted "
        "parameters come without running statistics (Knyazev et al., NeurIPS 2021, section 5). Runs that did something "
        "else are named under the leaderboard.",
    ),
    (
        "Depth, parameters, seconds",
        "Depth is the number of nodes on the longest path of the graph. Parameters are those of the whole network. "
        "Seconds are those of predicting the parameters and of evaluating the network on all images, on the machine "
        "of the run; they depend on what else it was doing.",
    ),
    (
        "Corrupted images",
        "Gaussian noise of the given standard deviation is added to images between 0 and 1, and the result is clipped "
        "to that range.",
    ),
)


def runs(results: Results) -> str:
    """Tables of the runs, of the predictors, and of the machines and versions."""
    if not results.runs:
        return "<p>Nothing is known about the runs: <code>runs.json</code> is not there.</p>"
    heads = ("predictor", "split", "images", "networks", "noise", "batch", "seed", "corpus", "started", "took", "run")
    rows = "".join(_run(name, run, results) for name, run in results.runs.items())
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    table = f'<table class="runs sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return scroll(table, "Runs") + _predictors(results) + _environments(results)


def _run(name: str, run: dict[str, Any], results: Results) -> str:
    done = int((results.rows["run"] == name).sum())
    wanted, size = run.get("networks"), run.get("split_size")
    networks = f"{_text(wanted)} of {_text(size)}" if size not in (None, wanted) else _text(wanted)
    began, ended = moment(run.get("started")), moment(run.get("finished"))
    took = "not finished" if ended is None else "" if began is None else _duration((ended - began).total_seconds())
    if name not in results.counted:
        took += '<small class="bad">superseded, or without rows</small>'
    elif ended is None:
        took = f'<span class="bad">not finished</span><small>{done:,} of {_text(wanted)}</small>'
    cells = (
        *(_text(run.get("split")), f"{_text(run.get('images'))}, {_text(run.get('part'))}", networks),
        *(_text(run.get("noise")), _text(run.get("batch_size")), _text(run.get("seed"))),
        *(f"<code>{_text(run.get('corpus'))[:12]}</code>", _text(run.get("started"))[:16].replace("T", " ")),
        *(took, f"<code>{escape(name)}</code>"),
    )
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{label(_predictor(run).get("label") or "-")}</th>{body}</tr>'


def _predictors(results: Results) -> str:
    """What each predictor was: one line for each that differs from the others in anything."""
    found: dict[str, dict[str, Any]] = {}
    for name, run in results.runs.items():
        if name in results.counted:
            found.setdefault(json.dumps(_predictor(run), sort_keys=True, default=str), _predictor(run))
    rows = "".join(
        f'<tr><th scope="row">{label(one.get("label") or "-")}</th><td>{_text(one.get("kind"))}</td>'
        f"<td><code>{_text(one.get('spec'))}</code></td><td><code>{_text(one.get('digest'))[:16]}</code></td>"
        f'<td class="reason">{_text(one.get("about"))}</td></tr>'
        for one in found.values()
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("predictor", "kind", "given as", "digest", "about"))
    return "<h3>Predictors</h3>" + scroll(
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", "Predictors"
    )


def _environments(results: Results) -> str:
    """Machines and versions: one paragraph for all runs if they are the same."""
    found: dict[str, list[str]] = {}
    for name, run in results.runs.items():
        if name in results.counted:
            versions = run.get("versions")
            pairs = versions.items() if isinstance(versions, dict) else ()
            text = f"{_text(run.get('machine'))}. " + ", ".join(f"{_text(key)} {_text(value)}" for key, value in pairs)
            found.setdefault(text, []).append(name)
    items = "".join(
        f"<li>{text}{f' (runs {escape(chr(44).join(names))})' if len(found) > 1 else ''}</li>"
        for text, names in found.items()
    )
    return f"<h3>Machine and versions</h3><ul>{items}</ul>"


def again(results: Results) -> str:
    """The commands that made these results, each once."""
    commands = [_command(run) for name, run in results.runs.items() if name in results.counted]
    lines = [*dict.fromkeys(command for command in commands if command)]
    lines.append(f"python -m benchmark report --results {results.folder.name or '.'}")
    text = "\n".join(escape(line) for line in lines)
    return (
        "<p>With the corpus of the digest above in the folder that the commands name. Finished networks are not "
        "evaluated again if the results are still there; the same seed gives the same accuracies on a CPU.</p>"
        f"<pre><code>{text}</code></pre>"
    )


def _command(run: dict[str, Any]) -> str:
    command = run.get("command", "")
    return " ".join(map(str, command)) if isinstance(command, list) else str(command or "")


def definitions() -> str:
    """What the words of the page mean."""
    return f"<dl>{''.join(f'<dt>{word}</dt><dd>{meaning}</dd>' for word, meaning in DEFINITIONS)}</dl>"


def _predictor(run: dict[str, Any]) -> dict[str, Any]:
    predictor = run.get("predictor")
    return predictor if isinstance(predictor, dict) else {"label": predictor}


def _text(value: Any) -> str:
    return "\u2013" if value is None or value == "" else escape(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"
