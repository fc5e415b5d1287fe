"""Write the figures in README and documentation from the cards of the bundled hypernetworks and from measurements.

python docs/figures.py            write them into the documents, and draw docs/pictures/curves.svg
python docs/figures.py --check    only compare; exit status 1 if a document or the picture differs

Figures stand between `<!-- figures: NAME -->` and `<!-- /figures -->`.  Accuracies come from
`ghn_model/pretrained/*.json` and the published results; times, sizes and counts, which depend on the machine, from
`docs/measurements.json`, which states the commands that measured them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.cards import PUBLISHED
from ghn_model.checkpoints import PRETRAINED, list_pretrained, model_card

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "curves.svg"
DOCUMENTS = ("README.md", *(f"docs/{name}.md" for name in ("training", "migration")))
METHODS = {"mlp": "MLP", "ghn1": "GHN-1", "ghn2": "GHN-2"}
CONTINUED = {"ghn2-cifar10": "ghn2-cifar10-60k"}
"""Bundled hypernetworks whose training started from another one."""
NAMES = {"resnet50": "ResNet-50", "vit": "vision transformer"}


def main(arguments: list[str]) -> int:
    """Write or check all documents; return the exit status."""
    status = 0
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if (new := with_figures(text)) == text:
            continue
        if "--check" in arguments:
            print(f"{name}: figures differ from the cards and measurements; run python docs/figures.py")
            status = 1
        else:
            path.write_text(new, encoding="utf-8")
            print(f"{name}: written")
    if curves_digest() not in PICTURE.read_text(encoding="utf-8"):
        if "--check" in arguments:
            print(f"{PICTURE.name}: differs from the learning curves; run python docs/figures.py")
            status = 1
        else:
            PICTURE.write_text(draw_curves(), encoding="utf-8")
            print(f"{PICTURE.name}: drawn")
    return status


def with_figures(text: str) -> str:
    """Return a document with the current figures."""
    marked = r"(<!-- figures: (?P<name>[\w -]+?) -->)(?P<line>\n?).*?(<!-- /figures -->)"

    def replaced(found: re.Match[str]) -> str:
        name, *words = found["name"].split()
        line = found["line"]
        return f"{found[1]}{line}{line}{FIGURES[name](*words)}{line}{line}{found[4]}"

    return re.sub(marked, replaced, text, flags=re.DOTALL)


def mean(found: dict[str, Any], best: bool = False) -> str:
    """A mean with its standard error, or the accuracy of a single network; failures are named."""
    if "mean_top1" not in found:
        return f"{found['top1']:.1f}" if found.get("top1") is not None else "failed"
    text = f"{found['mean_top1']:.1f}"
    if found["networks"] > 1:
        text += f" ± {found['standard_error']:.1f}"
    if best and found["networks"] > 1:
        text += f" ({found['best_top1']:.1f})"
    if found["failures"]:
        text += f", {found['failures']} failed"
    return text


def results() -> str:
    """The accuracies of the bundled hypernetworks, and of the published ones."""
    rows = [["networks", *METHODS.values()], ["---"] * (1 + len(METHODS))]
    digits = {method: model_card(f"{method}-digits")["results"] for method in METHODS}
    rows += [row_of(digits, split) for split in digits["ghn2"]]
    cifar10 = {method: model_card(f"{method}-cifar10")["results"] for method in METHODS}
    rows.append(row_of(cifar10, "test", "CIFAR-10, "))
    rows.append(row_of(PUBLISHED, "test", "published: CIFAR-10, "))
    return table(rows)


def row_of(found: Mapping[str, Any], split: str, prefix: str = "") -> list[str]:
    """The accuracies of the methods on a split, of which all have evaluated the same networks."""
    values = [found[method][split] for method in METHODS]
    numbers = {each.get("networks", 1) for each in values}
    if len(numbers) > 1:
        raise ValueError(f"{prefix}{split}: the cards have different numbers of networks: {numbers}")
    (number,) = numbers
    title = NAMES.get(split) or f"`{split}`, {number} network{'s' if number > 1 else ''}"
    return [prefix + title, *(mean(each, best=True) for each in values)]


def corpus() -> str:
    """What `make dataset` prints."""
    found = measurements()["corpus"]
    lines = ["split     networks       size  content digest"]
    lines += [f"{name:8}{number:>10,}{size:>8.2f} MB  {digest}" for name, number, size, digest in found["splits"]]
    total = sum(number for _, number, _, _ in found["splits"])
    lines.append(f"{total:,} networks made in {found['seconds']} s, in data")
    return "\n".join(["```text", *lines, "```"])


def comparison() -> str:
    """The original release and this toolkit."""
    found = measurements()
    sizes = {name: size for name, _, size, _ in found["corpus"]["splits"]}
    values = {"seconds": found["corpus"]["seconds"], "train_mb": f"{sizes['train']:.0f}"}
    rows = [["", "original", "this toolkit", "measured with"], ["---"] * 4]
    for what, theirs, ours, command in found["comparison"]["rows"]:
        rows.append([what, theirs, ours.format(**values), f"`{command}`"])
    return f"{table(rows)}\n\nMeasured on {found['comparison']['about']}."


def card(name: str, field: str) -> str:
    """A value of a card: the mean of a split, or a field such as `steps`; `core_minutes` is that of its curve."""
    if field == "core_minutes":
        return f"{core_minutes(name):.0f}"
    found = model_card(name)
    if field in found["results"]:
        return mean(found["results"][field])
    return f"{found[field]:,.0f}"


def splits(name: str) -> str:
    """The accuracies of a bundled hypernetwork on all splits of its card, and the published ones of its method."""
    card = model_card(name)
    rows = [["networks", "top-1", "published"], ["---"] * 3]
    for split, found in card["results"].items():
        number = found.get("networks", 1)
        title = NAMES.get(split) or f"`{split}`, {number} networks"
        rows.append([title, mean(found), mean(card["published"][split])])
    return table(rows)


def curves(images: str) -> str:
    """The learning curves of the bundled hypernetworks for an image set, with their processor time.

    Rows of a continued training follow those of the training before.
    """
    found = {method: {int(row["networks"]): row for row in curve_of(f"{method}-{images}")} for method in METHODS}
    rows = [["networks seen", *METHODS.values()], ["---"] * (1 + len(METHODS))]
    for number in sorted(set().union(*found.values())):
        cells = [found[method].get(number) for method in METHODS]
        rows.append([f"{number:,}", *(accuracy_and_time(cell) if cell else "" for cell in cells)])
    return table(rows)


def accuracy_and_time(row: Mapping[str, str]) -> str:
    """A row of a learning curve in a few words."""
    minutes = float(row["core_seconds"]) / 60
    return f"{float(row['top1']):.1f} ± {float(row['standard_error']):.1f} ({minutes:.0f} min)"


def curve_of(name: str) -> list[dict[str, str]]:
    """The rows of the learning curve of a bundled hypernetwork, after those of the one that it continues."""
    with (PRETRAINED / model_card(name)["curve"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if name not in CONTINUED:
        return rows
    before = curve_of(CONTINUED[name])
    for row in rows:
        for column in ("networks", "core_seconds"):
            row[column] = f"{float(before[-1][column]) + float(row[column]):.10g}"
    return before + rows


def curves_digest() -> str:
    """What the picture of the learning curves contains, so that changed curves are noticed."""
    curves = {name: curve_of(name) for name in list_pretrained("*-cifar10")}
    return hashlib.sha256(json.dumps(curves, sort_keys=True).encode()).hexdigest()


def draw_curves() -> str:
    """The learning curves of the hypernetworks for CIFAR-10, and the published accuracies, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, unit, label in zip(
        panels, ("networks", "core_seconds"), (1, 60), ("networks seen", "processor time in minutes"), strict=True
    ):
        for place, (method, title) in enumerate(METHODS.items()):
            color = f"C{place}"
            published = PUBLISHED[method]["test"]["mean_top1"]
            axes.axhline(published, color=color, linestyle=":", linewidth=1)
            axes.text(0.01, published, f"{title}, published", color=color, fontsize=8, va="bottom", ha="left",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            if (name := f"{method}-cifar10") in list_pretrained():
                rows = curve_of(name)
                values = {key: [float(row[key]) for row in rows] for key in (column, "top1", "standard_error")}
                axes.errorbar([value / unit for value in values[column]], values["top1"], values["standard_error"],
                              color=color, marker="o", markersize=4, capsize=2, label=title)  # fmt: skip
        axes.set(xscale="log", xlabel=label, ylim=(10, 75))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean top-1 of unseen networks, %")
    panels[0].legend(loc="lower right")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "curves", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Description": curves_digest()})
    return buffer.getvalue()


def core_minutes(name: str) -> float:
    """Processor time of a training with its validations, which other programs do not change."""
    return float(curve_of(name)[-1]["core_seconds"]) / 60


def minutes() -> str:
    """The shortest and the longest training of the bundled hypernetworks for digits."""
    found = [core_minutes(name) for name in list_pretrained("*-digits")]
    return f"{min(found):.0f} to {max(found):.0f}"


def measurements() -> dict[str, Any]:
    """The measured figures."""
    found: dict[str, Any] = json.loads((ROOT / "docs" / "measurements.json").read_text(encoding="utf-8"))
    return found


def table(rows: list[list[str]]) -> str:
    """Rows of Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


FIGURES: dict[str, Callable[..., str]] = {
    "results": results,
    "corpus": corpus,
    "comparison": comparison,
    "card": card,
    "curves": curves,
    "splits": splits,
    "minutes": minutes,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
