"""`layerlift compose`: layers over a new background, or a clip's objects by arithmetic on latents."""

from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.compose_latent import LatentFlags, compose_by_latents
from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.job import finish, open_source, settle_outputs, write_result
from layerlift.cli.options import ClipFlags, Output, OutputFlags
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
            help="A clip with alpha, as `layerlift extract` writes it. Give several with the frontmost first. With "
            "--latent: the clip that the object is in.",
            show_default=False,
        ),
    ],
    onto: Annotated[
        Path,
        typer.Option("--onto", metavar="CLIP2", help="The new background: a video or a picture.", show_default=False),
    ],
    output: Output = None,
    options: CompositionOptions,
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
            help="Instead of laying a layer over, add to the new background's latents what CLIP's and PLATE's differ "
            "by, put the object's pixels in, and refine by denoising.",
            rich_help_panel=LATENT,
        ),
    ] = False,
    given: LatentFlags,
    refinement: LatentCompositionOptions,
    running: RuntimeOptions,
    reading: Annotated[ClipFlags, Without("frames", "rate")],
    writing: OutputFlags,
    typed: Typed,
) -> None:
    """Lay LAYER over another clip."""
    if latent:
        placed = [*changed(options), *(["--premultiplied"] if premultiplied else [])]
        if placed:
            raise InputError(f"{placed[0]} places a layer, but --latent leaves the object where it is: leave it out.")
        compose_by_latents(layers, onto, output, given, refinement, reading, running, writing, typed)
        return
    refining = changed(given, refinement, running)
    if refining:
        raise InputError(f"{refining[0]} belongs to --latent: add that, or leave it out to lay a layer over.")

    from dataclasses import replace

    from layerlift.clip.rgba_reader import open_layer
    from layerlift.runtime import Runtime
    from layerlift.stages.composition import check_composition, plan_composition, run_composition

    check_composition(options)

    # 1. What the paths hold.
    how = {"allow_damage": reading.allow_damage, "deinterlace": reading.deinterlace}
    opened = [open_layer(path, premultiplied=premultiplied, **how) for path in layers]
    plan = plan_composition(opened, open_source(onto, reading), options)
    read: dict[str, Given] = {"LAYER": read_of_layers(layers), "--onto": read_of(onto)}
    target = settle_outputs(plan.like, "compose", output, writing, read=read)
    record = Report("compose", typed)

    # 2. The work, frame by frame into the file.
    with show_progress() as progress:
        frames = run_composition(replace(plan, runtime=Runtime(progress=progress, report=record)))
        write_result(target, frames, plan.like, record, writing)
    finish(record, writing, result=target)
