"""`layerlift mask`: object masks → masks of the objects with their shadows and reflections."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.extract import numbered
from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.job import finish, open_source, settle
from layerlift.cli.masks import notes_of, open_objects
from layerlift.cli.options import ClipArgument, ClipFlags, OutputFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.names import unfinished
from layerlift.options import MASK, OUTPUT, EffectOptions, RemovalOptions, RuntimeOptions
from layerlift.places import check_file
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.clip import Clip, ClipWriter
    from layerlift.stages.effects import FrameEffects
    from layerlift.stages.effects.look import EffectPlan

ROWS = 4  # frames in a preview picture


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
    save_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors",
            help="Save the scores as an array (object, frame, row, column).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    reading: ClipFlags,
    running: RuntimeOptions,
    writing: OutputFlags,
    typed: Typed,
) -> None:
    """Find the shadows and reflections of the objects in CLIP, and write masks of objects and effects.

    With --refine plate, the flags of a removal, such as --steps and --evidence, control how the clean plate is made.
    """
    removing = changed(plate, apart_from=EffectOptions)
    if removing and options.refine != "plate":
        raise InputError(f"{removing[0]} works only with --refine plate: add that, or leave it out.")
    check_endings(preview, save_scores)

    from layerlift.clip import check_output
    from layerlift.runtime import open_runtime
    from layerlift.stages.effects import plan_effects, run_effects

    # 1. What the paths hold, before any weight is read.
    source = open_source(clip, reading)
    numbers, masks = open_objects(objects or [], clip, source)
    target = output or Path(f"{source.name}_mask.mkv")
    targets = [target]
    if len(masks) > 1:
        targets += [Path(numbered(str(target), number)) for number in numbers]
    beside = {"--preview": preview, "--save-scores": save_scores}
    read = {**read_of_clip(clip, total=False), "--object": read_of(objects), **read_of_model(running)}
    settle({"-o": targets, **beside}, read, writing)
    for path in targets:
        check_output(path, writing.lossless or is_exact(path), writing.overwrite, source, version=False)
    if preview is not None and preview.suffix.lower() == ".mp4":
        check_output(preview, overwrite=writing.overwrite, like=clip_twice_as_wide(source))
    for flag, file in beside.items():
        if file is not None:
            check_file(file, flag, overwrite=writing.overwrite)
    record = Report("mask", typed)

    # 2. The plan, and the work, frame by frame into the files.
    with show_progress(notes_of(*masks)) as progress, ExitStack() as files:
        plan = plan_effects(source, masks, options, open_runtime(running, progress=progress, report=record), plate)
        found = run_effects(plan)
        if save_scores is not None:
            found = keep_scores(found, save_scores, record)
        if preview is not None:
            found = with_preview(found, plan, preview, overwrite=writing.overwrite)
        writers = [files.enter_context(mask_writer(path, source, overwrite=writing.overwrite)) for path in targets]
        said = write_masks(found, writers, record)
    finish(record, writing, result=target, said=said)


def check_endings(preview: Path | None, scores: Path | None) -> None:
    """Raises InputError when a file's ending is not one of what it will hold."""
    if preview is not None and preview.suffix.lower() not in (".png", ".mp4"):
        raise InputError(f"--preview {preview} is neither .png nor .mp4: use one of these extensions.")
    if scores is not None and scores.suffix != ".safetensors":
        raise InputError(f"--save-scores {scores} does not end in .safetensors: give it that extension.")


def is_exact(path: Path) -> bool:
    """Whether a mask, or a map of where pixels come from, is written bit for bit whatever else was asked for."""
    return path.suffix.lower() == ".mkv"


def mask_writer(path: Path, clip: "Clip", *, overwrite: bool) -> "ClipWriter":
    """A writer of masks and of maps of pixels: lossless in .mkv and PNGs, without sound."""
    from layerlift.clip import ClipWriter

    return ClipWriter(path, clip, lossless=is_exact(path), overwrite=overwrite, sound=False)


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
    return f"objects {objects / count:.1%} of the picture, effects {effects / count:.1%}"


def keep_scores(found: "Iterable[FrameEffects]", path: Path, report: Report) -> "Iterator[FrameEffects]":
    """Hand frames on, and write their scores when the last has passed."""
    import numpy as np
    from safetensors.numpy import save_file

    scores = []
    for frame in found:
        scores.append(frame.scores)
        yield frame
    part = unfinished(path)
    about = {"threshold": str(report.results["threshold"]), "axes": "object, frame, row, column"}
    try:
        save_file({"scores": np.ascontiguousarray(np.stack(scores, 1))}, part, about)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def with_preview(
    found: "Iterable[FrameEffects]", plan: "EffectPlan", path: Path, *, overwrite: bool
) -> "Iterator[FrameEffects]":
    """Hand frames on, and lay what they hold over the clip's."""
    import numpy as np

    from layerlift.clip import ClipWriter
    from layerlift.contact_sheet import contact_sheet, evenly, write_png
    from layerlift.pixels.effects import cell_side
    from layerlift.stages.effects.preview import preview_pair, thumbnail

    clip, side = plan.clip, cell_side(plan.fit, plan.model.geometry)
    if path.suffix.lower() == ".mp4":
        with ClipWriter(path, clip_twice_as_wide(clip), lossless=False, overwrite=overwrite) as writer:
            for frame, effects in zip(clip.frames(), found, strict=True):
                writer.write(np.concatenate(preview_pair(frame, effects, side), 1))
                yield effects
        return
    chosen = evenly(clip.frame_count, ROWS)
    rows = []
    for index, (frame, effects) in enumerate(zip(clip.frames(), found, strict=True)):
        if index in chosen:
            rows.append(tuple(thumbnail(part) for part in (frame, *preview_pair(frame, effects, side))))
        yield effects
    columns = dict(zip(("input", "objects and effects", "scores"), map(np.stack, zip(*rows, strict=True)), strict=True))
    write_png(path, contact_sheet(columns, range(len(rows))))


def clip_twice_as_wide(clip: "Clip") -> "Clip":
    """What a writer needs to know of a clip whose frames lie two side by side; a clip's alpha is not among that."""
    return replace(clip, width=2 * clip.width, has_alpha=False)
