"""Removal: a clip and a mask become the clean plate. Read `plan_removal`, then `run_removal`, from top to bottom.

Evidence first: what another frame shows of the hidden background becomes known. Only what no frame shows is generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np

from layerlift.clip import Clip
from layerlift.engine.base import Engine, SamplingSettings
from layerlift.engine.device.budget import limit
from layerlift.engine.device.plan import Plan
from layerlift.engine.model.speed import choose_speed
from layerlift.engine.planning import longest_alike, plan_clip, replan, window_lengths
from layerlift.engine.schedule import model_sigmas
from layerlift.errors import InputError
from layerlift.evidence import Evidence, ShallowHoles, State, gather_evidence
from layerlift.evidence.coverage import references_cover
from layerlift.evidence.exemplar import exemplars_available
from layerlift.evidence.reference import (
    Reference,
    apply_references,
    open_references,
    shares_with,
    told_references,
)
from layerlift.evidence.unsearched import Unsearched
from layerlift.flags import check_ranges
from layerlift.geometry.fit import choose_box, fit_size
from layerlift.geometry.focus import View, focus_view, whole_view
from layerlift.masks import Mask
from layerlift.options import EvidenceChoice, RemovalOptions
from layerlift.parse import parse_guidance
from layerlift.pixels.arrays import all_bounds
from layerlift.pixels.paste import ring_radius
from layerlift.report import Report
from layerlift.runtime import Runtime, chosen
from layerlift.stages.choose_model import choose_model, require_model
from layerlift.stages.encoding import Wanted
from layerlift.stages.generation import Job, generate
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_mask
from layerlift.stages.removal.paste_back import Frames, Provenance, paste_generated, told
from layerlift.stages.spread import generate_spread

OFF = "--evidence off, which generates everything,"
WITHOUT_EXEMPLARS = (
    "Areas that no frame shows are filled smoothly from their surroundings, because the package pypatchmatch does "
    "not work here; with it, texture would continue into them."
)

# The mask grows by this share of the picture's shorter side (4 pixels at 480) unless the user says otherwise: masks end
# at the object, its soft edge and its traces in a compressed video do not.
DILATE_SHARE = 1 / 120
DILATE_LEAST = 2


def remove(
    clip: GivenClip,
    mask: GivenMask,
    options: RemovalOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Clip:
    """Remove what the mask covers from a clip.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        mask: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path. It has to cover shadows and
            reflections to remove them.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `RemovalOptions`, which override `options`, and, without a
            `runtime`, fields of `RuntimeOptions`, `progress` and `report`.

    Returns:
        The clean plate, whole in memory, with the clip's size, frame count, rate and timestamps. Outside the grown mask
        its pixels are exactly the clip's. `remove_frames` yields it frame by frame.

    Raises:
        InputError: something given cannot be used; raised before any weight is read.
        LayerliftError: the model returned NaN or infinity, or memory ran out and no smaller plan exists.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(RemovalOptions, options, runtime, choices)
    plan = plan_removal(clip, mask, options, runtime)
    # Everything but the colours stays: timestamps, colour tags, alpha, where the sound comes from.
    return plan.clip.with_colours(np.stack(list(run_removal(plan))))


def remove_frames(
    clip: GivenClip,
    mask: GivenMask,
    options: RemovalOptions | None = None,
    runtime: Runtime | None = None,
    *,
    provenance: Provenance | None = None,
) -> Iterator[np.ndarray]:
    """`remove`, one frame at a time: yields (H, W, 3) uint8, as many as the clip has.

    Everything is checked by the time this returns; the work begins when the first frame is requested.
    `provenance`: see `run_removal`.

    Raises InputError as `plan_removal`, and LayerliftError, while frames are being read, as `run_removal`.
    """
    return run_removal(plan_removal(clip, mask, options, runtime), provenance)


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """A removal that was checked.

    Attributes:
        clip: what is removed from.
        mask: what is removed.
        options: the user's.
        margin: what the mask grows by, and where the result fades in.
        references: cleaned frames, each brought to its place.
        job: how the model generates what no frame shows; None without a model.
        notes: what the user should know before the work begins, a sentence each.
        runtime: what it runs with.
    """

    clip: Clip
    mask: Mask
    options: RemovalOptions
    margin: Margin
    references: list[Reference]
    job: Job | None
    notes: tuple[str, ...]
    runtime: Runtime

    def with_mask(self, mask: Mask) -> RemovalPlan:
        """The same for another mask of the clip, which holds all of the one it was planned with."""
        references = open_references(self.options.references, self.clip, mask, self.margin.dilate)
        return replace(self, mask=mask, references=references)


