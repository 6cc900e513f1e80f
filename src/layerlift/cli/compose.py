"""`layerlift compose`: layers over a new background, or a clip's objects by arithmetic on latents."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.compose_latent import LatentFlags, compose_by_latents
from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.job import finish, open_source, settle_outputs, write_result
from layerlift.cli.options import ClipFlags, JobFlags, Output, OutputFlags, SharingFlags
from layerlift.cli.places import read_of, read_of_layers
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.options import LATENT, CompositionOptions, LatentCompositionOptions, RuntimeOptions
from layerlift.places import Given
from layerlift.report import Report


@with_flags
def compose(
    *,
    layers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LAYER...",
            help="Clip with alpha, as `layerlift extract` writes it. List several with the frontmost first. With "
            "--latent: the clip that contains the object.",
            show_default=False,
        ),
    ],
    onto: Annotated[
        Path,
        typer.Option("--onto", metavar="CLIP2", help="New background: a video or a picture.", show_default=False),
    ],
    output: Output = None,
    options: CompositionOptions,
    premultiplied: Annotated[
        bool,
        typer.Option(
            "--premultiplied",
            help="Read LAYER's colours as premultiplied. Not needed for OpenEXR or for files written by layerlift.",
        ),
    ] = False,
    latent: Annotated[
        bool,
        typer.Option(
            "--latent",
            help="Compose in latent space instead: add the difference between CLIP and PLATE to the new background, "
            "insert the object's pixels, and refine by denoising.",
            rich_help_panel=LATENT,
        ),
    ] = False,
    given: LatentFlags,
    refinement: LatentCompositionOptions,
    running: RuntimeOptions,
    sharing: SharingFlags,
    reading: Annotated[ClipFlags, Without("frames", "rate")],
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Composite LAYER over another clip."""
    if latent:
        placed = [*changed(options), *(["--premultiplied"] if premultiplied else [])]
        if placed:
            raise InputError(
                f"{placed[0]} is for placing a layer, but --latent leaves the object where it is: leave one of them "
                "out."
            )
        compose_by_latents(layers, onto, output, given, refinement, reading, running, sharing, writing, going, typed)
        return
    # Layers are laid over a clip nearly as fast as frames that were kept would be read again.
    refining = changed(given, refinement, running, sharing, going)
    if refining:
        raise InputError(f"{refining[0]} works only with --latent: add --latent, or leave it out to compose layers.")

    from layerlift.clip.rgba_reader import open_layer
    from layerlift.room import check_room, clip_room
    from layerlift.runtime import Runtime
    from layerlift.stages.composition import check_composition, plan_composition, run_composition

    check_composition(options)

    # 1. What the paths hold.
    how = {"allow_damage": reading.allow_damage, "deinterlace": reading.deinterlace}
    opened = [open_layer(path, premultiplied=premultiplied, **how) for path in layers]
    plan = plan_composition(opened, open_source(onto, reading), options)
    read: dict[str, Given] = {"LAYER": read_of_layers(layers), "--onto": read_of(onto)}
    target = settle_outputs(plan.like, "compose", output, writing, read=read)
    check_room({target: clip_room(target, plan.like, lossless=writing.lossless)})
    record = Report("compose", typed)

    # 2. The work, frame by frame into the file.
    with show_progress() as progress:
        frames = run_composition(replace(plan, runtime=Runtime(progress=progress, report=record)))
        write_result(target, frames, plan.like, record, writing)
    finish(record, writing, result=target)
