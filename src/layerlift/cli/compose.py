"""`layerlift compose`: layers over a new background."""

import re
from pathlib import Path
from typing import Annotated, cast

import typer

from layerlift.cli import options as common
from layerlift.cli.job import finish, settle_outputs, write_result
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.report import Report

_PLACE = "Place and time"


def compose(
    layers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LAYER...",
            help="A clip with alpha, as 'layerlift extract' writes it; of several, the frontmost first.",
            show_default=False,
        ),
    ],
    onto: Annotated[
        Path,
        typer.Option("--onto", metavar="CLIP2", help="The new background: a video or a picture.", show_default=False),
    ],
    output: common.Output = None,
    offset: Annotated[
        str | None,
        typer.Option(
            "--offset",
            metavar="X,Y",
            help="Move the layer by pixels of the background, right and down; else it lies in the middle.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Pixels of the background for a pixel of the layer; else the layer's picture is fitted into it.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    start: Annotated[
        int,
        typer.Option(min=0, metavar="FRAME", help="The background's frame where it begins.", rich_help_panel=_PLACE),
    ] = 0,
    length: Annotated[
        str,
        typer.Option(
            metavar="hold|loop|cut|background",
            help="The result ends with the layer: a shorter background holds its last frame, begins again, or cuts the "
            "result; or the result is as long as the background.",
            rich_help_panel=_PLACE,
        ),
    ] = "hold",
    sound: Annotated[
        str | None,
        typer.Option(
            metavar="layer|background|none",
            help="Whose sound; else the layer's if it has any, else the background's.",
            rich_help_panel="Output",
        ),
    ] = None,
    premultiplied: Annotated[
        bool,
        typer.Option(
            "--premultiplied",
            help="LAYER's colours are stored times alpha. OpenEXR and files written by layerlift say so themselves.",
        ),
    ] = False,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Lay LAYER over another clip."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    moved = parse_offset(offset) if offset is not None else (0, 0)

    from layerlift.clip.rgba_reader import open_layer
    from layerlift.stages.composition import (
        CompositionOptions,
        Length,
        Sound,
        check_options,
        compose_frames,
        plan_composition,
    )

    options = CompositionOptions(moved, scale, start, cast(Length, length), cast(Sound | None, sound))
    check_options(options)

    # 2. What the paths hold.
    opened = [open_layer(path, premultiplied=premultiplied) for path in layers]
    plan = plan_composition(opened, onto, options)
    target = settle_outputs(plan.like, "compose", output, report, lossless=lossless, overwrite=overwrite)
    record = Report("compose", settings)

    # 3. The work, frame by frame into the file.
    with show_progress() as progress:
        frames = compose_frames(plan, progress, record)
        write_result(target, frames, plan.like, record, lossless=lossless, overwrite=overwrite)
    finish(record, report, overwrite=overwrite, verbose=verbose, result=target)


def parse_offset(text: str) -> tuple[int, int]:
    """``12,-40`` → (12, -40): pixels right and down. Raises InputError for anything else."""
    match = re.fullmatch(r"([+-]?\d{1,6})\s*,\s*([+-]?\d{1,6})", text.strip())
    if match is None:
        raise InputError(f"--offset {text!r} is not X,Y: give pixels right and down, such as 120,-40.")
    return int(match[1]), int(match[2])
