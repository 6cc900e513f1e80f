"""`layerlift mask`: object masks → masks of the objects with what they cause."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.extract import numbered
from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.job import finish, open_source, settle
from layerlift.cli.mask_outputs import Beside, is_exact, mask_writer
from layerlift.cli.masks import notes_of, open_objects
from layerlift.cli.options import ClipArgument, ClipFlags, JobFlags, OutputFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.resume import open_job, work_on
from layerlift.cli.seen import check_seen, seen_in
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.options import MASK, OUTPUT, EffectOptions, RemovalOptions, RuntimeOptions
from layerlift.parse import parse_brush
from layerlift.places import flat
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.clip import ClipWriter
    from layerlift.stages.effects import FrameEffects


@with_flags
def mask(
    *,
    clip: ClipArgument,
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK[:ID]",
            help="Mask of one object, in white: a video, a folder of images, or one still for all frames. Repeat per "
            "object. A mask with IDs or flat colours holds several objects; add an ID to use only one (m.png:2, "
            "m.png:#FF0000). (default: the object masks in CLIP's folder)",
            rich_help_panel=MASK,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Mask of all objects and their effects, in white: a video (.mkv is lossless) or a folder/ of PNGs "
            "(default: ./<clip>_mask.mkv). With several objects, each also gets a mask of its own, whose name "
            "ends in _0, _1 ….",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    options: EffectOptions,
    plate: Annotated[RemovalOptions, Without("dilate", "feather", "prompt", "negative_prompt", "references")],
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|.mp4",
            help="Draw objects, effects and scores over the frames: a few frames in a .png, or all of them in an .mp4.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--effects",
            metavar="MASK[@FRAME]",
            help="Paint an effect, in white: a mask for every frame, or a still for frame FRAME, which the frames near "
            "it follow. Repeat for more.",
            rich_help_panel=MASK,
        ),
    ] = None,
    less: Annotated[
        list[str] | None,
        typer.Option(
            "--not-effects",
            metavar="MASK[@FRAME]",
            help="Paint what is no effect, in white, in the same way.",
            rich_help_panel=MASK,
        ),
    ] = None,
    soft: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write how opaque objects and effects are, in grey: a video (.mkv is lossless) or a folder/ of PNGs.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw what each witness says in a few frames: what other frames show, what differs from that, the "
            "model's scores, and the decision.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    seen: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep what is seen in CLIP in this folder: another --threshold, other --kinds or brushes then take "
            "seconds.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    save_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors",
            help="Save the model's scores as an array (object, frame, row, column).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    reading: ClipFlags,
    running: RuntimeOptions,
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Find what the objects in CLIP cause (shadows, reflections, light, smoke), and write masks of both together.

    With --refine plate, the flags of a removal, such as --steps and --evidence, control how the clean plate is made.
    """
    removing = changed(plate, apart_from=EffectOptions)
    if removing and options.refine != "plate":
        raise InputError(f"{removing[0]} works only with --refine plate: add that, or leave it out.")
    beside = Beside(preview, save_scores, soft, explain)
    beside.check_endings()
    brushes, erasers = ([parse_brush(text) for text in texts or []] for texts in (more, less))

    from layerlift.clip import check_output
    from layerlift.jobs.job import job_folder
    from layerlift.jobs.keeper import kept
    from layerlift.room import check_room, evidence_room, mask_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.effects import FrameEffects, plan_effects, run_effects

    # 1. What the paths hold, before any weight is read.
    source = open_source(clip, reading)
    numbers, masks = open_objects(objects or [], clip, source)
    target = output or Path(f"{source.name}_mask.mkv")
    targets = [target]
    if len(masks) > 1:
        targets += [Path(numbered(str(target), number)) for number in numbers]
    read = {**read_of_clip(clip, total=False), "--object": read_of(objects), **read_of_model(running)}
    read |= {"--effects": read_of([path for path, _ in brushes]), "--not-effects": read_of([p for p, _ in erasers])}
    settle({"-o": targets, "--seen": seen, **beside.files()}, read, writing)
    check_seen(seen)
    for path in targets:
        check_output(path, writing.lossless or is_exact(path), writing.overwrite, source, version=False)
    beside.check(source, writing)
    waiting = 0 if options.witnesses == "model" else evidence_room(source)
    check_room({**dict.fromkeys(targets, mask_room(source)), job_folder(target): waiting})
    record = Report("mask", typed)

    # 2. The plan, and the work, frame by frame into the files.
    with show_progress(notes_of(*masks)) as progress, ExitStack() as files:
        job = open_job(target, going)
        runtime = open_runtime(running, progress=progress, report=record, keeper=job.keeper).part("effects")
        plan = plan_effects(source, masks, options, runtime, plate, effects=brushes, not_effects=erasers)
        if seen is not None:
            given = [path for _, path in flat({"CLIP": read["CLIP"], "--object": read["--object"]})]
            plan = replace(plan, seen=seen_in(seen, given, [objects, reading]))
        beside.check_plan(plan)
        for note in plan.notes:
            say(note)
        models = [None if plan.attention is None else plan.attention.model]
        if plan.removal is not None and plan.removal.job is not None:
            models.append(plan.removal.job.model)
        files.enter_context(work_on(job, "mask", target, typed, read, runtime=runtime, models=models))
        frames = kept(runtime.keeper, "frames", partial(run_effects, plan), FrameEffects.pack, FrameEffects.unpack)
        found = beside.tapped(frames, plan, files, record, overwrite=writing.overwrite)
        writers = [files.enter_context(mask_writer(path, source, overwrite=writing.overwrite)) for path in targets]
        said = write_masks(found, writers, record)
    finish(record, writing, result=target, said=said)


def write_masks(found: "Iterable[FrameEffects]", writers: "list[ClipWriter]", report: Report) -> str:
    """All objects into the first writer, each into one of the others; returns a phrase about what was found."""
    count, objects, effects = 0, 0.0, 0.0
    for frame in found:
        total = frame.totals.any(0)
        for writer, picture in zip(writers, (total, *frame.totals), strict=False):
            writer.write(picture)
        count += 1
        objects += frame.objects.any(0).mean()
        effects += (total & ~frame.objects.any(0)).mean()
    report.results |= {"object share": objects / count, "effect share": effects / count}
    kinds = [kind for kind in report.results.get("kinds", []) if kind != "none"]
    named = f" ({', '.join(dict.fromkeys(kinds))})" if kinds else ""
    return f"objects {objects / count:.1%} of the picture, effects {effects / count:.1%}{named}"
