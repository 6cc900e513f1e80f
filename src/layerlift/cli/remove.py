"""`layerlift remove`: clip and mask → clean plate."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.job import finish, open_input, settle_outputs, write_result
from layerlift.cli.masks import notes_of, open_input_mask, open_masks
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.report import Report

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.masks import Mask
    from layerlift.model import Model

_MASK = "Mask"


def remove(
    clip: common.ClipArgument,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="MASK",
            help="What to remove, with its shadow: white in a video, a folder of images, or one still for all frames; "
            "else the masks in CLIP's folder.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK",
            help="Mask of one object, without its shadow. The shadow is found first, as `layerlift mask` does; without "
            "a model the mask is grown. Wins over the masks in CLIP's folder. Repeat per object.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    output: common.Output = None,
    model: common.FillModel = None,
    text_encoder: common.TextEncoder = None,
    no_cache: common.NoCache = False,
    steps: common.Steps = None,
    guidance: common.Guidance = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="P", help='What to put there; else "Empty".', rich_help_panel="Sampling"),
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option("--negative-prompt", metavar="P", help="What not to put there.", rich_help_panel="Sampling"),
    ] = None,
    seed: common.Seed = 0,
    size: common.Size = None,
    dilate: Annotated[
        int | None,
        typer.Option(
            "--dilate",
            min=0,
            metavar="PX",
            help="Grow the mask by this; else what suits the clip.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    feather: Annotated[
        int | None,
        typer.Option(
            "--feather",
            min=0,
            metavar="PX",
            help="Fade in over this, inside what the mask was grown by; else what suits the clip.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    evidence: Annotated[
        str,
        typer.Option(
            "--evidence",
            metavar="auto|off|only",
            help="What other frames show of the hidden background: take it and generate the rest (auto), generate "
            "everything (off), or fill the rest without a model (only).",
            rich_help_panel="Evidence",
        ),
    ] = "auto",
    provenance: Annotated[
        Path | None,
        typer.Option(
            "--provenance",
            metavar="FILE",
            help="Write a video of where pixels come from: original black, gathered green, generated magenta.",
            rich_help_panel="Evidence",
        ),
    ] = None,
    references: common.References = None,
    crop: Annotated[
        bool | None,
        typer.Option(
            "--crop/--no-crop",
            help="Show the model only what lies around the mask, at the clip's own resolution where that is small "
            "enough, or all of the picture; else the former where evidence has been looked for.",
            rich_help_panel="Speed",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=0,
            metavar="N",
            help="Latent frames of other windows that each window of a long clip is shown; else what suits the model.",
            rich_help_panel="Sampling",
            show_default=False,
        ),
    ] = None,
    window: common.Window = None,
    refresh: common.Refresh = None,
    dense: common.Dense = False,
    compile: common.Compile = None,
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
    """Remove what the mask covers from CLIP and write the clean plate."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    pixels = common.parse_size(size) if size is not None else None
    span = common.parse_frames(frames) if frames is not None else None
    common.check_guidance(guidance)
    pictures = common.parse_references(references)

    from layerlift.clip import ClipWriter, check_output
    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.evidence.reference import open_references
    from layerlift.masks import union_masks
    from layerlift.stages.choose_model import NO_MODEL
    from layerlift.stages.effects import EffectOptions, find_total_mask
    from layerlift.stages.grown_objects import grown_total_mask
    from layerlift.stages.provenance import colour_provenance, describe_shares
    from layerlift.stages.removal import (
        DEFAULT_NEGATIVE_PROMPT,
        DEFAULT_PROMPT,
        RemovalOptions,
        choose_margin,
        plan_generation,
        remove_frames,
    )
    from layerlift.stages.spool import FrameSpool

    # 2. What the paths hold, before any weight is read.
    source = open_input(clip, span, allow_damage=allow_damage, deinterlace=deinterlace, rate=rate)
    own = open_objects(objects or [], mask, source)
    masked = open_input_mask(mask, clip, source) if own is None else None
    read = {**read_of_clip(clip), "--mask": read_of(mask), "--object": read_of(objects)}
    target = settle_outputs(
        source,
        "remove",
        output,
        report,
        read={**read, "--reference": pictures.values(), **read_of_model(model, text_encoder)},
        beside={"--provenance": provenance},
        lossless=lossless,
        overwrite=overwrite,
    )
    if provenance is not None:
        exact = provenance.suffix == ".mkv"
        check_output(provenance, lossless=exact, overwrite=overwrite)
    chosen = choose_policy(device, dtype, policy, weights=weights)
    allowed = check_memory(memory)
    record = Report("remove", settings, device=chosen.device)

    # 3. The work, frame by frame into the files.
    with show_progress(notes_of(masked, *(own or []))) as progress, ExitStack() as files:
        note = None
        if provenance is not None:
            colours = files.enter_context(
                ClipWriter(provenance, source, lossless=exact, overwrite=overwrite, sound=False)
            )

            def note(state: "np.ndarray") -> None:
                colours.write(colour_provenance(state))

        options = RemovalOptions(
            steps=steps,
            guidance=guidance,
            prompt=DEFAULT_PROMPT if prompt is None else prompt,
            negative_prompt=DEFAULT_NEGATIVE_PROMPT if negative_prompt is None else negative_prompt,
            seed=seed,
            size=pixels,
            dilate=dilate,
            feather=feather,
            evidence=evidence,
            crop=crop,
            context=context,
            window=window,
            refresh=refresh,
            dense=dense,
            compile=compile,
            references=pictures,
        )
        opened = pick_model(model, evidence, record, text_encoder, for_effects=own is not None)
        if masked is None:
            # What the removal would refuse, before the effects are looked for.
            open_references(pictures, source, union_masks(own or []), choose_margin(options, source).dilate)
            if opened is not None and evidence != "only":
                plan_generation(source, options, opened, chosen, not no_cache, memory=allowed)
            spool = files.enter_context(FrameSpool())
            masked = (
                grown_total_mask(source, own or [], spool, record)
                if opened is None
                else find_total_mask(
                    source,
                    own or [],
                    spool,
                    EffectOptions(seed=seed, size=pixels),
                    model=opened,
                    policy=chosen,
                    progress=progress,
                    report=record,
                    cache=not no_cache,
                    memory=allowed,
                )
            )
        for line in record.notes:
            say(line)
        plate = remove_frames(
            source,
            masked,
            options,
            model=NO_MODEL if opened is None else opened,
            policy=chosen,
            progress=progress,
            report=record,
            cache=not no_cache,
            memory=allowed,
            provenance=note,
        )
        write_result(target, plate, source, record, lossless=lossless, overwrite=overwrite)
    shares = record.results.get("evidence")
    generates = opened is not None and evidence != "only"
    said = None if shares is None else describe_shares(shares["gathered"], shares["unknown"], model=generates)
    finish(record, report, overwrite=overwrite, verbose=verbose, result=target, said=said)


def pick_model(
    model: str | None, evidence: str, record: Report, text_encoder: Path | None, *, for_effects: bool
) -> "Model | None":
    """The model to run, if any; none is opened where nothing is asked of it. Raises InputError as `require_model`."""
    from layerlift.stages.choose_model import choose_model, require_model
    from layerlift.stages.removal import OFF

    if evidence == "off":
        return require_model(model, OFF, text_encoder=text_encoder)
    if evidence == "only" and not for_effects:
        return None
    return choose_model(model, record, text_encoder=text_encoder)


def open_objects(objects: list[Path], mask: Path | None, clip: "Clip") -> "list[Mask] | None":
    """The objects whose effects have to be found; None when none is given.

    Objects that are typed win over any mask in the clip's folder. Raises InputError for objects beside a mask that is
    typed, and as `open_mask`.
    """
    if not objects:
        return None
    if mask is not None:
        raise InputError("both --mask and --object were given: give --mask with the shadow, or --object without it.")
    return open_masks(objects, clip)