def plan_removal(
    clip: GivenClip,
    mask: GivenMask,
    options: RemovalOptions | None = None,
    runtime: Runtime | None = None,
) -> RemovalPlan:
    """Open and check everything, and plan how the model sees the clip; no weight is read. Takes `remove`'s arguments.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or RemovalOptions(), runtime or Runtime()
    check_ranges(options)
    clip = as_clip(clip)
    mask = as_mask(mask, clip)
    if options.evidence not in get_args(EvidenceChoice):
        raise InputError(f"unknown --evidence {options.evidence!r}: choose auto, off or only")
    margin = choose_margin(options, clip)
    references = open_references(options.references, clip, mask, margin.dilate)
    model: Engine | None = None
    notes: list[str] = []
    if options.evidence == "off":
        model = require_model(runtime, OFF)
    elif options.evidence == "auto":
        model, notes = choose_model(runtime)
    job = None if model is None else plan_generation(clip, options, replace(runtime, model=model))
    if job is None and not exemplars_available():
        notes = [*notes, WITHOUT_EXEMPLARS]
    return RemovalPlan(clip, mask, options, margin, references, job, tuple(notes), runtime)


def run_removal(plan: RemovalPlan, provenance: Provenance | None = None, start: int = 0) -> Iterator[np.ndarray]:
    """Yield the clean plate's frames, (H, W, 3) uint8, from frame `start` on.

    `provenance` is called before each frame is yielded, with where its pixels come from, (H, W) uint8: 0 the clip
    itself, 1 other frames, 3 generated or inpainted (`layerlift.evidence.State`).

    Raises LayerliftError when the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    clip, job, margin, report = plan.clip, plan.job, plan.margin, plan.runtime.report
    keeper = plan.runtime.keeper
    report.sizes["clip"] = [clip.width, clip.height, clip.frame_count]
    for note in plan.notes:
        report.note(note)
    if job is not None:
        note_job(report, job)

    # 1. Evidence: what other frames, references among them, show of the hidden pixels.
    shown, masked = apply_references(clip, plan.mask, plan.references)
    found: Evidence | Unsearched = Unsearched(shown, masked, margin.dilate)
    if plan.options.evidence != "off":
        with report.stage("evidence"):
            found = gather_evidence(
                shown, masked, dilate=margin.dilate, references=plan.references, progress=plan.runtime.progress,
                keeper=keeper,
            )  # fmt: skip
        report.results["evidence"] = shares_with(plan.references, found.shares)

    with found:
        if plan.references:
            report.results["references"] = references_cover(plan.references, found, clip.rate)
        tell = told_references(plan.references, provenance)
        if job is None:
            # 2. Without a model what no frame shows is inpainted.
            assert isinstance(found, Evidence)
            yield from told(found.filled_frames(start), tell)
            return
        if start == clip.frame_count:
            return

        # 2. Inpaint holes too shallow for a model, and look only at what is left.
        filled, wanted, left = inpaint_shallow(found, job)
        crop = plan.options.evidence != "off" if plan.options.crop is None else plan.options.crop
        near = narrow(job, left(), margin.feather) if crop else job
        note_job(report, near)

        # 3. Generate that, and paste it into the frames.
        with (
            limit(near.plan, asked=plan.runtime.memory_bytes is not None),
            keeper.shelf("colours") if keeper.lasts else nullcontext() as colours,
        ):
            first = 0 if colours is None else colours.last(start) or 0
            devices = plan.runtime.devices
            begin = generate_spread if len(devices) > 1 else generate
            generated = begin(near, wanted, clip.frame_count, plan.runtime, first)
            # Of several devices the first has the most to do.
            policy = near.policy.on(devices[-1]) if devices else near.policy
            yield from paste_generated(
                filled(first), generated, margin.feather, policy, tell, shelf=colours, first=first, start=start
            )


def plan_generation(clip: Clip, options: RemovalOptions, runtime: Runtime) -> Job:
    """Settle everything about a model's run: one size for the picture, windows for the length.

    Raises InputError for what cannot be used, and where the runtime has no model; no weight is read.
    """
    model, policy, cache = require_model(runtime, "generating"), runtime.policy, runtime.cache
    sampling = choose_sampling(options, model)
    prompts = [options.prompt] if sampling.guidance == 1 else [options.negative_prompt, options.prompt]
    model.check_prompts(prompts, policy, cache)
    native = (clip.width, clip.height)
    space = model.geometry.space
    fit = fit_size(native, choose_box(native, model.settings.size, options.size, space), space)
    context = model.settings.context if options.context is None else options.context
    if context < 0:
        raise InputError(f"--context is {context}: give 0 or more latent frames")
    choose_speed(policy, 1, refresh=options.refresh, dense=options.dense, compile=options.compile)  # can it be had?
    windows, plan = plan_clip(
        model, fit, clip.frame_count, prompts, policy, window=options.window,
        memory=runtime.memory_for(model, runtime.devices), sparse=not options.dense, context=context, cache=cache,
    )  # fmt: skip
    return Job(
        model, plan, prompts, sampling, whole_view(fit, windows), options.seed, cache,
        refresh=options.refresh, dense=options.dense, compile=options.compile, context=context,
        window=options.window,
    )  # fmt: skip


