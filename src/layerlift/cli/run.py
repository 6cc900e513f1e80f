"""`layerlift run`: everything in one go, from object masks to layers and a composite."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.clicks import ClickFlags, make_targets, named_clicks
from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.folder import check_run_folder, results_folder
from layerlift.cli.job import describe_evidence, finish, open_source, settle
from layerlift.cli.mask_outputs import mask_writer
from layerlift.cli.masks import notes_of, open_objects, open_totals
from layerlift.cli.options import ClipArgument, ClipFlags, JobFlags, Objects, OutputFlags, SharingFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model, read_of_references
from layerlift.cli.resume import note_resumed, open_job, work_on
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.options import (
    MASK,
    OUTPUT,
    PLACE,
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    RemovalOptions,
    RunOptions,
    RuntimeOptions,
    SegmentationOptions,
)
from layerlift.places import Given
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.clip import Clip
    from layerlift.engine.base import Engine
    from layerlift.masks import Mask
    from layerlift.runtime import Runtime
    from layerlift.stages.run import Inputs, RunPlan
    from layerlift.stages.segment import SegmentationPlan, Target


@with_flags
def run(
    *,
    clip: ClipArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder for background, layer_0 …, total_mask, composite, report.json and contact_sheet.png, and "
            "object_mask_0 for an object that was clicked on. It appears when all of them are finished.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ],
    objects: Objects = None,
    clicks: ClickFlags,
    segmentation: SegmentationOptions,
    total: Annotated[
        list[Path] | None,
        typer.Option(
            "--total",
            metavar="MASK",
            help="Mask of the objects and their effects (shadows, reflections …), if you have one: one for all "
            "objects, or one per object (default: total_mask in CLIP's folder). If there is neither, the effects "
            "are found, as by `layerlift mask`.",
            rich_help_panel=MASK,
        ),
    ] = None,
    effects: Annotated[EffectOptions, Without("dilate", "prompt")],
    removal: RemovalOptions,
    extraction: ExtractionOptions,
    onto: Annotated[
        Path | None,
        typer.Option(
            "--onto",
            metavar="CLIP2",
            help="New background to place the layers over.",
            rich_help_panel=PLACE,
            show_default=False,
        ),
    ] = None,
    composition: CompositionOptions,
    reading: ClipFlags,
    running: RuntimeOptions,
    sharing: SharingFlags,
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Run the whole pipeline: masks, clean plate, layers, composite.

    The objects are given as masks, or clicked on with --point or --box, as for `layerlift segment`.
    """
    from layerlift.room import check_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.run import open_inputs, plan_run, run_stages

    # 1. What the paths hold, before any weight is read.
    check_choices(objects, clicks, segmentation, total, effects, onto, composition)
    read = read_of_run(clip, objects, total, onto, removal, running)
    settle({"-o": output}, read, writing)
    check_run_folder(output, overwrite=writing.overwrite)
    options = RunOptions(removal, effects, extraction, composition, writing.lossless)
    opened = open_run(clip, objects, clicks, segmentation, total, onto, reading, options)
    inputs = opened.inputs
    record = Report("run", typed)
    check_room(room_for(inputs, output, lossless=writing.lossless))

    notes = [] if opened.targets else notes_of(*inputs.objects, *inputs.totals)
    with show_progress(notes) as progress, ExitStack() as files:
        # 2. Every stage's plan; what is clicked on is still to be found, and then planned with.
        job = open_job(output, going)
        runtime = open_runtime(
            replace(running, devices=sharing.devices), progress=progress, report=record, keeper=job.keeper
        )
        found, plan = opened.plan(runtime)

        # 3. The work, into the job's folder, and from there into one that takes its place when it is whole.
        segmenter = None if found is None else found.segmenter
        models = models_of(plan)
        files.enter_context(
            work_on(job, "run", output, typed, read, runtime=runtime, models=models, segmenter=segmenter)
        )
        folder = files.enter_context(results_folder(output, overwrite=writing.overwrite))
        if found is not None:
            clicked, totals = [clicked_mask(found, job.made)], inputs.totals or None
            inputs = open_inputs(inputs.clip, clicked, totals, inputs.onto, numbers=inputs.numbers)
            plan = plan_run(inputs, options, runtime)
        for note in plan.notes:
            say(note)
        run_stages(plan, job.made)
        job.copy_made(folder)
        note_resumed(job, record)
        record.write(folder / "report.json")
    for note in record.notes:
        if note not in plan.notes:
            say(note)
    finish(record, writing, result=output, said=describe_evidence(record, model=plan.removal.job is not None))


def check_choices(
    objects: list[Path] | None,
    clicks: ClickFlags,
    segmentation: SegmentationOptions,
    total: list[Path] | None,
    effects: EffectOptions,
    onto: Path | None,
    composition: CompositionOptions,
) -> None:
    """Raises InputError for flags that do not go together."""
    if clicks.given() and objects:
        raise InputError(f"{changed(clicks)[0]} finds an object, but --object gives masks: leave one of them out.")
    if changed(segmentation) and not clicks.given():
        raise InputError("--segmenter works only with --point or --box: add one of them, or leave it out.")
    if onto is None and changed(composition):
        raise InputError(f"{changed(composition)[0]} works only with --onto: add --onto, or leave it out.")
    looking = changed(effects, apart_from=RemovalOptions)
    if total and looking:
        raise InputError(f"{looking[0]} is for finding effects, but --total already gives them: leave one of them out.")


