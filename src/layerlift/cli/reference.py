"""`layerlift reference`: the frames that are worth cleaning by hand, with what has to be painted marked."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.flags import Typed, Without, with_flags
from layerlift.cli.folder import check_folder, results_folder
from layerlift.cli.job import finish, open_source, settle
from layerlift.cli.masks import notes_of, open_input_mask
from layerlift.cli.options import ClipArgument, ClipFlags, OutputFlags
from layerlift.cli.places import read_of, read_of_clip
from layerlift.cli.terminal import show_progress
from layerlift.options import ReferenceOptions
from layerlift.report import Report

# What this command writes: with --overwrite a folder is replaced when it holds nothing else.
_OURS = re.compile(r"\d{3,}(_mask)?\.png")


@with_flags
def reference(
    *,
    clip: ClipArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder for NNN.png and NNN_mask.png, where NNN is the frame's number.",
            show_default=False,
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="MASK",
            help="Mask of what will be removed, in white: a video, a folder of images, or one still for all frames "
            "(default: the masks in CLIP's folder).",
        ),
    ] = None,
    options: ReferenceOptions,
    reading: ClipFlags,
    writing: Annotated[OutputFlags, Without("lossless")],
    typed: Typed,
) -> None:
    """Write the frames of CLIP that are most worth cleaning by hand. Magenta marks what no frame shows.

    Paint over the magenta in each NNN.png with any image editor or image model. NNN_mask.png is white in the same
    places. Then run `layerlift remove CLIP --mask MASK --reference DIR`.
    """
    import numpy as np

    from layerlift.contact_sheet import write_png
    from layerlift.evidence.reference import MASK_ENDING
    from layerlift.room import check_room, evidence_room
    from layerlift.runtime import Runtime
    from layerlift.stages.reference import suggest_references

    # 1. What the paths hold.
    settle({"-o": output}, {**read_of_clip(clip), "--mask": read_of(mask)}, writing)
    check_folder(output, _OURS, overwrite=writing.overwrite)
    source = open_source(clip, reading)
    masked = open_input_mask(mask, clip, source)
    check_room({}, evidence_room(source))
    record = Report("reference", typed)

    # 2. The work, into a folder that takes its place when it is whole.
    lines = []
    with show_progress(notes_of(masked)) as progress:
        found = suggest_references(source, masked, options, Runtime(progress=progress, report=record))
        first = next(found, None)
        if first is not None:
            with results_folder(output, _OURS, overwrite=writing.overwrite) as folder:
                for one in (first, *found):
                    name = f"{one.frame:03d}"
                    write_png(folder / f"{name}.png", one.picture)
                    white = one.marked[..., None].repeat(3, 2) * np.uint8(255)
                    write_png(folder / f"{name}{MASK_ENDING}.png", white)
                    lines.append(f"{name}.png: frame {one.frame} would cover {one.covers:.0%} of what no frame shows")
    if not lines:
        typer.echo("Other frames show everything the mask hides: no reference frame is needed, and none was written.")
        return
    for line in lines:
        typer.echo(line)
    said = f"paint over the magenta, then add --reference {shlex.quote(str(output))} to `layerlift remove`"
    finish(record, writing, result=output, said=said)
