"""What the sections about runs show: tables of runs, predictors and machines, and the commands to repeat them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmark.report.networks import row_seconds
from benchmark.report.sections import ReportInputs
from benchmark.results import Results, moment

__all__ = ["commands", "runs"]

NONE = "\u2013"


def runs(inputs: ReportInputs) -> dict[str, Any]:
    """Return the runs, the predictors, and the machines with their software versions."""
    results = inputs.results
    return {
        "runs": [_run(name, run, results) for name, run in results.runs.items()],
        "predictors": _predictors(results),
        "environments": _environments(results),
    }


def commands(inputs: ReportInputs) -> dict[str, Any]:
    """Return the commands that made the results, each once."""
    results = inputs.results
    found = []
    for name, run in results.runs.items():
        command = run.get("command") or ""
        if name in results.counted and command:
            found.append(" ".join(map(str, command)) if isinstance(command, list) else str(command))
    found.append(f"deepnets report --results {results.folder.name or '.'}")
    return {"commands": list(dict.fromkeys(found))}


def _run(name: str, run: dict[str, Any], results: Results) -> dict[str, Any]:
    done = int((results.rows["run"] == name).sum())
    done += int((results.corrupted["run"] == name).sum()) if len(results.corrupted) else 0
    wanted, size = run.get("networks"), run.get("split_size")
    end = moment(run.get("finished"))
    is_current = name in results.counted
    return {
        "predictor": _text(_predictor(run).get("label")),
        "split": _text(run.get("split")),
        "images": f"{_text(run.get('images'))}, {_text(run.get('part'))}",
        "networks": f"{_text(wanted)} of {_text(size)}" if size not in (None, wanted) else _text(wanted),
        "noise": _text(run.get("corruption") or run.get("noise")),
        "batch_size": _text(run.get("batch_size")),
        "seed": _text(run.get("seed")),
        "corpus": _text(run.get("corpus"))[:12],
        "started": _text(run.get("started"))[:16].replace("T", " "),
        "seconds": _seconds(name, results),
        "unfinished": f"{done:,} of {_text(wanted)}" if is_current and end is None else "",
        "superseded": not is_current,
        "name": name,
    }


def _predictors(results: Results) -> list[dict[str, str]]:
    """Return each predictor once; one that differs in anything is another predictor."""
    found: dict[str, dict[str, str]] = {}
    for name, run in results.runs.items():
        if name in results.counted:
            about = _predictor(run)
            key = json.dumps(about, sort_keys=True, default=str)
            found[key] = {field: _text(about.get(field)) for field in ("label", "kind", "spec", "digest", "about")}
            found[key]["data"] = str(about.get("data") or "not declared")
    return list(found.values())


def _environments(results: Results) -> list[dict[str, Any]]:
    """Return each machine with its versions once, with the runs on it if there are several."""
    found: dict[str, list[str]] = {}
    for name, run in results.runs.items():
        if name in results.counted:
            versions = run.get("versions")
            pairs = versions.items() if isinstance(versions, dict) else ()
            text = f"{_text(run.get('machine'))}. " + ", ".join(f"{_text(key)} {_text(value)}" for key, value in pairs)
            found.setdefault(text, []).append(name)
    return [{"text": text, "runs": ", ".join(names) if len(found) > 1 else ""} for text, names in found.items()]


def _predictor(run: dict[str, Any]) -> dict[str, Any]:
    predictor = run.get("predictor")
    return predictor if isinstance(predictor, dict) else {"label": predictor}


def _text(value: Any) -> str:
    return NONE if value is None or value == "" else str(value)


def _seconds(name: str, results: Results) -> str:
    """Return the median time per network; runs share the machine, so the time from start to end says less."""
    rows = [table[table["run"] == name] for table in (results.rows, results.corrupted) if len(table)]
    times = np.concatenate([row_seconds(table) for table in rows]) if rows else np.zeros(0)
    known = times[np.isfinite(times)]
    return f"{np.median(known):.3g}" if len(known) else ""
