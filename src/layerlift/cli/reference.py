"""`layerlift reference`: the frames that are worth cleaning by hand, with what has to be painted marked."""

import re
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.folder import check_folder, whole_folder
from layerlift.cli.job import finish, open_input
from layerlift.cli.masks import notes_of, open_input_mask
from layerlift.cli.places import read_of, read_of_clip
from layerlift.cli.terminal import show_progress
from layerlift.places import settle_places
from layerlift.report import Report, check_report

# What this command writes: with --overwrite a folder is replaced when it holds nothing else.
_OURS = re.compile(r"\d{3,}(_mask)?\.png")


def reference(
    clip: common.ClipArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder to write NNN.png and NNN_mask.png into, NNN being the frame's number.",
            show_default=False,
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="MASK",
            help="What will be removed: white in a video, a folder of images, or one still for all frames "
            "(default: the masks in CLIP's folder).",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="Maximum number of frames.")] = 8,
    dilate: Annotated[
        int | None,
        typer.Option(
            "--dilate", min=0, metavar="PX", help="Pixels to grow the mask by, as for `remove` (default: automatic)."
        ),
    ] = None,
    frames: common.Frames = None,
    deinterlace: common.Deinterlace = False,
    allow_damage: common.AllowDamage = False,
    rate: common.Rate = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Write the frames of CLIP that are worth cleaning by hand, with what no frame shows in flat magenta.

    Paint over the magenta in each NNN.png with any image editor or image model (NNN_mask.png is white where it is).
    Then give the folder back: `layerlift remove CLIP --mask MASK --reference DIR`.
    """
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    span = common.parse_frames(frames) if frames is not None else None

    import numpy as np

    from layerlift.contact_sheet import write_png
    from layerlift.evidence.reference import MASK_ENDING
    from layerlift.stages.reference import suggest_references

    # 2. What the paths hold.
    settle_places({"-o": output, "--report": report}, {**read_of_clip(clip), "--mask": read_of(mask)})
    check_folder(output, _OURS, overwrite=overwrite)
    if report is not None:
        check_report(report, overwrite=overwrite)
    source = open_input(clip, span, allow_damage=allow_damage, deinterlace=deinterlace, rate=rate)
    masked = open_input_mask(mask, clip, source)
    record = Report("reference", settings)

    # 3. The work, into a folder that takes its place when it is whole.
    lines = []
    with show_progress(notes_of(masked)) as progress:
        found = suggest_references(source, masked, count=count, dilate=dilate, progress=progress, report=record)
        first = next(found, None)
        if first is not None:
            with whole_folder(output, _OURS, overwrite=overwrite) as folder:
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
    said = f"paint over the magenta, then add --reference {output} to layerlift remove"
    finish(record, report, overwrite=overwrite, verbose=verbose, result=output, said=said)
