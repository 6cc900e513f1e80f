"""`layerlift segment`: clicks or boxes on a few frames → a mask of every object in every frame."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.clicks import ClickFlags, keyframe_of, make_targets, named_clicks
from layerlift.cli.extract import numbered
from layerlift.cli.flags import Only, Typed, Without, with_flags
from layerlift.cli.job import finish, open_source, settle
from layerlift.cli.mask_outputs import ROWS, is_exact, mask_writer
from layerlift.cli.options import ClipArgument, ClipFlags, JobFlags, OutputFlags
from layerlift.cli.places import read_of, read_of_clip
from layerlift.cli.resume import open_job, work_on
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.options import MASK, OUTPUT, RuntimeOptions, SegmentationOptions
from layerlift.places import check_file
from layerlift.report import Report

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip, ClipWriter


@with_flags
def segment(
    *,
    clip: ClipArgument,
    clicks: ClickFlags,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object",
            metavar="NAME='…'",
            help="Clicks on one of several objects: X,Y is a pixel of it, not:X,Y one that is not, X0,Y0,X1,Y1 a box "
            "around it, each with @FRAME if not in the first (--object 'dog=120,80 not:90,40@3'). Repeat per object.",
            rich_help_panel=MASK,
        ),
    ] = None,
    keyframes: Annotated[
        list[str] | None,
        typer.Option(
            "--keyframe",
            metavar="[NAME=]MASK@FRAME",
            help="A mask of the object in one frame, in white: frames near it follow. Repeat for more.",
            rich_help_panel=MASK,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Mask of the objects, in white: a video (.mkv is lossless) or a folder/ of PNGs (default: "
            "./<clip>_object.mkv). With several objects it holds all of them, and each also gets a mask of its own, "
            "whose name ends in _0, _1 ….",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Write one label image per frame instead: grey 1 is the first object, 2 the second. Needs .mkv or a "
            "folder.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|.mp4",
            help="Draw the objects over the frames: a few frames in a .png, or all of them in an .mp4.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    options: SegmentationOptions,
    reading: ClipFlags,
    running: Annotated[RuntimeOptions, Only("device")],
    writing: Annotated[OutputFlags, Without("lossless")],
    going: JobFlags,
    typed: Typed,
) -> None:
    """Find objects in every frame of CLIP from clicks or boxes on one frame or a few, and write their masks.

    The masks cover the objects alone; `layerlift mask` adds their shadows and reflections.
    """
    said = named_clicks(clicks, objects or [])
    names = [one.name for one in said]
    known = [keyframe_of(text, names) for text in keyframes or []]
    if not said and not known:
        raise InputError("no object was named: give a --point inside it, or a --box around it.")
    if preview is not None and preview.suffix.lower() not in (".png", ".mp4"):
        raise InputError(f"--preview {preview} is neither .png nor .mp4: use one of these extensions.")

    from layerlift.clip import check_output
    from layerlift.clip.writer import is_folder_output
    from layerlift.jobs.job import job_folder
    from layerlift.room import check_room, mask_room, segment_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.segment import plan_segmentation, run_segmentation

    # 1. What the paths hold, before any weight is read.
    source = open_source(clip, reading)
    target = output or Path(f"{source.name}_object.mkv")
    if labels and not (is_exact(target) or is_folder_output(output or target)):
        raise InputError(f"--labels needs a lossless file, but {target} is none: give an .mkv, or a folder of PNGs.")
    count = len(dict.fromkeys([*names, *(name for name, *_ in known)]))
    targets = [target]
    if count > 1 and not labels:
        targets += [Path(numbered(str(target), number)) for number in range(count)]
    read = {**read_of_clip(clip), "--keyframe": read_of([path for _, path, _ in known])}
    settle({"-o": targets, "--preview": preview}, read, writing)
    for path in targets:
        check_output(path, is_exact(path), writing.overwrite, source, version=False)
    if preview is not None:
        check_file(preview, "--preview", overwrite=writing.overwrite)
        if preview.suffix.lower() == ".mp4":
            check_output(preview, overwrite=writing.overwrite, like=source, version=False)
    kept = segment_room(source, seen=options.segmenter == "mobile-sam")
    check_room({**dict.fromkeys(targets, mask_room(source)), job_folder(target): kept})
    record = Report("segment", typed)

    # 2. The plan, and the work, frame by frame into the files.
    with show_progress() as progress, ExitStack() as files:
        job = open_job(target, going)
        runtime = open_runtime(running, progress=progress, report=record, keeper=job.keeper).part("objects")
        plan = plan_segmentation(source, make_targets(said, known, source), options, runtime)
        files.enter_context(work_on(job, "segment", target, typed, read, runtime=runtime, segmenter=plan.segmenter))
        found = run_segmentation(plan)
        if preview is not None:
            found = with_preview(found, source, preview, overwrite=writing.overwrite)
        writers = [files.enter_context(mask_writer(path, source, overwrite=writing.overwrite)) for path in targets]
        share = write_labels(found, writers, labels=labels)
    counts = record.results["frames with the object"].items()
    shown = ", ".join(f"{name} in {number} of {source.frame_count} frames" for name, number in counts)
    finish(record, writing, result=target, said=f"{shown}, {share:.1%} of the picture")


def write_labels(found: "Iterable[np.ndarray]", writers: "list[ClipWriter]", *, labels: bool) -> float:
    """All objects into the first writer, as labels or as one mask, and each into one of the others.

    Returns the share of the picture that they cover, on average.
    """
    covered, count = 0.0, 0
    for frame in found:
        writers[0].write(frame if labels else frame > 0)
        for number, writer in enumerate(writers[1:], 1):
            writer.write(frame == number)
        covered += float((frame > 0).mean())
        count += 1
    return covered / count


def with_preview(found: "Iterable[np.ndarray]", clip: "Clip", path: Path, *, overwrite: bool) -> "Iterator[np.ndarray]":
    """Hand labels on, and draw them over the clip's frames."""
    import numpy as np

    from layerlift.clip import ClipWriter
    from layerlift.contact_sheet import contact_sheet, evenly, write_png
    from layerlift.stages.effects.preview import thumbnail
    from layerlift.stages.segment.preview import labelled

    pairs = zip(clip.frames(), found, strict=True)
    if path.suffix.lower() == ".mp4":
        with ClipWriter(path, clip, lossless=False, overwrite=overwrite, sound=False) as writer:
            for frame, labels in pairs:
                writer.write(labelled(frame, labels))
                yield labels
        return
    chosen, rows = evenly(clip.frame_count, ROWS), []
    for index, (frame, labels) in enumerate(pairs):
        if index in chosen:
            rows.append((thumbnail(frame), thumbnail(labelled(frame, labels))))
        yield labels
    columns = dict(zip(("input", "objects"), map(np.stack, zip(*rows, strict=True)), strict=True))
    write_png(path, contact_sheet(columns, range(len(rows))), overwrite=overwrite)
