"""`layerlift extract`: clip, clean plate and masks → RGBA layers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from layerlift.cli.flags import Typed, with_flags
from layerlift.cli.job import finish, open_source, settle, told_by
from layerlift.cli.masks import notes_of, open_objects, open_totals
from layerlift.cli.options import ClipArgument, ClipFlags, JobFlags, Objects, OutputFlags
from layerlift.cli.places import read_of, read_of_clip
from layerlift.cli.resume import open_job, work_on
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.options import MASK, OUTPUT, ExtractionOptions
from layerlift.places import Given
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.clip import Clip


@with_flags
def extract(
    *,
    clip: ClipArgument,
    background: Annotated[
        Path,
        typer.Option(
            "--background",
            metavar="PLATE",
            help="Clean plate of CLIP, of the same size and length, or one picture for all frames.",
            show_default=False,
        ),
    ],
    objects: Objects = None,
    total: Annotated[
        list[Path] | None,
        typer.Option(
            "--total",
            metavar="MASK",
            help="Mask of the objects and their effects (shadows and reflections): one for all objects, or one per "
            "object to assign each effect to its object (default: total_mask in CLIP's folder). If there is "
            "neither, effects are wherever CLIP and PLATE differ.",
            rich_help_panel=MASK,
        ),
    ] = None,
    options: ExtractionOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="LAYER.(mov|mkv|webm)|FOLDER",
            help="ProRes 4444 (.mov), FFV1 (.mkv), VP9 (.webm) or a folder of images (default: ./<clip>_layer.mov). "
            "With several objects, the names end in _0, _1 ….",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    images: Annotated[
        Literal["png", "exr"] | None,
        typer.Option(
            "--format",
            help="Format of a folder: PNG, or OpenEXR as premultiplied half floats in linear light (default: png).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    bits: Annotated[
        Literal[8, 16] | None,
        typer.Option(help="Bits per channel for .mkv and PNG (default: 16).", rich_help_panel=OUTPUT),
    ] = None,
    premultiplied: Annotated[
        bool,
        typer.Option(
            "--premultiplied",
            help="Write premultiplied colours in .mov and .mkv. OpenEXR is always premultiplied; PNG and .webm never "
            "are.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    reading: ClipFlags,
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Extract the objects in CLIP, with their shadows and reflections, as layers with alpha."""
    from layerlift.clip.rgba_writer import choose_layer_format
    from layerlift.room import check_room, layer_room
    from layerlift.runtime import Runtime
    from layerlift.stages.layers import plan_extraction, run_extraction
    from layerlift.stages.writing import write_layers

    # 1. What the paths hold.
    source = open_source(clip, reading)
    numbers, masks = open_objects(objects or [], clip, source)
    totals = open_totals(total or [], clip, source)
    target = str(output) if output is not None else default_layer(source.name, images, lossless=writing.lossless)
    form = choose_layer_format(target, images, bits=bits, premultiplied=premultiplied, lossless=writing.lossless)
    targets = [target if len(masks) == 1 else numbered(target, number) for number in numbers]
    read = {**read_of_clip(clip), "--background": read_of(background)}
    read |= {"--object": read_of(objects), "--total": read_of(total)}
    check_targets(targets, source, read, writing)
    check_room({path: layer_room(path, source) for path in targets})
    record = Report("extract", typed)

    # 2. The work, frame by frame into the files.
    with show_progress(notes_of(*masks, *(totals or []))) as progress:
        job = open_job(Path(targets[0]), going)
        runtime = Runtime(progress=progress, report=record, keeper=job.keeper).part("layers")
        plan = plan_extraction(source, background, masks, totals, replace(options, linear=form.linear), runtime)
        with work_on(job, "extract", Path(targets[0]), typed, read, runtime=runtime):
            layers = run_extraction(plan)
            write_layers(targets, layers, source, form, told_by(record), overwrite=writing.overwrite)
    for path in targets[:-1]:
        typer.echo(f"wrote {path}")
    finish(record, writing, result=Path(targets[-1]))


def default_layer(clip_name: str, images: str | None, *, lossless: bool) -> str:
    """Where a layer goes when the user does not say: the current folder, under the clip's name."""
    ending = "/" if images is not None else ".mkv" if lossless else ".mov"
    return f"{clip_name}_layer{ending}"


def numbered(target: str, number: int) -> str:
    """``layer.mov`` → ``layer_1.mov``, ``folder/`` → ``folder_1/``. Raises InputError for the current folder."""
    path = Path(target)
    if not path.name:
        raise InputError(f"-o {target} has no name that could be numbered, but several files are written: give a name.")
    slash = "/" if target.endswith("/") else ""
    return f"{path.with_name(f'{path.stem}_{number}{path.suffix}')}{slash}"


def check_targets(targets: list[str], clip: "Clip", read: Mapping[str, Given], writing: OutputFlags) -> None:
    """Every output's place, the sound beside folders included, checked before any work is done."""
    from layerlift.clip.rgba_writer import check_layer_output, has_sound, sound_file
    from layerlift.clip.writer import is_folder_output

    sounds = [sound_file(target) for target in targets if is_folder_output(target) and has_sound(clip)]
    settle({"-o": [*targets, *sounds]}, read, writing)
    for target in targets:
        check_layer_output(target, clip, overwrite=writing.overwrite)
