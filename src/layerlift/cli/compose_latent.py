"""`layerlift compose --latent`: the other way to compose, by arithmetic on latents of clip, plate and background."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.cli.flags import Typed
from layerlift.cli.job import finish, open_source, output_for, settle_outputs, write_result
from layerlift.cli.masks import notes_of, open_objects, open_total
from layerlift.cli.options import ClipFlags, JobFlags, OutputFlags, SharingFlags
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.resume import open_job, work_on
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.options import LATENT, LatentCompositionOptions, RuntimeOptions
from layerlift.report import Report

if TYPE_CHECKING:
    import numpy as np

INTERMEDIATES = ("latent", "injected")


@dataclass(frozen=True, slots=True)
class LatentFlags:
    """What a latent composition is given beside the clip and the new background.

    Attributes:
        background: the clean plate.
        objects, total: masks of the objects, and of them with their effects.
        keep_intermediate: write what refinement begins with, too.
    """

    background: Path | None = flag(None, "Clean plate of CLIP.", metavar="PLATE", group=LATENT)
    objects: list[Path] | None = flag(
        None,
        "Mask of one object, in white. Repeat per object (default: the masks in CLIP's folder).",
        "--object",
        metavar="MASK",
        group=LATENT,
    )
    total: Path | None = flag(
        None,
        "Mask of the objects and their effects (default: total_mask in CLIP's folder).",
        metavar="MASK",
        group=LATENT,
    )
    keep_intermediate: bool = flag(
        False,
        "Also write OUT_latent (decoded before the object's pixels are inserted) and OUT_injected (after).",
        group=LATENT,
    )


def compose_by_latents(
    clips: list[Path],
    onto: Path,
    output: Path | None,
    given: LatentFlags,
    options: LatentCompositionOptions,
    reading: ClipFlags,
    running: RuntimeOptions,
    sharing: SharingFlags,
    writing: OutputFlags,
    going: JobFlags,
    typed: Typed,
) -> None:
    """Compose CLIP's objects onto another background, from what was typed to the files."""
    if len(clips) != 1:
        raise InputError(
            f"--latent composes one clip, but {len(clips)} were given: give only the clip with the object."
        )
    if given.background is None:
        raise InputError(
            "--latent needs the clean plate of the clip: add --background with what `layerlift remove` wrote."
        )
    (clip,) = clips

    from layerlift.clip import ClipWriter, check_output
    from layerlift.room import check_room, clip_room
    from layerlift.runtime import open_runtime
    from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition

    # 1. What the paths hold, before any weight is read.
    source, behind = (open_source(path, reading) for path in (clip, onto))
    if behind.damage is not None:
        say(behind.damage)
    _, masks = open_objects(given.objects or [], clip, source)
    reach = open_total(given.total, clip, source)
    if reach is None:
        raise InputError(f"no mask of the object and its effects was given for {clip}: add --total.")
    output = output or output_for(source, "compose", lossless=writing.lossless)
    kept = intermediates(output) if given.keep_intermediate else {}
    read = {**read_of_clip(clip), "--onto": read_of(onto), "--background": read_of(given.background)}
    read |= {"--object": read_of(given.objects), "--total": read_of(given.total), **read_of_model(running)}
    beside = {"--keep-intermediate": kept.values()}
    target = settle_outputs(source, "compose", output, writing, read=read, beside=beside)
    for path in kept.values():
        check_output(path, lossless=writing.lossless, overwrite=writing.overwrite, like=source)
    places = [target, *kept.values()]
    check_room({path: clip_room(path, source, lossless=writing.lossless) for path in places})
    record = Report("compose", typed)

    # 2. The plan, and the work, frame by frame into the files.
    with show_progress(notes_of(*masks, reach)) as progress, ExitStack() as files:
        job = open_job(target, going)
        runtime = open_runtime(
            replace(running, devices=sharing.devices), progress=progress, report=record, keeper=job.keeper
        )
        plan = plan_latent_composition(source, given.background, masks, reach, behind, options, runtime)
        models = [plan.job.model]
        files.enter_context(work_on(job, "compose", target, typed, read, runtime=runtime, models=models))
        writers = {
            name: files.enter_context(ClipWriter(path, source, lossless=writing.lossless, overwrite=writing.overwrite))
            for name, path in kept.items()
        }

        def keep(name: str, frame: "np.ndarray") -> None:
            writers[name].write(frame)

        frames = run_latent_composition(plan, keep if kept else None)
        write_result(target, frames, source, record, writing)
    said = f"and {', '.join(path.name for path in kept.values())} beside it" if kept else None
    finish(record, writing, result=target, said=said)


def intermediates(target: Path) -> dict[str, Path]:
    """Where the intermediate results go: beside the result, in its format."""
    if not target.name:
        raise InputError(f"-o {target} has no name that --keep-intermediate could extend: give a name.")
    return {name: target.with_name(f"{target.stem}_{name}{target.suffix}") for name in INTERMEDIATES}
