"""`layerlift plan`: how a clip would be run in the memory there is, without running it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Only, Typed, Without, with_flags
from layerlift.cli.job import open_source, settle, write_report
from layerlift.cli.mask_outputs import is_exact
from layerlift.cli.masks import notes_of, open_input_mask
from layerlift.cli.options import ClipArgument, ClipFlags, OutputFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.options import EVIDENCE, MASK, RemovalOptions, RuntimeOptions
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.clip import Clip
    from layerlift.engine.device.plan import Plan
    from layerlift.masks import Mask
    from layerlift.runtime import Runtime


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
    look: Annotated[
        bool,
        typer.Option(
            "--look",
            help="Find out, on a small picture of CLIP, how much of what the mask hides other frames show, and how "
            "much would be invented.",
            rich_help_panel=EVIDENCE,
        ),
    ] = False,
    source_map: Annotated[
        Path | None,
        typer.Option(
            "--source-map",
            metavar="FILE",
            help="With --look, write a video that shows it: black is original, green comes from other frames, magenta "
            "is invented.",
            rich_help_panel=EVIDENCE,
        ),
    ] = None,
    # Without what changes no plan; how much of it evidence and a crop save shows in the run alone.
    options: Annotated[RemovalOptions, Without("steps", "seed", "dilate", "feather", "evidence", "crop", "references")],
    reading: ClipFlags,
    running: RuntimeOptions,
    writing: Annotated[OutputFlags, Only("report", "overwrite")],
    typed: Typed,
) -> None:
    """Show how `remove` would run, without running it: precision, windows, and memory per stage."""
    if look and mask is None:
        raise InputError("--look needs a mask of what to remove: add --mask.")
    if source_map is not None and not look:
        raise InputError("--source-map works only with --look: add --look, or leave it out.")

    from layerlift.clip import check_output
    from layerlift.runtime import open_runtime
    from layerlift.stages.choose_model import NO_MODEL, choose_model, require_model
    from layerlift.stages.removal import around_mask, plan_generation, plan_removal

    # 1. What the paths hold.
    source = open_source(clip, reading)
    read = {**read_of_clip(clip), "--mask": read_of(mask), **read_of_model(running)}
    settle({"--source-map": source_map}, read, writing)
    if source_map is not None:
        check_output(source_map, is_exact(source_map), writing.overwrite, source, version=False)
    record = Report("plan", typed)
    runtime = open_runtime(running, report=record)
    model, notes = choose_model(runtime) if look else (require_model(runtime, "a plan"), [])
    masked = None if mask is None else open_input_mask(mask, clip, source)

    # 2. The plan.
    runtime = replace(runtime, model=model or NO_MODEL)
    lines = [f"clip       {source.width}x{source.height}, {source.frame_count} frames", *notes]
    if model is not None:
        removal = None if masked is None else plan_removal(source, masked, options, runtime)
        job = plan_generation(source, options, runtime) if removal is None else around_mask(removal)
        made = job.plan
        lines += [
            f"model      {job.model.name} on {runtime.policy.device}",
            f"works at   {job.view.size[0]}x{job.view.size[1]}, {_count(len(job.windows), 'window')} of up to "
            f"{made.request.frames} frames, {made.request.tokens} tokens",
            *describe(made),
        ]
        record.results |= {"model": job.model.name, "memory_bytes": round(made.peak), "windows": len(job.windows)}
    lines += ["", f"disk         {disk_of(source)}"]

    # 3. A look at the clip.
    if look and masked is not None:
        lines += ["", look_at(source, masked, options, runtime, source_map, overwrite=writing.overwrite)]
    write_report(record, writing)
    typer.echo("\n".join(lines))


def look_at(
    clip: "Clip",
    mask: "Mask",
    options: RemovalOptions,
    runtime: "Runtime",
    source_map: Path | None,
    *,
    overwrite: bool,
) -> str:
    """Find out what would be borrowed and what invented; returns a line about it, and the report gets the shares."""
    from layerlift.cli.remove import write_source_map
    from layerlift.stages.removal.forecast import forecast

    with (
        show_progress(notes_of(mask)) as progress,
        forecast(clip, mask, options, replace(runtime, progress=progress)) as found,
    ):
        runtime.report.results |= {"borrowed": found.borrowed, "invented": found.invented}
        if source_map is not None:
            with write_source_map(source_map, clip, overwrite=overwrite) as tell:
                for state in found.states():
                    tell(state)
        return f"hidden       {found.borrowed:.0%} shown by other frames, {found.invented:.0%} to be invented"


def disk_of(clip: "Clip") -> str:
    """What a removal takes of the disk."""
    from layerlift.room import clip_room, evidence_room, megabytes
    from layerlift.temporary import folder

    return f"at least {megabytes(clip_room('a.mp4', clip))} for an .mp4, {megabytes(evidence_room(clip))} in {folder()}"


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
        "attention": "in fused kernels"
        if request.fused
        else "at once"
        if limit is None
        else f"in pieces of at most {limit / 2**20:.0f} MiB",
        "VAE": f"{policy.vae_dtype}, {policy.vae_frames or 'all'} frames at a time{kept}",
        "text": "ready" if request.facts.text_block is None else "block by block" if policy.text_stream else "at once",
    }
    return [*lines, "", *(f"{name:12} {value}" for name, value in rows.items())]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
