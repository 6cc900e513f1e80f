"""Effects: the mask of an object becomes the mask of the object with its shadow and reflection.

Read `find_effects` from top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import cast

import numpy as np
import torch

from layerlift.clip import Clip
from layerlift.device import Policy, choose_policy
from layerlift.device.budget import check_memory, limit
from layerlift.errors import InputError
from layerlift.fit import choose_box, fit_size, fit_windows
from layerlift.masks import Mask
from layerlift.model import Model
from layerlift.pixels import grow
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.stages.choose_model import require_model
from layerlift.stages.effect_clip import EffectPlan, look_at_clip
from layerlift.stages.effect_pixels import (
    Decision,
    cell_side,
    draw_effects,
    keep_effects,
    smooth_in_time,
)
from layerlift.stages.effect_plate import keep_changed
from layerlift.stages.effect_score import choose_prompt, choose_scorer
from layerlift.stages.inputs import as_clip, as_objects
from layerlift.stages.planning import plan_windows
from layerlift.stages.removal import RemovalOptions, plan_generation
from layerlift.stages.spool import FrameSpool

GivenMask = Mask | np.ndarray | str | Path

LOOKING = "finding shadows and reflections"
REFINEMENTS = ("edges", "none", "plate")

# Enough noise that tokens ask the rest of the clip what they are, not so much that they no longer know.
DEFAULT_SIGMAS = (0.4,)

# `plate` first removes more than `edges` would call an effect: what the model leaves as it is falls away again.
GENEROUS = 0.7

# Bytes of frames drawn at a time.
CHUNK_BYTES = 2**27


@dataclass(frozen=True, slots=True)
class EffectOptions:
    """What a user can choose about looking for effects; None is what suits the model or the clip.

    Attributes:
        threshold: scores in [0, 1] from here on are effects.
        sigmas: noise levels in (0, 1) at which the model looks; several are averaged.
        dilate: pixels of the clip by which the result grows.
        temporal_radius: frames to either side over which scores are smoothed.
        max_distance: pixels of the clip; effects further from their object are dropped.
        layers: whose attention counts: "auto", "all" or numbers from 0.
        refine: "edges" draws along the frames' edges, "none" interpolates, "plate" removes once and keeps what changed.
        seed: of the noise.
        size: (width, height) in pixels to work at.
        prompt: what the model is told; None is its word for a scene with objects, if it has one.
    """

    threshold: float | None = None
    sigmas: Sequence[float] = DEFAULT_SIGMAS
    dilate: int = 0
    temporal_radius: int | None = None
    max_distance: float | None = None
    layers: str | Sequence[int] = "auto"
    refine: str = "edges"
    seed: int = 0
    size: tuple[int, int] | None = None
    prompt: str | None = None


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
    clip: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask] | GivenMask,
    *,
    model: Model | str | Path | None = None,
    threshold: float | None = None,
    sigma: float | Sequence[float] = DEFAULT_SIGMAS,
    dilate: int = 0,
    temporal_radius: int | None = None,
    max_distance: float | None = None,
    layers: str | Sequence[int] = "auto",
    refine: str = "edges",
    seed: int = 0,
    size: tuple[int, int] | None = None,
    prompt: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    policy: str | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: float | None = None,
    weights: str = "auto",
) -> Effects:
    """Find what objects cause: their shadows and reflections.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        objects: a mask for each object, or the only one: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path.
        model: an opened `Model`, or what `open_model` takes.
        threshold, dilate, temporal_radius, max_distance, layers, refine, seed, size, prompt: see `EffectOptions`.
        sigma: one noise level or several.
        device, dtype, policy, weights: see `choose_policy`.
        progress: told how far each stage is.
        report: filled with seconds, memory and sizes.
        cache: keep text embeddings on disk.
        memory: GiB that may be taken, host and device together; None is what the machine reports as usable.

    Raises:
        InputError: anything given cannot be used; raised before a weight is read.
        LayerliftError: the model returned NaN or infinity, or memory ran out and no plan is smaller.
    """
    clip = as_clip(clip)
    several = objects if isinstance(objects, list | tuple) else [cast(GivenMask, objects)]
    sigmas = (float(sigma),) if isinstance(sigma, int | float) else tuple(sigma)
    options = EffectOptions(
        threshold, sigmas, dilate, temporal_radius, max_distance, layers, refine, seed, size, prompt
    )
    found = find_effects(
        clip,
        several,
        options,
        model=model,
        policy=choose_policy(device, dtype, policy, weights=weights),
        progress=progress,
        report=report,
        cache=cache,
        memory=check_memory(memory),
    )
    frames = list(found)
    totals = np.stack([frame.totals for frame in frames], 1)  # (n, F, H, W)
    return Effects(
        Mask.from_array(np.asarray(totals.any(0)), f"effects of {clip.name}"),
        tuple(Mask.from_array(own, f"effects of {clip.name}") for own in totals),
        np.stack([frame.effects for frame in frames], 1),
        np.stack([frame.scores for frame in frames], 1),
    )


def find_effects(
    clip: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask],
    options: EffectOptions | None = None,
    *,
    model: Model | str | Path | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: int | None = None,
) -> Iterator[FrameEffects]:
    """`mask`, one frame at a time.

    Everything is checked by the time this returns; the work begins with the first frame that is asked for.
    `memory`: bytes that may be taken, host and device together; None is what the machine reports as usable.
    """
    options, report = options or EffectOptions(), report or Report()

    # 1. Open: headers and settings, no weights.
    clip = as_clip(clip)
    if not objects:
        raise InputError("no object mask was given: give one for every object whose effects are wanted")
    masks = as_objects(objects, clip)
    model = require_model(model, LOOKING)
    policy = policy or choose_policy()

    # 2. Check what the user chose.
    plan = plan_effects(clip, options, model, policy, cache, memory=memory)
    rules = policy
    first = plan_windows(model, plan.fit, plan.windows, [plan.prompt], rules, memory=memory, sparse=False, cache=cache)
    report.sizes |= {
        "clip": [clip.width, clip.height, clip.frame_count],
        "objects": len(masks),
        "scaled": list(plan.fit.scaled),
        "padded": list(plan.fit.padded),
        "windows": [[window.start, window.stop] for window in plan.windows],
    }
    report.results |= {"threshold": plan.decision.threshold, "cell": list(cell_side(plan.fit, plan.geometry))}
    report.results["planned_bytes"] = {need.stage: round(need.total) for need in first.needs}

    def run() -> Iterator[FrameEffects]:
        # 3. Text: what the clip shows.
        with report.stage("text"), progress.stage("text", None):
            text = model.text([plan.prompt], first.policy, cache=cache)[0]

        # 4. Encode every window that has an object in it, and 5. look: how much attends each token to each object?
        with limit(first, asked=memory is not None):
            scores, covered = look_at_clip(
                clip, masks, plan, first, model=model, text=text, seed=options.seed, progress=progress, report=report
            )

        # 6. Decide, on the grid of cells and over the whole clip, what is an effect and what is noise.
        side = cell_side(plan.fit, model.geometry)
        scores = smooth_in_time(torch.from_numpy(scores), plan.temporal_radius).numpy()
        kept = keep_effects(scores, covered, plan.decision, max(side))

        # 7. Draw what was found at the clip's own pixels, and put it together with the objects.
        drawn = draw_chunks(
            clip, masks, kept, plan.decision, side=side, device=rules.device, progress=progress, report=report
        )
        if options.refine == "plate":
            removal = RemovalOptions(seed=options.seed, size=options.size)
            drawn = keep_changed(
                clip,
                drawn,
                removal,
                model=model,
                policy=rules,
                progress=progress,
                report=report,
                cache=cache,
                memory=memory,
            )
        for index, (own, effects) in enumerate(drawn):
            yield FrameEffects(own, effects, join(own, effects, options.dilate), scores[:, index])

    return run()


def find_total_mask(
    clip: Clip,
    objects: Sequence[GivenMask],
    spool: FrameSpool,
    options: EffectOptions | None = None,
    *,
    model: Model | str | Path | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: int | None = None,
) -> Mask:
    """All objects with their effects as the one mask that removal wants; it lives as long as the spool.

    Raises as `find_effects`, before a weight is read.
    """
    found = find_effects(
        clip,
        objects,
        options,
        model=model,
        policy=policy,
        progress=progress,
        report=report,
        cache=cache,
        memory=memory,
    )
    for frame in found:
        spool.append(np.asarray(frame.totals.any(0)))
    return Mask(clip.width, clip.height, clip.frame_count, spool.frames, name="objects and effects")


def plan_effects(
    clip: Clip, options: EffectOptions, model: Model, policy: Policy, cache: bool, *, memory: int | None = None
) -> EffectPlan:
    """Settle the model's settings, and how clip and model meet; `memory`: bytes that a removal it needs may take.

    Raises InputError for what cannot be used; no weight is read.
    """
    if options.refine not in REFINEMENTS:
        raise InputError(f"refine {options.refine!r} was asked for: give {', '.join(REFINEMENTS)}")
    if options.threshold is not None and not 0 < options.threshold <= 1:
        raise InputError(f"a threshold of {options.threshold} was given: give a number above 0 and up to 1")
    if not options.sigmas or not all(isfinite(sigma) and 0 < sigma < 1 for sigma in options.sigmas):
        given = ", ".join(str(sigma) for sigma in options.sigmas) or "none"
        raise InputError(f"sigma {given} cannot be used: give numbers between 0 and 1, such as {DEFAULT_SIGMAS[0]}")
    for name, value in (
        ("dilate", options.dilate),
        ("temporal radius", options.temporal_radius),
        ("max distance", options.max_distance),
    ):
        if value is not None and not value >= 0:
            raise InputError(f"{name} is {value}: give 0 or more")
    scorer = choose_scorer(model, options.layers)
    prompt = choose_prompt(model) if options.prompt is None else options.prompt
    model.check_prompts([prompt], policy, cache)
    if options.refine == "plate":
        plan_generation(clip, RemovalOptions(seed=options.seed, size=options.size), model, policy, cache, memory=memory)

    native = (clip.width, clip.height)
    space, time = model.geometry.space, model.geometry.time
    radius = time // 2 if options.temporal_radius is None else options.temporal_radius
    threshold = scorer.threshold if options.threshold is None else options.threshold
    if options.refine == "plate":
        threshold *= GENEROUS
    return EffectPlan(
        scorer=scorer,
        sigmas=tuple(options.sigmas),
        prompt=prompt,
        temporal_radius=radius,
        decision=Decision(threshold, scorer.clear, options.max_distance, edges=options.refine != "none"),
        geometry=model.geometry,
        fit=fit_size(native, choose_box(native, model.settings.size, options.size, space), space),
        windows=fit_windows(clip.frame_count, model.settings.frames, time),
    )


def draw_chunks(
    clip: Clip,
    masks: Sequence[Mask],
    scores: np.ndarray,
    decision: Decision,
    *,
    side: tuple[float, float],
    device: str,
    progress: Progress,
    report: Report,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the clip again; for every frame objects and effects, (n, H, W) bool each. Draws a few frames at a time."""
    length = max(1, CHUNK_BYTES // (clip.width * clip.height * (3 + 2 * len(masks))))
    reading = zip(clip.frames(), *(given.frames() for given in masks), strict=True)
    with report.stage("draw"), progress.stage("draw", clip.frame_count) as bar:
        for start in range(0, clip.frame_count, length):
            items = list(islice(reading, length))
            frames = np.stack([frame for frame, *_ in items])
            objects = np.stack([np.stack(own) for _, *own in items], 1)  # (n, F, H, W)
            effects = draw_effects(
                torch.from_numpy(frames).to(device),
                torch.from_numpy(objects).to(device),
                torch.from_numpy(scores[:, start : start + len(items)]).to(device),
                decision,
                side=side,
            )
            bar.advance(len(items))
            yield from zip(objects.swapaxes(0, 1), effects.cpu().numpy().swapaxes(0, 1), strict=True)


def join(objects: np.ndarray, effects: np.ndarray, dilate: int) -> np.ndarray:
    """Each object with its effects, grown, but never over another object: (n, H, W) bool."""
    if dilate == 0:
        return objects | effects  # no effect lies on an object
    totals = np.stack([grow(total, dilate) for total in objects | effects])
    others = objects.sum(0, dtype=np.uint8) > objects  # (n, H, W)
    return objects | (totals & ~others)
