"""`layerlift run`: everything in one go, from object masks to layers and a composite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.folder import check_run_folder, whole_folder
from layerlift.cli.job import finish, open_input
from layerlift.cli.masks import notes_of, open_objects, open_totals
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import say, show_progress
from layerlift.places import settle_places
from layerlift.report import Report, check_report

if TYPE_CHECKING:
    from layerlift.clip import Clip
    from layerlift.stages.run import Inputs

_MASK = "Masks"


def run(
    clip: common.ClipArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="The folder to write background, layer_0 …, total_mask, composite, report.json and contact_sheet.png "
            "into; it appears when everything is there.",
            rich_help_panel="Output",
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
            help="Objects with their shadows and reflections, where they are known: one for all, or again for every "
            "object; else the total_mask in CLIP's folder, else the model finds them, as `layerlift mask` does. "
            "Without a model the object masks are grown.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    onto: Annotated[
        Path | None,
        typer.Option("--onto", metavar="CLIP2", help="A new background to lay the layers over.", show_default=False),
    ] = None,
    references: common.References = None,
    model: common.FillModel = None,
    text_encoder: common.TextEncoder = None,
    no_cache: common.NoCache = False,
    steps: common.Steps = None,
    guidance: common.Guidance = None,
    seed: common.Seed = 0,
    size: common.Size = None,
    frames: common.Frames = None,
    deinterlace: common.Deinterlace = False,
    allow_damage: common.AllowDamage = False,
    rate: common.Rate = None,
    memory: common.Memory = None,
    weights: common.Weights = "auto",
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Take CLIP apart in one go: what objects cause, the clean plate, a layer for each, and these over another clip."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    pixels = common.parse_size(size) if size is not None else None
    span = common.parse_frames(frames) if frames is not None else None
    common.check_guidance(guidance)
    pictures = common.parse_references(references)

    from dataclasses import replace

    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.stages.choose_model import NO_MODEL, choose_model
    from layerlift.stages.effects import EffectOptions
    from layerlift.stages.provenance import describe_shares
    from layerlift.stages.removal import RemovalOptions
    from layerlift.stages.run import RunOptions, run_stages, stays_in_memory

    # 2. What the paths hold, before any weight is read.
    read = {**read_of_clip(clip), "--object": read_of(objects), "--total": read_of(total), "--onto": read_of(onto)}
    read |= {"--reference": pictures.values(), **read_of_model(model, text_encoder)}
    settle_places({"-o": output, "--report": report}, read)
    check_run_folder(output, overwrite=overwrite)
    if report is not None:
        check_report(report, overwrite=overwrite)
    source = open_input(clip, span, allow_damage=allow_damage, deinterlace=deinterlace, rate=rate)
    behind = None if onto is None else open_input(onto, None, allow_damage=allow_damage, deinterlace=deinterlace)
    inputs = open_given(clip, source, objects or [], total or [], behind)
    chosen = choose_policy(device, dtype, policy, weights=weights)
    allowed = check_memory(memory)
    record = Report("run", settings, device=chosen.device)
    opened = choose_model(model, record, text_encoder=text_encoder)
    said_before = list(record.notes)
    for note in said_before:
        say(note)
    if opened is not None and stays_in_memory(opened, allowed):
        chosen = replace(chosen, resident=True)
    evidence = "only" if opened is None else "auto"
    options = RunOptions(
        RemovalOptions(steps, guidance, seed=seed, size=pixels, evidence=evidence, references=pictures),
        EffectOptions(seed=seed, size=pixels),
        lossless,
    )

    # 3. The work, into a folder that takes its place when it is whole.
    try:
        told = notes_of(*inputs.objects, *inputs.totals)
        with whole_folder(output, overwrite=overwrite) as folder, show_progress(told) as progress:
            run_stages(
                inputs,
                folder,
                options,
                model=NO_MODEL if opened is None else opened,
                policy=chosen,
                progress=progress,
                report=record,
                cache=not no_cache,
                memory=allowed,
            )
            record.write(folder / "report.json")
    finally:
        if opened is not None:
            opened.close()
    for note in record.notes:
        if note not in said_before:
            say(note)
    shares = record.results["evidence"]
    said = describe_shares(shares["gathered"], shares["unknown"], model=opened is not None)
    finish(record, report, overwrite=overwrite, verbose=verbose, result=output, said=said)


def open_given(clip: Path, source: "Clip", objects: list[Path], totals: list[Path], onto: "Clip | None") -> "Inputs":
    """What was opened of the path `clip`, with the masks given or beside it, and what it goes onto."""
    from layerlift.stages.run import open_inputs

    numbers, masks = open_objects(objects, clip, source)
    total = open_totals(totals, clip, source)
    return open_inputs(source, masks, total, onto, numbers=numbers)
