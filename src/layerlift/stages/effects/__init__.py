"""Effects: the mask of an object becomes the mask of the object with its shadow and reflection.

Read `plan_effects`, then `run_effects`, from top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite
from typing import Any, get_args

import numpy as np

from layerlift.engine.device.budget import limit
from layerlift.engine.planning import plan_windows
from layerlift.errors import InputError
from layerlift.geometry.fit import choose_box, fit_size, fit_windows
from layerlift.masks import Mask, union_masks
from layerlift.options import DEFAULT_SIGMAS, EffectOptions, Refinement, RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.pixels.effects import (
    Decision,
    cell_side,
    drawn,
    keep_effects,
    smoothed,
)
from layerlift.runtime import Runtime, chosen
from layerlift.stages.choose_model import require_model
from layerlift.stages.effects.look import EffectPlan, look_at_clip
from layerlift.stages.effects.plate import keep_changed
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_objects
from layerlift.stages.removal import plan_removal
from layerlift.stages.spool import FrameSpool

LOOKING = "finding shadows and reflections"

# `plate` first removes more than `edges` would call an effect: what the model leaves as it is falls away again.
GENEROUS = 0.7

# Bytes of frames drawn at a time.
CHUNK_BYTES = 2**27


@dataclass(frozen=True, slots=True)
class FrameEffects:
    """One frame's result.

    Attributes:
        objects: (n, H, W) bool, as given.
        effects: (n, H, W) bool, what each object causes: outside of every object, and of one object each.
        totals: (n, H, W) bool, each object with its effects, grown by what was asked for.
        scores: (n, h, w) float32 in [0, 1], of the model's cells.
    """

    objects: np.ndarray
    effects: np.ndarray
    totals: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Effects:
    """A clip's result in memory; n objects.

    Attributes:
        total: all objects with their effects.
        totals: each object with its effects.
        effects: (n, F, H, W) bool, see `FrameEffects`.
        scores: (n, F, h, w) float32 in [0, 1], of the model's cells.
    """

    total: Mask
    totals: tuple[Mask, ...]
    effects: np.ndarray
    scores: np.ndarray


def mask(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Effects:
    """Find the effects of objects: their shadows and reflections.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        objects: one mask per object, or a single mask: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `EffectOptions`, which override `options`, and, without a
            `runtime`, fields of `RuntimeOptions`, `progress` and `report`.

    Returns:
        The masks of all frames, in memory; `find_effects` yields them frame by frame.

    Raises:
        InputError: something given cannot be used; raised before any weight is read.
        LayerliftError: the model returned NaN or infinity, or memory ran out and no smaller plan exists.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(EffectOptions, options, runtime, choices)
    plan = plan_effects(clip, objects, options, runtime)
    frames = list(run_effects(plan))
    totals = np.stack([frame.totals for frame in frames], 1)  # (n, F, H, W)
    name = f"effects of {plan.clip.name}"
    return Effects(
        Mask.from_array(np.asarray(totals.any(0)), name),
        tuple(Mask.from_array(own, name) for own in totals),
        np.stack([frame.effects for frame in frames], 1),
        np.stack([frame.scores for frame in frames], 1),
    )


def find_effects(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
) -> Iterator[FrameEffects]:
    """`mask`, one frame at a time: yields as many as the clip has.

    Everything is checked by the time this returns; the work begins when the first frame is requested.

    Raises InputError as `plan_effects`, and LayerliftError, while frames are being read, as `run_effects`.
    """
    return run_effects(plan_effects(clip, objects, options, runtime))


