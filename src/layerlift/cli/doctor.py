"""`layerlift doctor`: what this machine has and what would be chosen on it, in a form that fits a bug report."""

from dataclasses import fields
from typing import TYPE_CHECKING

import typer

from layerlift.cli import options

if TYPE_CHECKING:
    from layerlift.device import Policy


def doctor(
    device: options.Device = None,
    dtype: options.Dtype = None,
    policy: options.PolicyName = None,
    memory: options.Memory = None,
    weights: options.Weights = "auto",
) -> None:
    """Say what layerlift finds here: versions, the device and its rules, memory, the models, and what it would do."""
    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory, total_ram, usable_memory
    from layerlift.device.needs import GIB
    from layerlift.model.catalogue import CATALOGUE
    from layerlift.model.hub import find_checkpoint, find_text_encoder
    from layerlift.report import versions

    given = check_memory(memory)
    chosen = choose_policy(device, dtype, policy, weights=weights)
    usable = usable_memory(chosen) if given is None else given
    found = {name: find_checkpoint(entry) for name, entry in CATALOGUE.items()} | {"text encoder": find_text_encoder()}
    sections = {
        "versions": versions(),
        "device": devices(),
        "memory": {"RAM": f"{total_ram() / GIB:.1f} GiB", "may be taken": f"{usable / GIB:.1f} GiB"},
        "rules": {field.name: getattr(chosen, field.name) for field in fields(chosen)},
        "models": {name: path or "not on this machine" for name, path in found.items()},
    }
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {name:24} {value}" for name, value in rows.items())]
    lines += ["what would be done", *(f"  {line}".rstrip() for line in default_plan(chosen, usable))]
    typer.echo("\n".join(lines))


def devices() -> dict[str, str]:
    """What torch can compute on here, and why not on the others."""
    import torch

    from layerlift.device.policy import BACKENDS, why_not

    rows: dict[str, str] = {}
    for name in BACKENDS:
        reason = why_not(name)
        rows[name] = "can be used" if reason is None else f"no: {reason}"
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        rows[f"cuda:{index}"] = f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    return rows


def default_plan(policy: "Policy", memory: int) -> list[str]:
    """The plan for a clip of the default model's own size and length; of the demo model's where there is none."""
    from layerlift.cli.plan import describe
    from layerlift.errors import InputError
    from layerlift.fit import fit_size, fit_windows
    from layerlift.model import open_model
    from layerlift.stages.planning import plan_windows

    try:
        model = open_model(None)
    except InputError as error:
        lines = [str(error), "so this is for the built-in model"]
        model = open_model("demo")
    else:
        lines = []
    size, frames, geometry = model.settings.size, model.settings.frames, model.geometry
    prompts = ["Empty"] if model.settings.guidance == 1 else ["", "Empty"]
    lines.append(f"{model.name}, {size[0]}x{size[1]}, {frames} frames")
    try:
        made = plan_windows(
            model,
            fit_size(size, size, geometry.space),
            fit_windows(frames, frames, geometry.time),
            prompts,
            policy,
            memory=memory,
        )
    except InputError as error:
        return [*lines, str(error)]
    return [*lines, *describe(made)]
