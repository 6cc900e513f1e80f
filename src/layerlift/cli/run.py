"""`layerlift run`: everything in one go, from object masks to layers and a composite."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.folder import check_run_folder, results_folder
from layerlift.cli.job import describe_evidence, finish, open_source, settle
from layerlift.cli.masks import notes_of, open_objects, open_totals
from layerlift.cli.options import ClipArgument, ClipFlags, Objects, OutputFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model, read_of_references
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.options import (
    MASK,
    OUTPUT,
    PLACE,
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    RemovalOptions,
    RunOptions,
    RuntimeOptions,
)
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.stages.run import Inputs


@with_flags
def run(
    *,
    clip: ClipArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder for background, layer_0 …, total_mask, composite, report.json and contact_sheet.png. It "
            "appears when all of them are finished.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ],
    objects: Objects = None,
    total: Annotated[
        list[Path] | None,
        typer.Option(
            "--total",
            metavar="MASK",
            help="Mask of the objects and their effects (shadows, reflections …), if you have one: one for all "
            "objects, or one per object (default: total_mask in CLIP's folder). If there is neither, the effects "
            "are found, as by `layerlift mask`.",
            rich_help_panel=MASK,
        ),
    ] = None,
    effects: Annotated[EffectOptions, Without("dilate", "prompt")],
    removal: RemovalOptions,
    extraction: ExtractionOptions,
    onto: Annotated[
        Path | None,
        typer.Option(
            "--onto",
            metavar="CLIP2",
            help="New background to place the layers over.",
            rich_help_panel=PLACE,
            show_default=False,
        ),
    ] = None,
    composition: CompositionOptions,
    reading: ClipFlags,
    running: RuntimeOptions,
    writing: OutputFlags,
    typed: Typed,
) -> None:
    """Run the whole pipeline: masks, clean plate, layers, composite."""
    if onto is None and changed(composition):
        raise InputError(f"{changed(composition)[0]} works only with --onto: add --onto, or leave it out.")
    looking = changed(effects, apart_from=RemovalOptions)
    if total and looking:
        raise InputError(f"{looking[0]} is for finding effects, but --total already gives them: leave one of them out.")

    from layerlift.room import check_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.run import open_inputs, plan_run, run_stages

    # 1. What the paths hold, before any weight is read.
    read = {**read_of_clip(clip), "--object": read_of(objects), "--total": read_of(total), "--onto": read_of(onto)}
    settle({"-o": output}, {**read, **read_of_references(removal.references), **read_of_model(running)}, writing)
    check_run_folder(output, overwrite=writing.overwrite)
    source = open_source(clip, reading)
    behind = None if onto is None else open_source(onto, replace(reading, frames=None, rate=None))
    numbers, masks = open_objects(objects or [], clip, source)
    inputs = open_inputs(source, masks, open_totals(total or [], clip, source), behind, numbers=numbers)
    check_room(*room_for(inputs, output, lossless=writing.lossless))
    record = Report("run", typed)
    options = RunOptions(removal, effects, extraction, composition, writing.lossless)

    with show_progress(notes_of(*inputs.objects, *inputs.totals)) as progress:
        # 2. Every stage's plan.
        plan = plan_run(inputs, options, open_runtime(running, progress=progress, report=record))
        for note in plan.notes:
            say(note)

        # 3. The work, into a folder that takes its place when it is whole.
        with results_folder(output, overwrite=writing.overwrite) as folder:
            run_stages(plan, folder)
            record.write(folder / "report.json")
    for note in record.notes:
        if note not in plan.notes:
            say(note)
    finish(record, writing, result=output, said=describe_evidence(record, model=plan.removal.job is not None))


def room_for(inputs: "Inputs", folder: Path, *, lossless: bool) -> tuple[dict[str | Path, int], int]:
    """Bytes that a run takes at least: of its folder, and of temporary files."""
    from layerlift.room import clip_room, evidence_room, layer_room, mask_room
    from layerlift.stages.run import endings

    ending, layer_ending = endings(inputs.clip, lossless=lossless)
    size = clip_room(f"a{ending}", inputs.clip, lossless=lossless) + mask_room(inputs.clip)
    size += len(inputs.objects) * layer_room(f"a{layer_ending}", inputs.clip)
    if inputs.onto is not None:
        size += clip_room(f"a{ending}", inputs.onto, lossless=lossless)
    return {folder: size}, evidence_room(inputs.clip, masks=0 if inputs.totals else len(inputs.objects))