def plan_effects(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
    plate: RemovalOptions | None = None,
) -> EffectPlan:
    """Open and check everything, and plan how the model sees the clip; no weight is read. Takes `mask`'s arguments.

    `plate`: choices for the clean plate that ``refine="plate"`` compares with; None uses the seed and size of
    `options`.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or EffectOptions(), runtime or Runtime()
    # 1. Open: headers and settings.
    clip = as_clip(clip)
    masks = as_objects(objects, clip)
    if not masks:
        raise InputError("no object mask was given: give one for each object whose effects you want")
    model = require_model(runtime, LOOKING)

    # 2. Check what the user chose.
    check_effects(options)
    scorer = model.scorer(options.layers)
    prompt = model.scoring_prompt() if options.prompt is None else options.prompt
    model.check_prompts([prompt], runtime.policy, runtime.cache)
    removal = None
    if options.refine == "plate":
        plate = plate or RemovalOptions(seed=options.seed, size=options.size)
        removal = plan_removal(clip, union_masks(masks), plate, replace(runtime, model=model))

    # 3. How clip and model meet, in the memory there is.
    native = (clip.width, clip.height)
    space, time = model.geometry.space, model.geometry.time
    fit = fit_size(native, choose_box(native, model.settings.size, options.size, space), space)
    windows = fit_windows(clip.frame_count, model.settings.frames, time)
    memory = plan_windows(
        model, fit, windows, [prompt], runtime.policy, memory=runtime.memory_bytes, sparse=False, cache=runtime.cache
    )
    threshold = scorer.threshold if options.threshold is None else options.threshold
    if options.refine == "plate":
        threshold *= GENEROUS
    return EffectPlan(
        clip=clip,
        masks=masks,
        options=options,
        model=model,
        scorer=scorer,
        prompt=prompt,
        temporal_radius=time // 2 if options.temporal_radius is None else options.temporal_radius,
        decision=Decision(threshold, scorer.clear, options.max_distance, edges=options.refine != "none"),
        fit=fit,
        windows=windows,
        memory=memory,
        removal=removal,
        runtime=runtime,
    )


def check_effects(options: EffectOptions) -> None:
    """Raises InputError for a choice that makes no sense whatever the clip is."""
    if options.refine not in get_args(Refinement):
        raise InputError(f"unknown --refine {options.refine!r}: choose {', '.join(get_args(Refinement))}")
    if options.threshold is not None and not 0 < options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}: give a number above 0 and up to 1")
    if not options.sigmas or not all(isfinite(sigma) and 0 < sigma < 1 for sigma in options.sigmas):
        given = ", ".join(str(sigma) for sigma in options.sigmas) or "none"
        raise InputError(f"--sigma is {given}: give numbers between 0 and 1, such as {DEFAULT_SIGMAS[0]}")
    for name, value in (
        ("--dilate", options.dilate),
        ("--temporal-radius", options.temporal_radius),
        ("--max-distance", options.max_distance),
    ):
        if value is not None and not value >= 0:
            raise InputError(f"{name} is {value}: give 0 or more")


def run_effects(plan: EffectPlan) -> Iterator[FrameEffects]:
    """Yield the objects and their effects, frame by frame.

    Raises LayerliftError when the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    clip, model, report, progress = plan.clip, plan.model, plan.runtime.report, plan.runtime.progress
    side = cell_side(plan.fit, model.geometry)
    report.sizes |= {
        "clip": [clip.width, clip.height, clip.frame_count],
        "objects": len(plan.masks),
        "scaled": list(plan.fit.scaled),
        "padded": list(plan.fit.padded),
        "windows": [[window.start, window.stop] for window in plan.windows],
    }
    report.results |= {"threshold": plan.decision.threshold, "cell": list(side)}
    report.results["planned_bytes"] = {need.stage: round(need.total) for need in plan.memory.needs}

    # 1. Text: what the clip shows.
    with report.stage("text"), progress.stage("text", None) as bar:
        prompts = model.prompts([plan.prompt], plan.memory.policy, plan.runtime.cache, bar)

    # 2. Encode every window that has an object in it, and look: how much attends each token to each object?
    with limit(plan.memory, asked=plan.runtime.memory_bytes is not None):
        scores, covered = look_at_clip(plan, prompts)

    # 3. Decide, on the grid of cells and over the whole clip, what is an effect and what is noise.
    scores = smoothed(scores, plan.temporal_radius)
    kept = keep_effects(scores, covered, plan.decision, max(side))

    # 4. Draw what was found at the clip's own pixels, and put it together with the objects.
    found = draw_chunks(plan, kept)
    if plan.removal is not None:
        found = keep_changed(plan.removal, found)
    for index, (own, effects) in enumerate(found):
        yield FrameEffects(own, effects, with_effects(own, effects, plan.options.dilate), scores[:, index])


def total_mask(plan: EffectPlan, spool: FrameSpool) -> Mask:
    """All objects with their effects as the one mask that removal wants; it lives as long as the spool.

    Raises as `run_effects`.
    """
    for frame in run_effects(plan):
        spool.append(np.asarray(frame.totals.any(0)))
    return Mask(plan.clip.width, plan.clip.height, plan.clip.frame_count, spool.frames, name="objects and effects")


def draw_chunks(plan: EffectPlan, scores: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the clip again; for every frame objects and effects, (n, H, W) bool each. Draws a few frames at a time.

    Scores (n, F, h, w) float32 are those of the cells that were kept.
    """
    clip, masks, device = plan.clip, plan.masks, plan.runtime.policy.device
    side = cell_side(plan.fit, plan.model.geometry)
    length = max(1, CHUNK_BYTES // (clip.width * clip.height * (3 + 2 * len(masks))))
    reading = zip(clip.frames(), *(given.frames() for given in masks), strict=True)
    with plan.runtime.report.stage("draw"), plan.runtime.progress.stage("draw", clip.frame_count) as bar:
        for start in range(0, clip.frame_count, length):
            items = list(islice(reading, length))
            frames = np.stack([frame for frame, *_ in items])
            objects = np.stack([np.stack(own) for _, *own in items], 1)  # (n, F, H, W)
            own = scores[:, start : start + len(items)]
            effects = drawn(frames, objects, own, plan.decision, side=side, device=device)
            bar.advance(len(items))
            yield from zip(objects.swapaxes(0, 1), effects.swapaxes(0, 1), strict=True)


def with_effects(objects: np.ndarray, effects: np.ndarray, dilate: int) -> np.ndarray:
    """Each object with its effects, grown, but never over another object: (n, H, W) bool."""
    if dilate == 0:
        return objects | effects  # no effect lies on an object
    totals = np.stack([grow(total, dilate) for total in objects | effects])
    others = objects.sum(0, dtype=np.uint8) > objects  # (n, H, W)
    return objects | (totals & ~others)
