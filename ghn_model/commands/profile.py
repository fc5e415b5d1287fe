"""The command `python -m ghn_model profile`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepnets.support import positive
from ghn_model.commands.train import add_machine, add_recipe, add_subject, opened

if TYPE_CHECKING:
    from ghn_model.training import Measured, Profile

__all__ = ["add_arguments"]

EPILOG = """
The steps are those of the trainer, whose result is thrown away.  For several processes: torchrun --nproc-per-node N -m
ghn_model profile ...; the times are those of all, the parts those of the first.
"""


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    profile = commands.add_parser("profile", help="where the time of a training step goes", epilog=EPILOG)
    add_subject(profile)
    profile.add_argument("--steps", type=positive, default=20, help="steps that are timed (20)")
    profile.add_argument("--profiled-steps", type=positive, default=3, help="steps that are taken apart (3)")
    profile.add_argument("--out", type=Path, help="folder for profile.json and trace.json.gz")
    profile.add_argument("--json", action="store_true", help="print what is in profile.json instead of a table")
    add_recipe(profile)
    add_machine(profile)
    profile.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed options say."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler else tells when it begins and ends
    import torch

    from ghn_model.training import profile_training

    with opened(options) as (config, recipe, images, nets, ranks, workers, _):
        measured = profile_training(
            config,
            recipe,
            images,
            nets,
            ranks=ranks,
            workers=workers,
            steps=options.steps,
            profiled_steps=options.profiled_steps,
            out=options.out,
        )
        if not measured.profile:
            return
        about = {
            "preset": options.preset,
            "images": images.name,
            "virtual_edges": config.virtual_edges,
            "processes": ranks.world_size,
            "hardware": ranks.hardware,
            "software": f"PyTorch {torch.__version__}",
            "recipe": recipe.to_dict(),
        }
        values = {**about, **measured.to_dict()}
        if options.out:
            (options.out / "profile.json").write_text(json.dumps(values, indent=1) + "\n")
        if options.json:
            print(json.dumps(values))
            return
        print(
            f"{options.preset} on {images.name}: {recipe.meta_batch} networks and {recipe.batch} images a step, "
            f"{config.virtual_edges} virtual edges, {recipe.precision}; {about['hardware']}, {about['software']}"
        )
        print(_table(measured, measured.profile))


def _table(measured: Measured, profile: Profile) -> str:
    lines = [
        f"{_short(measured.step_ms)} ms a step, {_short(measured.networks_per_s)} networks/s "
        f"({measured.steps} steps, without the profiler)",
        "",
    ]
    columns = [("host ms", "host_ms"), ("operators", "operators")]
    if profile.gpu:
        columns += [("kernels", "kernels"), ("copies", "copies"), ("GPU ms", "gpu_ms"), ("waits", "waits")]
    whole = profile.step_ms
    lines.append(f"{'of a step':24}{'share':>7}" + "".join(f"{title:>11}" for title, _ in columns))
    for costs in (*profile.parts, profile.between):
        cells = "".join(f"{_short(getattr(costs, field)):>11}" for _, field in columns)
        lines.append(f"{costs.name:24}{costs.host_ms / whole:>7.0%}{cells}")
    lines.append(f"{'with the profiler':24}{'':7}{_short(whole):>11}  ({profile.steps} steps)")
    if gpu := profile.gpu:
        lines += [
            "",
            f"the GPU is busy {gpu.busy:.1%} of the time; in {gpu.idle:.1%} it waits, in {_short(gpu.gaps)} gaps "
            f"a step, median {_short(gpu.gap_us)} us",
        ]
    lines += ["", f"{'most expensive':64}{'in a step':>11}{'GPU ms' if profile.gpu else 'host ms':>11}"]
    for operation in profile.operations:
        lines.append(f"{operation.name[:62]:64}{_short(operation.times):>11}{_short(operation.ms):>11}")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
