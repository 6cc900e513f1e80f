"""`layerlift extract`: clip, clean plate and masks → RGBA layers."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.job import finish, open_input
from layerlift.cli.masks import notes_of, open_objects, open_totals
from layerlift.cli.places import read_of, read_of_clip
from layerlift.cli.terminal import say, show_progress
from layerlift.places import Given, settle_places
from layerlift.report import Report, check_report

if TYPE_CHECKING:
    from layerlift.clip import Clip
    from layerlift.clip.rgba_encode import LayerFormat

_MASK = "Masks"
_OUTPUT = "Output"


def extract(
    clip: common.ClipArgument,
    background: Annotated[
        Path,
        typer.Option(
            "--background",
            metavar="PLATE",
            help="The clean plate of CLIP, of its size and length, or one picture for all frames.",
            show_default=False,
        ),
    ],
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK[:ID]",
            help="An object, white: a video, a folder of images, or one still; again for every further object, the "
            "frontmost first. A mask of IDs or flat colours holds several: all of them, or the one named (m.png:2, "
            "m.png:#FF0000). Else the masks in CLIP's folder, of which object_mask_0 is the hindmost.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    total: Annotated[
        list[Path] | None,
        typer.Option(
            "--total",
            metavar="MASK",
            help="Objects with their shadows and reflections: one for all, or again for every object, which says whose "
            "effect is what; else the total_mask in CLIP's folder, else effects are wherever CLIP and PLATE differ.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="LAYER.(mov|mkv|webm)|FOLDER",
            help="ProRes 4444 (.mov), FFV1 (.mkv), VP9 (.webm) or a folder of images; else ./<clip>_layer.mov. Several "
            "objects get _0, _1 … added.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="png|exr",
            help="Images in a folder: PNG, or OpenEXR (half float, premultiplied, linear light).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(metavar="8|16", help="Of a value in .mkv and PNG; else 16.", rich_help_panel=_OUTPUT),
    ] = None,
    premultiplied: Annotated[
        bool,
        typer.Option(
            "--premultiplied",
            help="Store colours times alpha in .mov and .mkv. OpenEXR always does, PNG and .webm never.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    edge: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Look for an object's edge this far inside and outside its mask; else what suits the clip.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=255,
            metavar="LEVELS",
            help="How far CLIP and PLATE may differ where nothing is; else measured.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    frames: common.Frames = None,
    deinterlace: common.Deinterlace = False,
    allow_damage: common.AllowDamage = False,
    rate: common.Rate = None,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Take the objects with their shadows and reflections out of CLIP, as layers with alpha."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    span = common.parse_frames(frames) if frames is not None else None

    from layerlift.clip.rgba_writer import choose_layer_format
    from layerlift.stages.layers import ExtractionOptions, extract_frames

    # 2. What the paths hold.
    source = open_input(clip, span, allow_damage=allow_damage, deinterlace=deinterlace, rate=rate)
    numbers, masks = open_objects(objects or [], clip, source)
    totals = open_totals(total or [], clip, source)
    target = str(output) if output is not None else default_layer(source.name, images, lossless=lossless)
    form = choose_layer_format(target, images, bits=bits, premultiplied=premultiplied, lossless=lossless)
    targets = [target if len(masks) == 1 else numbered(target, number) for number in numbers]
    read = {**read_of_clip(clip), "--background": read_of(background)}
    read |= {"--object": read_of(objects), "--total": read_of(total)}
    check_targets(targets, source, report, read, overwrite=overwrite)
    record = Report("extract", settings)

    # 3. The work, frame by frame into the files.
    with show_progress(notes_of(*masks, *(totals or []))) as progress:
        layers = extract_frames(
            source,
            background,
            masks,
            totals,
            ExtractionOptions(edge=edge, noise=noise, linear=form.linear),
            progress=progress,
            report=record,
        )
        write_layers(targets, layers, source, form, record, overwrite=overwrite)
    for path in targets[:-1]:
        typer.echo(f"wrote {path}")
    finish(record, report, overwrite=overwrite, verbose=verbose, result=Path(targets[-1]))


def default_layer(clip_name: str, images: str | None, *, lossless: bool) -> str:
    """Where a layer goes when the user does not say: the current folder, under the clip's name."""
    ending = "/" if images is not None else ".mkv" if lossless else ".mov"
    return f"{clip_name}_layer{ending}"


def numbered(target: str, number: int) -> str:
    """``layer.mov`` → ``layer_1.mov``, ``folder/`` → ``folder_1/``."""
    path = Path(target)
    slash = "/" if target.endswith("/") else ""
    return f"{path.with_name(f'{path.stem}_{number}{path.suffix}')}{slash}"


def check_targets(
    targets: list[str], clip: "Clip", report: Path | None, read: Mapping[str, Given], *, overwrite: bool
) -> None:
    """Every output's place, the sound beside folders included, checked before any work is done."""
    from layerlift.clip.rgba_writer import check_layer_output, has_sound, sound_file
    from layerlift.clip.writer import is_folder_output

    sounds = [sound_file(target) for target in targets if is_folder_output(target) and has_sound(clip)]
    settle_places({"-o": [*targets, *sounds], "--report": report}, read)
    if report is not None:
        check_report(report, overwrite=overwrite)
    for target in targets:
        check_layer_output(target, clip, overwrite=overwrite)


def write_layers(  # type: ignore[no-untyped-def]
    targets: list[str], layers, clip: "Clip", form: "LayerFormat", record: Report, *, overwrite: bool
) -> None:
    """Write frames, a list of one (H, W, 4) float32 per target each, as they come."""
    from layerlift.clip.rgba_writer import LayerWriter

    with ExitStack() as stack:
        writers = [stack.enter_context(LayerWriter(target, clip, form, overwrite=overwrite)) for target in targets]
        for note in dict.fromkeys(note for writer in writers for note in writer.notes):
            record.note(note)
            say(note)
        for frame in layers:
            for writer, layer in zip(writers, frame, strict=True):
                writer.write(layer)