def read_of_run(
    clip: Path,
    objects: list[Path] | None,
    total: list[Path] | None,
    onto: Path | None,
    removal: RemovalOptions,
    running: RuntimeOptions,
) -> dict[str, Given]:
    """What a run reads, by flag. Raises InputError as `layout_masks`."""
    read = {**read_of_clip(clip), "--object": read_of(objects), "--total": read_of(total), "--onto": read_of(onto)}
    return read | {**read_of_references(removal.references), **read_of_model(running)}


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """What a run was given, opened and checked.

    Attributes:
        inputs: the clip and its masks; where an object is clicked on, a mask that stands in for it.
        targets: what is clicked on.
        segmentation: how it is found.
        options: of the stages.
    """

    inputs: "Inputs"
    targets: "list[Target]"
    segmentation: SegmentationOptions
    options: RunOptions

    def plan(self, runtime: "Runtime") -> "tuple[SegmentationPlan | None, RunPlan]":
        """Plan every stage, and before them how what is clicked on is found, if anything is.

        Raises InputError for what cannot be used; no weight is read.
        """
        from layerlift.stages.run import plan_run
        from layerlift.stages.segment import plan_segmentation

        clip = self.inputs.clip
        asked = runtime.part("objects")
        found = plan_segmentation(clip, self.targets, self.segmentation, asked) if self.targets else None
        return found, plan_run(self.inputs, self.options, runtime)


def open_run(
    clip: Path,
    objects: list[Path] | None,
    clicks: ClickFlags,
    segmentation: SegmentationOptions,
    total: list[Path] | None,
    onto: Path | None,
    reading: ClipFlags,
    options: RunOptions,
) -> OpenedRun:
    """Open the clip and its masks. Raises InputError for what cannot be used."""
    from layerlift.stages.run import open_inputs

    source = open_source(clip, reading)
    behind = None if onto is None else open_source(onto, replace(reading, frames=None, rate=None))
    totals = open_totals(total or [], clip, source)
    targets = make_targets(named_clicks(clicks, []), [], source)
    numbers, masks = ([0], [stand_in(source, totals)]) if targets else open_objects(objects or [], clip, source)
    inputs = open_inputs(source, masks, totals, behind, numbers=numbers)
    return OpenedRun(inputs, targets, segmentation, options)


def models_of(plan: "RunPlan") -> "list[Engine | None]":
    """The models that a run's result depends on."""
    models = [None if plan.removal.job is None else plan.removal.job.model]
    if plan.effects is not None and plan.effects.attention is not None:
        models.append(plan.effects.attention.model)
    return models


def stand_in(clip: "Clip", totals: "list[Mask] | None") -> "Mask":
    """A mask for the checks of every stage while the object is still to be found: its total mask, or the middle."""
    if totals:
        return totals[0]
    import numpy as np

    from layerlift.masks import Mask

    middle = np.zeros((clip.height, clip.width), np.bool_)
    middle[clip.height // 3 : clip.height // 3 * 2 + 1, clip.width // 3 : clip.width // 3 * 2 + 1] = True
    return Mask.from_array(middle, "what is clicked on")


def clicked_mask(plan: "SegmentationPlan", folder: Path) -> "Mask":
    """Find the object that was clicked on, unless its mask is in the folder; it goes there, and is read from there."""
    from layerlift.masks import open_mask
    from layerlift.stages.segment import run_segmentation

    path = folder / "object_mask_0.mkv"
    keeper = plan.runtime.keeper
    if not keeper.has(path):
        with mask_writer(path, plan.clip, overwrite=False) as writer:
            for labels in run_segmentation(plan):
                writer.write(labels > 0)
        keeper.note(path)
        keeper.drop()
    return replace(open_mask(path, plan.clip), name="the object that was clicked on", notes=())


def room_for(inputs: "Inputs", folder: Path, *, lossless: bool) -> dict[str | Path, int]:
    """Bytes that a run takes at least: its folder, and its job's."""
    from layerlift.jobs.job import job_folder
    from layerlift.room import clip_room, evidence_room, layer_room, mask_room
    from layerlift.stages.run import endings

    ending, layer_ending = endings(inputs.clip, lossless=lossless)
    size = clip_room(f"a{ending}", inputs.clip, lossless=lossless) + mask_room(inputs.clip)
    size += len(inputs.objects) * layer_room(f"a{layer_ending}", inputs.clip)
    if inputs.onto is not None:
        size += clip_room(f"a{ending}", inputs.onto, lossless=lossless)
    kept = evidence_room(inputs.clip, masks=0 if inputs.totals else len(inputs.objects))
    return {folder: size, job_folder(folder): kept}
