"""`layerlift plan`: how a clip would be run in the memory there is, without running it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Without, with_flags
from layerlift.cli.job import open_source
from layerlift.cli.masks import open_input_mask
from layerlift.cli.options import ClipArgument, ClipFlags
from layerlift.options import MASK, RemovalOptions, RuntimeOptions

if TYPE_CHECKING:
    from layerlift.engine.device.plan import Plan


@with_flags
def plan(
    *,
    clip: ClipArgument,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="MASK",
            help="Mask of what to remove: plan for what the model would see around it, if other frames showed none of "
            "it (default: plan for the whole picture).",
            rich_help_panel=MASK,
            show_default=False,
        ),
    ] = None,
    # Without what changes no plan; how much of it evidence and a crop save shows in the run alone.
    options: Annotated[RemovalOptions, Without("steps", "seed", "dilate", "feather", "evidence", "crop", "references")],
    reading: ClipFlags,
    running: RuntimeOptions,
) -> None:
    """Show how `remove` would run, without running it: precision, windows, and memory per stage."""
    from layerlift.room import clip_room, evidence_room, megabytes
    from layerlift.runtime import open_runtime
    from layerlift.stages.choose_model import require_model
    from layerlift.stages.removal import around_mask, plan_generation, plan_removal
    from layerlift.temporary import folder

    source = open_source(clip, reading)
    runtime = open_runtime(running)
    runtime = replace(runtime, model=require_model(runtime, "a plan"))
    if mask is None:
        job = plan_generation(source, options, runtime)
    else:
        removal = plan_removal(source, open_input_mask(mask, clip, source), options, runtime)
        job = around_mask(removal)
    made = job.plan
    lines = [
        f"clip       {source.width}x{source.height}, {source.frame_count} frames",
        f"model      {job.model.name} on {runtime.policy.device}",
        f"works at   {job.view.size[0]}x{job.view.size[1]}, {_count(len(job.windows), 'window')} of up to "
        f"{made.request.frames} frames, {made.request.tokens} tokens",
    ]
    temporary = 0 if options.evidence == "off" else evidence_room(source)
    disk = f"at least {megabytes(clip_room('a.mp4', source))} for an .mp4, {megabytes(temporary)} in {folder()}"
    typer.echo("\n".join([*lines, *describe(made), "", f"disk         {disk}"]))


def describe(made: "Plan") -> list[str]:
    """A plan in lines: memory, every stage's part of it, and how it runs."""
    from layerlift.engine.device.needs import GIB

    request, policy = made.request, made.policy
    lines = [f"memory     limit {request.memory / GIB:.1f} GiB, planned {made.peak / GIB:.2f} GiB", ""]
    lines.append(f"{'GiB':10} {'weights':>8} {'arrays':>8} {'host':>8} {'total':>8}")
    for need in made.needs:
        parts = (need.weights, need.activations, need.host, need.total)
        lines.append(f"{need.stage:10}" + "".join(f" {part / GIB:8.2f}" for part in parts))
    limit = policy.attention_limit_bytes
    layers = request.facts.layers
    weights = policy.transformer_dtype
    if policy.int8 or policy.int4:
        weights = f"{4 if policy.int4 else 8} bits in the blocks"
    there = layers - policy.streamed_blocks
    kept = f", weights kept in {policy.vae_storage}" if policy.vae_storage else ""
    if policy.vae_streamed:
        kept = ", weights read from disk for each piece"
    rows = {
        "engine": policy.engine,
        "transformer": f"{weights}, {'all' if there == layers else there or 'none'} of its {layers} blocks stay in "
        + ("memory" if there == layers else "memory, the others are read from disk in every pass"),
        "guidance": "none" if request.branches == 1 else "in one pass" if policy.batched_guidance else "in two passes",
        "passes": "over unknown tokens only, where that is faster" if made.sparse else "over all tokens",
        "attention": "at once" if limit is None else f"in pieces of at most {limit / 2**20:.0f} MiB",
        "VAE": f"{policy.vae_dtype}, {policy.vae_frames or 'all'} frames at a time{kept}",
        "text": "ready" if request.facts.text_block is None else "block by block" if policy.text_stream else "at once",
    }
    return [*lines, "", *(f"{name:12} {value}" for name, value in rows.items())]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