def narrow(job: Job, wanted: Iterable[np.ndarray], feather: int) -> Job:
    """The job with nothing in view but what lies around the pixels to be generated; `wanted` (H, W) bool a frame."""
    width, height = job.fit.native
    spots = all_bounds(wanted)
    geometry = job.model.geometry
    frames, longest = window_lengths(job.model, job.window)

    def planned(budget: int, most: int) -> tuple[View, Plan]:
        view = focus_view(
            job.view, spots, space=geometry.space, time=geometry.time, model_frames=frames, longest=most,
            budget=budget, margin=feather + ring_radius(height, width), any_scale=job.model.settings.any_scale,
        )  # fmt: skip
        return view, replan(job.plan, view.windows, view.size, job.context)

    # A clip's windows are made even, and so often shorter than the model's. What has more pixels than they have may be
    # more than there is memory for, and so may other windows' context; all of the clip fits: it was planned.
    own = max(window.frame_count for window in job.windows)
    for budget in dict.fromkeys((max(own, frames), own)):
        try:
            view, plan = longest_alike(partial(planned, budget), frames, longest, geometry.time)
        except InputError:
            continue
        return replace(job, view=view, plan=plan)
    return job


def around_mask(plan: RemovalPlan) -> Job:
    """The plan's job if other frames showed nothing: `narrow` around the whole mask, unless the plan has no crop.

    The plan needs a model.
    """
    assert plan.job is not None
    if plan.options.crop is False:
        return plan.job
    return narrow(plan.job, Unsearched(plan.clip, plan.mask, plan.margin.dilate).hidden(), plan.margin.feather)


def note_job(report: Report, job: Job) -> None:
    """What the model sees of the clip, and what that was planned to take."""
    report.sizes |= {"scaled": list(job.fit.scaled), "padded": list(job.view.size)}
    report.sizes["windows"] = [[window.start, window.stop] for window in job.windows]
    report.sizes["boxes"] = [[box.left, box.top] for box in job.view.boxes]
    report.results["planned_bytes"] = {need.stage: round(need.total) for need in job.plan.needs}


@dataclass(frozen=True, slots=True)
class Margin:
    """Pixels of the clip: what the mask grows by, and over how many of them the result fades in."""

    dilate: int
    feather: int


def choose_sampling(options: RemovalOptions, model: Engine) -> SamplingSettings:
    """The loop's settings: the user's choice, else the model's.

    Raises:
        InputError: steps or guidance that cannot be used.
    """
    settings = model.settings
    guidance = parse_guidance(settings.guidance if options.guidance is None else options.guidance)
    if options.steps is not None and options.steps < 1:
        raise InputError(f"--steps is {options.steps}: give at least 1")
    return SamplingSettings(model_sigmas(settings, options.steps), guidance, settings.stochastic)


def choose_margin(options: RemovalOptions, clip: Clip) -> Margin:
    """How far the mask grows and the result fades in: by default as far as each other, so that no object shows through.

    Raises:
        InputError: a negative number, or a feather that does not fit into what the mask has grown by.
    """
    dilate, feather = options.dilate, options.feather
    for name, value in (("dilate", dilate), ("feather", feather)):
        if value is not None and value < 0:
            raise InputError(f"--{name} is {value}: give 0 or more")
    if dilate is None:
        default = max(DILATE_LEAST, round(DILATE_SHARE * min(clip.width, clip.height)))
        dilate = max(default, feather or 0)
    if feather is None:
        feather = dilate
    if feather > dilate:
        raise InputError(
            f"--feather is {feather}, but the mask grows by only {dilate} pixels, so the object would show through: "
            f"give --feather {dilate} or less, or --dilate {feather} or more"
        )
    return Margin(dilate, feather)


def inpaint_shallow(
    found: Evidence | Unsearched, job: Job
) -> tuple[Callable[[int], Frames], Callable[[int], Iterator[Wanted]], Callable[[], Iterator[np.ndarray]]]:
    """The evidence's frames with their `State`, with holes inpainted that are too shallow for the job's model; the same
    frames with where the other holes are, (H, W) bool; and that alone. Each of them as often as called, the first two
    from a frame on."""
    if isinstance(found, Unsearched):
        return found.frames, found.wanted, found.hidden
    scale = job.fit.native[0] / job.fit.scaled[0]
    holes = ShallowHoles(found.states(), job.model.settings.fill_depth * scale)

    def filled(start: int) -> Frames:
        return holes.settle(found.frames(start), start)

    return (
        filled,
        lambda start: ((frame, state == State.UNKNOWN) for frame, state in filled(start)),
        lambda: (holes.left(index, state) for index, state in enumerate(found.states())),
    )
