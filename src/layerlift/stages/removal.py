"""Removal: a clip and a mask become the clean plate. Read `remove_frames` from top to bottom.

Evidence first: what another frame shows of the hidden background becomes known. Only what no frame shows is generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np

from layerlift.clip import Clip
from layerlift.device import Policy, choose_policy
from layerlift.device.budget import capped, check_memory
from layerlift.device.plan import Plan
from layerlift.errors import InputError
from layerlift.evidence import Evidence, ShallowHoles, State, gather_evidence
from layerlift.evidence.coverage import references_cover
from layerlift.evidence.exemplar import exemplars_available
from layerlift.evidence.reference import (
    GivenReferences,
    apply_references,
    open_references,
    shares_with,
    told_references,
)
from layerlift.evidence.unsearched import Unsearched
from layerlift.fit import choose_box, fit_size
from layerlift.focus import View, focus_view, whole_view
from layerlift.masks import Mask
from layerlift.model import Model, open_model
from layerlift.model.speed import choose_speed
from layerlift.pixels import all_bounds
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.sampling import SamplingSettings
from layerlift.schedule import model_sigmas
from layerlift.stages.choose_model import choose_model, require_model
from layerlift.stages.generation import Job, Wanted, generate
from layerlift.stages.inputs import as_clip, as_mask
from layerlift.stages.paste import ring_radius
from layerlift.stages.paste_back import Frames, Provenance, paste_frames, told
from layerlift.stages.planning import longest_alike, plan_clip, replan, window_lengths

EVIDENCE = ("auto", "off", "only")
OFF = "evidence off, which generates everything,"

DEFAULT_PROMPT = "Empty"
DEFAULT_NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"

# The mask grows by this share of the picture's shorter side (4 pixels at 480) unless the user says otherwise: masks end
# at the object, its soft edge and its traces in a compressed video do not.
DILATE_SHARE = 1 / 120
DILATE_LEAST = 2


@dataclass(frozen=True, slots=True)
class RemovalOptions:
    """What a user can choose about a removal; None is the model's own, or what suits the clip.

    Attributes:
        steps: denoising steps.
        guidance: how far to lead from the negative prompt to the prompt; 1 is without.
        prompt, negative_prompt: what to put in the object's place, and what not.
        seed: of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at; the clip is scaled to lie inside it.
        dilate: pixels of the clip by which the mask grows. Beyond that every pixel stays the clip's own.
        feather: pixels over which the result fades in, inside what the mask has grown by.
        evidence: "auto" takes from other frames what they show and generates the rest; "off" generates everything;
            "only" generates nothing: what no frame shows is inpainted without a model.
        crop: show the model only what lies around the mask, at the clip's own resolution where that is small enough;
            None does when evidence has been looked for: what other frames show of the hole may lie far from it.
        refresh: how far sigma may move before the transformer runs on all tokens again, and not on the unknown ones
            alone; None is the default.
        dense: run every token in every step.
        compile: compile the transformer's blocks; None does where the job is long enough to win back the time.
        context: latent frames of other windows that each window of a long clip is shown, at most; None is the model's.
        window: frames that are denoised in one go, at most; None is the model's, and more where what it sees is small.
        references: cleaned frames, by their numbers in the clip (counted from 0, in the whole clip where this one was
            cut from it): paths or (H, W, 3) uint8; or a folder of 012.png … . Inside the mask they are taken as they
            are, and evidence carries them to other frames.
    """

    steps: int | None = None
    guidance: float | None = None
    prompt: str = DEFAULT_PROMPT
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    seed: int = 0
    size: tuple[int, int] | None = None
    dilate: int | None = None
    feather: int | None = None
    evidence: str = "auto"
    crop: bool | None = None
    refresh: float | None = None
    dense: bool = False
    compile: bool | None = None
    context: int | None = None
    window: int | None = None
    references: GivenReferences | None = None


def remove(
    clip: Clip | np.ndarray | str | Path,
    mask: Mask | np.ndarray | str | Path,
    *,
    model: Model | str | Path | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    prompt: str = DEFAULT_PROMPT,
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    dilate: int | None = None,
    feather: int | None = None,
    evidence: str = "auto",
    crop: bool | None = None,
    refresh: float | None = None,
    dense: bool = False,
    compile: bool | None = None,
    context: int | None = None,
    window: int | None = None,
    references: GivenReferences | None = None,
    device: str | None = None,
    dtype: str | None = None,
    policy: str | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: float | None = None,
    weights: str = "auto",
) -> Clip:
    """Remove what the mask covers from a clip.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        mask: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path. To lose shadows and reflections too, it has
            to cover them.
        model: an opened `Model`, or what `open_model` takes. "none" implies evidence "only", and so does None while no
            LTX checkpoint is on this machine, which the report notes.
        steps, guidance, prompt, negative_prompt, seed, size, dilate, feather, evidence, crop, refresh, dense, compile,
            context, window, references: see `RemovalOptions`.
        device, dtype, policy, weights: see `choose_policy`.
        progress: told how far each stage is.
        report: filled with seconds, memory and sizes.
        cache: keep text embeddings on disk.
        memory: GiB that may be taken, host and device together; None is what the machine reports as usable.

    Returns:
        The clean plate: size, frame count, rate and timestamps of the clip, and its very pixels beyond the grown mask.

    Raises:
        InputError: anything given cannot be used; raised before a weight is read.
        LayerliftError: the model returned NaN or infinity.
    """
    clip = as_clip(clip)
    options = RemovalOptions(
        steps=steps,
        guidance=guidance,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        size=size,
        dilate=dilate,
        feather=feather,
        evidence=evidence,
        crop=crop,
        refresh=refresh,
        dense=dense,
        compile=compile,
        context=context,
        window=window,
        references=references,
    )
    rules = choose_policy(device, dtype, policy, weights=weights)
    frames = remove_frames(
        clip,
        mask,
        options,
        model=model,
        policy=rules,
        progress=progress,
        report=report,
        cache=cache,
        memory=check_memory(memory),
    )
    # Everything but the colours stays: timestamps, colour tags, alpha, where the sound comes from.
    return clip.with_colours(np.stack(list(frames)))


def remove_frames(
    clip: Clip | np.ndarray | str | Path,
    mask: Mask | np.ndarray | str | Path,
    options: RemovalOptions | None = None,
    *,
    model: Model | str | Path | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: int | None = None,
    provenance: Provenance | None = None,
) -> Iterator[np.ndarray]:
    """`remove`, one frame at a time: yields (H, W, 3) uint8, as many as the clip has.

    Everything is checked by the time this returns; the work begins with the first frame that is asked for.
    `memory`: bytes that may be taken, host and device together; None is what the machine reports as usable.
    `provenance` is called before each frame is yielded, with where its pixels come from: `State` (H, W) uint8.
    """
    options = options or RemovalOptions()
    report = report or Report()

    # 1. Open: headers, no pixels.
    clip = as_clip(clip)
    mask = as_mask(mask, clip)

    # 2. Check what the user chose, and settle how the model meets the clip; no weight is read.
    if options.evidence not in EVIDENCE:
        raise InputError(f"evidence {options.evidence!r} was asked for: give auto, off or only")
    margin = choose_margin(options, clip)
    references = open_references(options.references, clip, mask, margin.dilate)
    job = None
    if options.evidence != "only":
        opened = require_model(model, OFF) if options.evidence == "off" else choose_model(model, report)
        job = None if opened is None else plan_generation(clip, options, opened, policy, cache, memory=memory)
    report.sizes["clip"] = [clip.width, clip.height, clip.frame_count]
    if job is not None:
        note_job(report, job)
    elif not exemplars_available():
        report.note(
            "What no frame shows is spread from its surroundings, since the package pypatchmatch does not work here; "
            "with it texture would be continued."
        )

    def run() -> Iterator[np.ndarray]:
        # 3. Evidence: what other frames, references among them, show of the hidden pixels.
        shown, masked = apply_references(clip, mask, references)
        found: Evidence | Unsearched = Unsearched(shown, masked, margin.dilate)
        if options.evidence != "off":
            with report.stage("evidence"):
                found = gather_evidence(shown, masked, dilate=margin.dilate, references=references, progress=progress)
            report.results["evidence"] = shares_with(references, found.shares)

        with found, ExitStack() as stack:
            if references:
                report.results["references"] = references_cover(references, found, clip.rate)
            tell = told_references(references, provenance)
            if job is None:
                # 4. Without a model what no frame shows is inpainted.
                assert isinstance(found, Evidence)
                made = told(found.filled_frames(), tell)
            else:
                # 4. Inpaint holes too shallow for a model, and look only at what is left.
                filled, wanted, left = inpaint_shallow(found, job)
                crop = options.evidence != "off" if options.crop is None else options.crop
                near = narrow(job, left(), margin.feather) if crop else job
                note_job(report, near)

                # 5. Generate that, and paste it into the frames.
                if near.policy.cap_memory or memory is not None:
                    stack.enter_context(capped(near.policy, near.plan.request.memory))
                generated = generate(near, wanted, clip.frame_count, progress=progress, report=report)
                made = paste_frames(filled(), generated, margin.feather, near.policy, tell)
            yield from made

    return run()


def plan_generation(
    clip: Clip,
    options: RemovalOptions,
    model: Model | str | Path | None,
    policy: Policy | None,
    cache: bool,
    *,
    memory: int | None = None,
) -> Job:
    """Open the model and settle everything about its run: one size for the picture, windows for the length.

    Raises InputError for what cannot be used; no weight is read.
    """
    model = model if isinstance(model, Model) else open_model(model)
    policy = policy or choose_policy()
    sampling = choose_sampling(options, model)
    prompts = [options.prompt] if sampling.guidance == 1 else [options.negative_prompt, options.prompt]
    model.check_prompts(prompts, policy, cache)
    native = (clip.width, clip.height)
    space = model.geometry.space
    fit = fit_size(native, choose_box(native, model.settings.size, options.size, space), space)
    context = model.settings.context if options.context is None else options.context
    if context < 0:
        raise InputError(
            f"a context of {context} was given: give how many latent frames of other windows to show, or 0"
        )
    choose_speed(policy, 1, refresh=options.refresh, dense=options.dense, compile=options.compile)  # can it be had?
    windows, plan = plan_clip(
        model, fit, clip.frame_count, prompts, policy, window=options.window, memory=memory, sparse=not options.dense,
        context=context, cache=cache,
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


def choose_sampling(options: RemovalOptions, model: Model) -> SamplingSettings:
    """The loop's settings: the user's choice, else the model's.

    Raises:
        InputError: steps or guidance that cannot be used.
    """
    settings = model.settings
    guidance = settings.guidance if options.guidance is None else options.guidance
    if not (isfinite(guidance) and guidance >= 1):
        raise InputError(f"a guidance of {guidance} was given: give a number of at least 1, which is none")
    if options.steps is not None and options.steps < 1:
        raise InputError(f"{options.steps} steps were asked for: give at least 1")
    sigmas = model_sigmas(settings, options.steps)
    return SamplingSettings(tuple(sigmas.tolist()), guidance, settings.stochastic)


def choose_margin(options: RemovalOptions, clip: Clip) -> Margin:
    """How far the mask grows and the result fades in: by default as far as each other, so that no object shows through.

    Raises:
        InputError: a negative number, or a feather that does not fit into what the mask has grown by.
    """
    dilate, feather = options.dilate, options.feather
    for name, value in (("dilate", dilate), ("feather", feather)):
        if value is not None and value < 0:
            raise InputError(f"{name} is {value} pixels: give 0 or more")
    if dilate is None:
        default = max(DILATE_LEAST, round(DILATE_SHARE * min(clip.width, clip.height)))
        dilate = max(default, feather or 0)
    if feather is None:
        feather = dilate
    if feather > dilate:
        raise InputError(
            f"a feather of {feather} pixels does not fit into a mask grown by {dilate}, and the object would show "
            f"through: give a feather of at most {dilate}, or dilate by {feather}"
        )
    return Margin(dilate, feather)


def inpaint_shallow(
    found: Evidence | Unsearched, job: Job
) -> tuple[Callable[[], Frames], Callable[[], Iterator[Wanted]], Callable[[], Iterator[np.ndarray]]]:
    """The evidence's frames with their `State`, with holes inpainted that are too shallow for the job's model; the same
    frames with where the other holes are, (H, W) bool; and that alone. Each of them as often as called."""
    if isinstance(found, Unsearched):
        return found.frames, found.wanted, found.hidden
    scale = job.fit.native[0] / job.fit.scaled[0]
    holes = ShallowHoles(found.states(), job.model.settings.fill_depth * scale)

    def filled() -> Frames:
        return holes.settle(found.frames())

    return (
        filled,
        lambda: ((frame, state == State.UNKNOWN) for frame, state in filled()),
        lambda: (holes.left(index, state) for index, state in enumerate(found.states())),
    )
