"""The command `python -m ghn_model profile`."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from deepnets.support import examples, output_path, positive
from ghn_model.commands.hypernetwork_options import add_hypernetwork
from ghn_model.commands.train import add_data, add_machine, add_recipe, opened

if TYPE_CHECKING:
    from ghn_model.training import StepProfile

__all__ = ["add_arguments"]

EPILOG = """
Runs the training loop and discards its result.  With several processes (torchrun --nproc-per-node N -m deepnets
profile ...), the step time is that of the slowest process, and the parts are those of the first one.

""" + examples("deepnets profile --preset ghn2 --images digits --steps 20", "deepnets profile --preset ghn3-t --json")


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `ArgumentParser.add_subparsers`."""
    profile = commands.add_parser("profile", help="measure where the time of a training step goes", epilog=EPILOG)
    add_data(profile)
    profile.add_argument("--steps", type=positive, default=20, help="steps to time without the profiler (default: 20)")
    profile.add_argument("--profiled-steps", type=positive, default=3, help="further steps to profile (default: 3)")
    profile.add_argument("--out", type=output_path, help="folder for profile.json and trace.json.gz (default: none)")
    profile.add_argument("--json", action="store_true", help="print the content of profile.json instead of tables")
    add_hypernetwork(profile)
    add_recipe(profile)
    add_machine(profile)
    profile.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no messages from PyTorch's profiler
    import torch

    from ghn_model.training import profile_training

    with opened(options) as (config, recipe, data, nets, distributed, workers, _):
        found = profile_training(
            config,
            recipe,
            data,
            nets,
            task=options.task,
            distributed=distributed,
            workers=workers,
            steps=options.steps,
            profiled_steps=options.profiled_steps,
            out=options.out,
        )
        if not distributed.is_main:
            return
        values = {
            "preset": options.preset,
            "images": data.name,
            "virtual_edges": config.virtual_edges,
            "processes": distributed.world_size,
            "hardware": distributed.hardware,
            "software": f"PyTorch {torch.__version__}",
            "recipe": recipe.to_dict(),
            **found._asdict(),
        }
    if options.out:
        (options.out / "profile.json").write_text(json.dumps(values, indent=1) + "\n")
    if options.json:
        print(json.dumps(values))
        return
    print(
        f"{options.preset} on {values['images']}: {recipe.meta_batch_size} networks and {recipe.batch_size} examples "
        f"per step, {recipe.precision}; {values['hardware']}, {values['software']}"
    )
    print(_text(found))


def _text(found: StepProfile) -> str:
    lines = [
        f"{found.step_ms:.1f} ms per step, {found.networks_per_s:.1f} networks/s, {found.networks_per_core_s:.1f} "
        f"networks per core-second ({found.steps} steps without the profiler)",
    ]
    if found.kernels:
        lines.append(
            f"{found.kernels:,.0f} GPU kernels per step, which take {found.kernel_ms:.1f} ms: "
            f"the GPU is busy for {found.kernel_ms / found.step_ms:.0%} of the step at most"
        )
    lines += ["", f"{'part of a step, with the profiler':40}{'host ms':>10}"]
    lines += [f"{name:40}{milliseconds:>10.2f}" for name, milliseconds in found.parts.items()]
    return "\n".join([*lines, "", found.table])
