"""`layerlift compose`: layers over a new background, or a clip's objects by arithmetic on latents."""

import re
from pathlib import Path
from typing import Annotated, cast

import typer

from layerlift.cli import options as common
from layerlift.cli.compose_latent import LatentWay, compose_by_latents
from layerlift.cli.job import finish, open_input, settle_outputs, write_result
from layerlift.cli.places import read_of, read_of_layers
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.places import Given
from layerlift.report import Report

_PLACE = "Place and time"
_LATENT = "With --latent"

# What a layer is placed by; latent arithmetic knows no place but the clip's own.
_LAYER_FLAGS = {"offset": None, "scale": None, "start": 0, "length": "hold", "sound": None, "premultiplied": False}


def compose(
    layers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LAYER...",
            help="A clip with alpha, as 'layerlift extract' writes it; of several, the frontmost first. With --latent: "
            "the clip that the object is in.",
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
    latent: Annotated[
        bool,
        typer.Option(
            "--latent",
            help="Instead of laying a layer over: add to the new background's latents what CLIP's and PLATE's differ "
            "by, put the object's pixels in, and refine by denoising.",
            rich_help_panel=_LATENT,
        ),
    ] = False,
    background: Annotated[
        Path | None,
        typer.Option("--background", metavar="PLATE", help="The clean plate of CLIP.", rich_help_panel=_LATENT),
    ] = None,
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK",
            help="The object, white; again for every further one. Else the masks in CLIP's folder.",
            rich_help_panel=_LATENT,
        ),
    ] = None,
    total: Annotated[
        Path | None,
        typer.Option(
            "--total",
            metavar="MASK",
            help="Objects with their shadows and reflections; else the total_mask in CLIP's folder.",
            rich_help_panel=_LATENT,
        ),
    ] = None,
    refine_strength: Annotated[
        float,
        typer.Option(metavar="SIGMA", help="Noise level that refinement begins at, up to 1.", rich_help_panel=_LATENT),
    ] = 0.3,
    refine_steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Denoising steps of the refinement.", rich_help_panel=_LATENT)
    ] = 10,
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Leave the refinement out.", rich_help_panel=_LATENT)
    ] = False,
    keep_intermediate: Annotated[
        bool,
        typer.Option(
            "--keep-intermediate",
            help="Write OUT_latent and OUT_injected beside OUT: what was decoded first, and with the object's pixels.",
            rich_help_panel=_LATENT,
        ),
    ] = False,
    model: common.ModelName = None,
    text_encoder: common.TextEncoder = None,
    no_cache: common.NoCache = False,
    seed: common.Seed = 0,
    size: common.Size = None,
    memory: common.Memory = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    allow_damage: common.AllowDamage = False,
    deinterlace: common.Deinterlace = False,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Lay LAYER over another clip."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    way = LatentWay(**{name: settings[name] for name in LatentWay.__slots__})
    if latent:
        placed = [name for name, default in _LAYER_FLAGS.items() if settings[name] != default]
        if placed:
            raise InputError(f"--{placed[0]} places a layer, but --latent leaves the object where it is: leave it out.")
        compose_by_latents(
            layers,
            onto,
            way,
            settings,
            output=output,
            report=report,
            lossless=lossless,
            overwrite=overwrite,
            verbose=verbose,
            allow_damage=allow_damage,
            deinterlace=deinterlace,
        )
        return
    if way.given():
        raise InputError(f"{way.given()[0]} belongs to --latent: add that, or leave it out to lay a layer over.")
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
    opened = [
        open_layer(path, premultiplied=premultiplied, allow_damage=allow_damage, deinterlace=deinterlace)
        for path in layers
    ]
    behind = open_input(onto, None, allow_damage=allow_damage, deinterlace=deinterlace)
    plan = plan_composition(opened, behind, options)
    read: dict[str, Given] = {"LAYER": read_of_layers(layers), "--onto": read_of(onto)}
    target = settle_outputs(plan.like, "compose", output, report, read=read, lossless=lossless, overwrite=overwrite)
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
