"""`layerlift remove`: clip and mask → clean plate."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Typed, with_flags
from layerlift.cli.job import describe_evidence, finish, open_source, settle_outputs, told_by, write_result
from layerlift.cli.mask_outputs import is_exact, mask_writer
from layerlift.cli.masks import notes_of, open_input_mask, open_masks
from layerlift.cli.options import ClipArgument, ClipFlags, JobFlags, Output, OutputFlags, SharingFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model, read_of_references
from layerlift.cli.resume import open_job, work_on
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.options import EVIDENCE, MASK, EffectOptions, RemovalOptions, RuntimeOptions
from layerlift.report import Report

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.masks import Mask
    from layerlift.runtime import Runtime
    from layerlift.stages.effects.plan import EffectPlan


@with_flags
def remove(
    *,
    clip: ClipArgument,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="MASK",
            help="Mask of what to remove, shadow included, in white: a video, a folder of images, or one still for "
            "all frames (default: the masks in CLIP's folder).",
            rich_help_panel=MASK,
        ),
    ] = None,
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK",
            help="Mask of one object, without its shadow. The shadow is found automatically, as by `layerlift mask`; "
            "Takes precedence over the masks in CLIP's folder. Repeat per "
            "object.",
            rich_help_panel=MASK,
        ),
    ] = None,
    output: Output = None,
    options: RemovalOptions,
    source_map: Annotated[
        Path | None,
        typer.Option(
            "--source-map",
            metavar="FILE",
            help="Write a video that shows where each pixel comes from: black is original, green comes from other "
            "frames, magenta is generated.",
            rich_help_panel=EVIDENCE,
        ),
    ] = None,
    provenance: Annotated[Path | None, typer.Option("--provenance", hidden=True)] = None,  # --source-map's old name
    reading: ClipFlags,
    running: RuntimeOptions,
    sharing: SharingFlags,
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Remove masked objects from CLIP and write the clean plate."""
    if objects and mask is not None:
        raise InputError(
            "both --mask and --object were given: use --mask for a mask with the shadow, or --object for one without."
        )

    if provenance is not None and source_map is not None:
        raise InputError("--provenance is the old name of --source-map, and both were given: give --source-map alone.")
    del typed["provenance"]
    source_map = typed["source_map"] = provenance if source_map is None else source_map

    from layerlift.clip import check_output
    from layerlift.jobs.job import job_folder
    from layerlift.masks import union_masks
    from layerlift.room import check_room, clip_room, evidence_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.effects import total_mask
    from layerlift.stages.removal import plan_removal
    from layerlift.stages.removal.going_on import go_on_removing
    from layerlift.stages.spool import FrameSpool

    # 1. What the paths hold, before any weight is read. Objects that are typed win over any mask in the clip's folder.
    source = open_source(clip, reading)
    own = open_masks(objects or [], source)
    masked = union_masks(own) if own else open_input_mask(mask, clip, source)
    read = {**read_of_clip(clip), "--mask": read_of(mask), "--object": read_of(objects)}
    read |= {**read_of_references(options.references), **read_of_model(running)}
    target = settle_outputs(source, "remove", output, writing, read=read, beside={"--source-map": source_map})
    if source_map is not None:
        check_output(source_map, is_exact(source_map), writing.overwrite, source, version=False)
    kept = evidence_room(source, masks=len(own)) if own or options.evidence != "off" else 0
    check_room({target: clip_room(target, source, lossless=writing.lossless), job_folder(target): kept})
    record = Report("remove", typed)

    with show_progress(notes_of(*(own or [masked]))) as progress, ExitStack() as files:
        # 2. Every stage's plan.
        job = open_job(target, going)
        runtime = open_runtime(
            replace(running, devices=sharing.devices), progress=progress, report=record, keeper=job.keeper
        )
        effects, notes = None, list[str]()
        if own:
            effects, runtime, notes = plan_search(source, own, options, runtime)
        removal = plan_removal(source, masked, options, runtime.part("removal"))
        for line in dict.fromkeys([*notes, *removal.notes]):
            told_by(record)(line)

        # 3. The work, frame by frame into the files.
        models = [None if removal.job is None else removal.job.model]
        if effects is not None and effects.attention is not None:
            models.append(effects.attention.model)
        files.enter_context(work_on(job, "remove", target, typed, read, runtime=runtime, models=models))
        if own:
            spool = files.enter_context(FrameSpool(runtime.keeper.shelf("total")))
            assert effects is not None
            removal = removal.with_mask(total_mask(effects, spool))
        tell = None
        if source_map is not None:
            tell = files.enter_context(write_source_map(source_map, source, overwrite=writing.overwrite))
        write_result(target, go_on_removing(removal, tell), source, record, writing)
    finish(record, writing, result=target, said=describe_evidence(record, model=removal.job is not None))


def plan_search(
    clip: "Clip", objects: "Sequence[Mask]", options: RemovalOptions, runtime: "Runtime"
) -> "tuple[EffectPlan, Runtime, list[str]]":
    """How effects of the objects are found; the runtime with the model for all stages; and what to tell the user.

    Raises as `choose_model` and `plan_effects`.
    """
    from layerlift.stages.choose_model import NO_MODEL, choose_model, require_model
    from layerlift.stages.effects import plan_effects
    from layerlift.stages.removal import OFF

    opened, notes = (require_model(runtime, OFF), []) if options.evidence == "off" else choose_model(runtime)
    runtime = replace(runtime, model=opened or NO_MODEL)
    looking = EffectOptions(seed=options.seed, size=options.size)
    return plan_effects(clip, objects, looking, runtime.part("effects")), runtime, notes


@contextmanager
def write_source_map(path: Path, clip: "Clip", *, overwrite: bool) -> "Iterator[Callable[[np.ndarray], None]]":
    """A function to be told each frame's `State`, (H, W) uint8, which writes it as colours."""
    from layerlift.stages.removal.provenance import colour_provenance

    with mask_writer(path, clip, overwrite=overwrite) as writer:
        yield lambda state: writer.write(colour_provenance(state))
