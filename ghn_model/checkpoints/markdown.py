"""Cards of hypernetworks as Markdown, with the YAML header that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ghn_model.config import GHNConfig
from ghn_model.tasks import METRICS

__all__ = ["markdown_card"]

TAGS = ("graph-neural-network", "hypernetwork", "parameter-prediction")
FACTS = {
    "networks": "networks",
    "images": "images",
    "corpus": "content digest of the corpus",
    "seed": "seed",
    "minutes": "minutes",
    "steps": "steps",
    "networks_seen": "networks seen",
    "images_per_network": "images per network",
    "sequences_per_network": "sequences per network",
    "hardware": "hardware",
    "software": "software",
    "precision": "precision",
    "unfinished": "unfinished",
}
"""Fields of a card, or of its `data`, in the table of the training, and their titles."""


def markdown_card(name: str, card: Mapping[str, Any], config: GHNConfig) -> str:
    """The card of a hypernetwork as Markdown.

    Parameters
    ----------
    name
        What `GHN.from_pretrained` takes: a bundled name, the name of a file, or a repository ``"user/name"``.
    card
        The card, as `ghn_model.checkpoints.model_card` reads it; or other metadata.  Sections whose fields are missing
        are left out.
    config
        The configuration of the hypernetwork.

    Returns
    -------
    The text.  It begins with metadata in YAML: licence, library, tags and results.

    Examples
    --------
    >>> from ghn_model.checkpoints import model_card, read_config
    >>> text = markdown_card("ghn2-digits", model_card("ghn2-digits"), read_config("ghn2-digits"))
    >>> text.splitlines()[:3]
    ['---', 'license: mit', 'library_name: deepnets1m']
    """
    title = name.rpartition("/")[2].removesuffix(".safetensors")
    parts = [_header(title, card), f"# {title}"]
    parts += [_sentence(card[field]) for field in ("about", "task") if card.get(field)]
    parts.append(
        "## Use\n\n```python\nfrom ghn_model import GHN\n\n"
        f"ghn = GHN.from_pretrained({json.dumps(name)}{', download=True' if '/' in name else ''})\n"
        "parameters = ghn.predict(model)  # a dict from names to tensors; the model does not change\n```"
    )
    metric = card_metric(card)
    if results := list(_result_rows(card, metric)):
        known = METRICS.get(metric)
        head = f"| networks | {known.title if known else metric} | best | number | failed | published |\n"
        head += "|---|---|---|---|---|---|\n"
        parts.append("## Results\n\n" + head + "\n".join(results))
        parts += [_sentence(card["results_about"])] if card.get("results_about") else []
    facts = {**card, **_mapping(card.get("data"))}
    rows = [f"| {title} | {_cell(facts[field])} |" for field, title in FACTS.items() if facts.get(field) is not None]
    texts = (text for field in ("command", "evaluation") for text in _texts(card.get(field)))
    commands = [_command(text) for text in texts if text is not None]
    if rows or commands:
        block = "```sh\n" + "\n".join(commands) + "\n```\n\n" if commands else ""
        table = "| | |\n|---|---|\n" + "\n".join(rows) if rows else ""
        parts.append(f"## Training\n\n{block}{table}".rstrip())
    if card.get("limits"):
        parts.append(f"## Limits\n\n{_one_line(card['limits'])}")
    fields = "\n".join(f"| `{field}` | {_cell(value)} |" for field, value in config.to_dict().items())
    parts.append(f"## Configuration\n\n| field | value |\n|---|---|\n{fields}")
    return "\n\n".join(parts) + "\n"


def _header(title: str, card: Mapping[str, Any]) -> str:
    """The metadata of the Hub.  Texts are quoted as in JSON, which is valid YAML."""
    lines = ["---"]
    if licence := card.get("licence"):
        lines.append(f"license: {_one_line(licence).lower() if licence == 'MIT' else json.dumps(_one_line(licence))}")
    lines += ["library_name: deepnets1m", "tags:", *(f"- {tag}" for tag in TAGS)]
    metric = card_metric(card)
    kinds = {"top1": ("image-classification", "accuracy"), "perplexity": ("text-generation", "perplexity")}
    task, kind = kinds.get(metric, ("other", metric))
    found = [
        (split, result[f"mean_{metric}"])
        for split, result in _mapping(card.get("results")).items()
        if _is_number(_mapping(result).get(f"mean_{metric}"))
    ]
    if found:
        lines += ["model-index:", f"- name: {json.dumps(title)}", "  results:"]
        for split, value in found:
            lines += [
                "  - task:",
                f"      type: {task}",
                "    dataset:",
                f"      name: {json.dumps(f'networks of the split {_one_line(split)} of DeepNets-1M')}",
                "      type: deepnets1m",
                f"      split: {json.dumps(_one_line(split))}",
                "    metrics:",
                f"    - type: {json.dumps(kind)}",
                f"      value: {value}",
            ]
    return "\n".join([*lines, "---"])


def card_metric(card: Mapping[str, Any]) -> str:
    """The metric of the results: `perplexity` if their means are `mean_perplexity`.

    Examples
    --------
    >>> card_metric({"results": {"family:gpt2-widths/test": {"mean_perplexity": 16.4}}}), card_metric({})
    ('perplexity', 'top1')
    """
    fields = (field for result in _mapping(card.get("results")).values() for field in _mapping(result))
    return next((field.removeprefix("mean_") for field in fields if str(field).startswith("mean_")), "top1")


def _result_rows(card: Mapping[str, Any], metric: str) -> Iterator[str]:
    published = _mapping(card.get("published"))
    for split, result in _mapping(card.get("results")).items():
        found, other = _mapping(result), _mapping(published.get(split))
        if f"mean_{metric}" in found:
            best = _number(found[f"best_{metric}"]) if f"best_{metric}" in found else ""
            cells = [_mean(found, metric), best, found.get("networks"), found.get("failures")]
        else:
            cells = [_number(found.get(metric)), "", 1, 0 if _is_number(found.get(metric)) else 1]
        theirs = _mean(other, metric) if f"mean_{metric}" in other else _number(other.get(metric)) if other else ""
        yield "| " + " | ".join(_cell(cell) for cell in (split, *cells, theirs)) + " |"


def _mean(found: Mapping[str, Any], metric: str) -> str:
    """A mean with its standard error, which a single network does not have."""
    mean = _number(found.get(f"mean_{metric}"))
    one = found.get("networks") == 1 or not _is_number(found.get("standard_error"))
    return mean if one else f"{mean} ± {_number(found['standard_error'])}"


def _number(value: Any) -> str:
    return f"{value:.2f}" if _is_number(value) else "failed"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _one_line(value: Any) -> str:
    """A value without line breaks and control characters."""
    text = (
        json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else "" if value is None else str(value)
    )
    return _printable(" ".join(text.split()))


def _cell(value: Any) -> str:
    """A value in a cell of a table, which a bar would end."""
    return _one_line(value).replace("|", r"\|")


def _command(value: Any) -> str:
    """A command in a block of code, without what would end the block; its lines after the first one are indented."""
    lines = (_printable(line.expandtabs(1).strip()).replace("```", "") for line in str(value).splitlines())
    return "\n  ".join(line for line in lines if line)


def _printable(text: str) -> str:
    return "".join(each for each in text if each.isprintable())


def _sentence(value: Any) -> str:
    text = _one_line(value)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
