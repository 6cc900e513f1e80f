"""`layerlift doctor`: what this machine has and what would be chosen on it, in a form that fits a bug report."""

from dataclasses import fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Without, with_flags
from layerlift.options import RuntimeOptions

if TYPE_CHECKING:
    from layerlift.engine.device import Policy
    from layerlift.runtime import Runtime


@with_flags
def doctor(*, running: Annotated[RuntimeOptions, Without("model", "text_encoder", "cache")]) -> None:
    """Show what layerlift finds on this machine: versions, device, memory, rules and models.

    Include it in a bug report.
    """
    from layerlift.engine.device.budget import total_ram, usable_memory
    from layerlift.engine.device.mlx import describe_mlx
    from layerlift.engine.device.needs import GIB
    from layerlift.engine.device.policy import devices
    from layerlift.engine.model.catalogue import CATALOGUE
    from layerlift.engine.model.hub import find_checkpoint, find_text_encoder
    from layerlift.engine.model.published import find_published
    from layerlift.engine.onnx import providers
    from layerlift.engine.segmenters import SEGMENTERS, find_segmenter
    from layerlift.report import versions
    from layerlift.runtime import open_runtime

    runtime = open_runtime(running)
    chosen = runtime.policy
    usable = usable_memory(chosen) if runtime.memory_bytes is None else runtime.memory_bytes
    found = {name: find_checkpoint(entry) for name, entry in CATALOGUE.items()} | {"text encoder": find_text_encoder()}
    found["ready prompts"] = ready.path if (ready := find_published()) else None
    segmenters = {name: find_segmenter(entry) or "not on this machine" for name, entry in SEGMENTERS.items()}
    runs = ", ".join(name for name, _ in providers(chosen.backend))
    sections = {
        "versions": versions(),
        "device": devices(),
        "engine": {"chosen": chosen.engine, "torch": "can be used", "mlx": describe_mlx()},
        "memory": {"RAM": f"{total_ram() / GIB:.1f} GiB", "limit": f"{usable / GIB:.1f} GiB"},
        "rules": {field.name: getattr(chosen, field.name) for field in fields(chosen)}
        | {"attention": attention(chosen)},
        "models": {name: path or "not on this machine" for name, path in found.items()},
        "segmenters": {"mobile-sam": f"in the package, run by {runs}", **segmenters},
        "cache": cached(),
    }
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {name:24} {value}" for name, value in rows.items())]
    lines += ["plan for a default clip", *(f"  {line}".rstrip() for line in default_plan(runtime))]
    typer.echo("\n".join(lines))


def cached() -> dict[str, str]:
    """Where the cache is, how much of each kind lies in it, and how much may."""
    from layerlift.cache import BOUNDS, cache_folder, kept_sizes
    from layerlift.engine.device.needs import GIB

    rows = {"folder": str(cache_folder(""))}
    for kind, (count, size) in kept_sizes().items():
        bound = f" of at most {BOUNDS[kind].size / GIB:.0f}" if kind in BOUNDS else ""
        rows[kind] = f"{count} file{'' if count == 1 else 's'}, {size / GIB:.2f} GiB{bound}"
    return rows


def attention(policy: "Policy") -> str:
    """Which way attention goes, and why."""
    from layerlift.engine.device.mps import attention_here

    if policy.engine == "mlx":
        return "in MLX's own kernels"
    return attention_here()[1] if policy.backend == "mps" else f"at once, in torch's own kernels for {policy.backend}"


def default_plan(runtime: "Runtime") -> list[str]:
    """The plan for a clip of the default model's own size and length; of the demo model's where there is none."""
    from layerlift.cli.plan import describe
    from layerlift.clip import Clip
    from layerlift.engine.model import open_model
    from layerlift.errors import InputError
    from layerlift.options import RemovalOptions
    from layerlift.stages.removal import plan_generation

    lines = []
    try:
        model = open_model(None)
    except InputError as error:
        lines = [str(error), "The plan below is for the built-in model."]
        model = open_model("demo")
    (width, height), frames = model.settings.size, model.settings.frames
    lines.append(f"{model.name}, {width}x{height}, {frames} frames")
    clip = Clip(width, height, frames, Fraction(24), lambda start, stop, pixels: iter(()))
    try:
        job = plan_generation(clip, RemovalOptions(), replace(runtime, model=model))
    except InputError as error:
        return [*lines, str(error)]
    return [*lines, *describe(job.plan)]
