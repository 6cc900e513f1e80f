"""Effects: the mask of an object becomes the mask of the object with what it causes.

Read `plan_effects` in `plan`, then `run_effects`, from top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from layerlift.engine.finder import KINDS
from layerlift.finder.decide import names_of
from layerlift.masks import Mask
from layerlift.options import EffectOptions
from layerlift.runtime import Runtime, chosen
from layerlift.stages.effects.brushes import GivenBrush
from layerlift.stages.effects.by_model import attend, find_by_model
from layerlift.stages.effects.in_clip import find_in_clip
from layerlift.stages.effects.plan import EffectPlan, plan_effects
from layerlift.stages.effects.plate import keep_changed
from layerlift.stages.effects.result import Effects, FrameEffects, with_effects, with_painted
from layerlift.stages.inputs import GivenClip, GivenMask
from layerlift.stages.spool import FrameSpool

__all__ = ["EffectPlan", "Effects", "FrameEffects", "find_effects", "mask", "plan_effects", "run_effects", "total_mask"]


def mask(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
    *,
    effects: Sequence[GivenBrush] = (),
    not_effects: Sequence[GivenBrush] = (),
    **choices: Any,
) -> Effects:
    """Find the effects of objects: their shadows and reflections, the light and the smoke that they cause.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        objects: one mask per object, or a single mask: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        effects: what is an effect whatever was found: masks for all frames, or pairs of a mask and the number of the
            only frame it is for, which the frames near it follow. Frames count from 0, in the whole clip if this one
            was cut from it.
        not_effects: what is none, in the same way.
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
    plan = plan_effects(clip, objects, options, runtime, effects=effects, not_effects=not_effects)
    frames = list(run_effects(plan))
    totals = np.stack([frame.totals for frame in frames], 1)  # (n, F, H, W)
    name = f"effects of {plan.clip.name}"
    counts = [frame.kinds for frame in frames if frame.kinds is not None]
    kinds = tuple(names_of(np.sum(counts, 0))) if counts else ()
    return Effects(
        Mask.from_array(np.asarray(totals.any(0)), name),
        tuple(Mask.from_array(own, name) for own in totals),
        np.stack([frame.effects for frame in frames], 1),
        np.stack([frame.scores for frame in frames], 1),
        kinds,
    )


def find_effects(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
    *,
    effects: Sequence[GivenBrush] = (),
    not_effects: Sequence[GivenBrush] = (),
) -> Iterator[FrameEffects]:
    """`mask`, one frame at a time: yields as many as the clip has.

    Everything is checked by the time this returns; the work begins when the first frame is requested.

    Raises InputError as `plan_effects`, and LayerliftError, while frames are being read, as `run_effects`.
    """
    return run_effects(plan_effects(clip, objects, options, runtime, effects=effects, not_effects=not_effects))


def run_effects(plan: EffectPlan, start: int = 0) -> Iterator[FrameEffects]:
    """Yield the objects and their effects, frame by frame, from frame `start` on.

    Raises LayerliftError when the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    clip, report = plan.clip, plan.runtime.report
    report.sizes |= {"clip": [clip.width, clip.height, clip.frame_count], "objects": len(plan.masks)}
    report.results["threshold"] = plan.threshold
    for note in plan.notes:
        report.note(note)

    # 1. The model: how much attends each place to each object?
    scores = kept = None
    if plan.attention is not None:
        scores, kept = attend(plan.attention)

    # 2. What the clip itself tells, and what the model adds to it; or the model alone.
    def find(first: int) -> Iterator[FrameEffects]:
        if plan.in_clip:
            return find_in_clip(plan, kept, first)
        assert plan.attention is not None
        assert scores is not None
        assert kept is not None
        return find_by_model(plan.attention, scores, kept, first)

    # 3. What the clean plate leaves as it is was no effect; what the user painted holds.
    found = find(start) if plan.removal is None else keep_changed(plan.removal, find, start)
    yield from finished(plan, found, scores, start)


def finished(
    plan: EffectPlan, found: Iterable[FrameEffects], scores: np.ndarray | None, start: int = 0
) -> Iterator[FrameEffects]:
    """Results frame by frame, from frame `start` on: with what was painted, and each object with its effects.

    The report gets their kinds.
    """
    brushes = plan.brushes
    painting = zip(*(brush.mask.frames(start) for brush in brushes), strict=True) if brushes else repeat(())
    with plan.runtime.keeper.shelf("kinds") as counted:
        for index, (frame, masks) in enumerate(zip(found, painting, strict=False), start):
            own, effects, less = frame.objects, frame.effects, np.zeros(frame.objects.shape[1:], bool)
            for brush, mask in zip(brushes, masks, strict=True):
                painted = brush.painted(index, mask)
                if brush.adds:
                    effects = with_painted(own, effects, painted)
                else:
                    less |= painted
            totals = own | with_effects(own, effects & ~less, plan.options.dilate) & ~less
            attention = None if scores is None else scores[:, index]
            if frame.kinds is not None:
                counted.put(index, frame.kinds)
            yield replace(frame, effects=effects & ~less, totals=totals, attention=attention)
        if plan.in_clip:
            kinds = (counted.get(index)[0] for index in range(len(counted)))
            plan.runtime.report.results["kinds"] = names_of(sum(kinds, np.zeros((len(plan.masks), len(KINDS)))))


def total_mask(plan: EffectPlan, spool: FrameSpool) -> Mask:
    """All objects with their effects as the one mask that removal wants; it lives as long as the spool.

    Raises as `run_effects`.
    """
    for frame in run_effects(plan, len(spool)):
        spool.append(np.asarray(frame.totals.any(0)))
    return Mask(plan.clip.width, plan.clip.height, plan.clip.frame_count, spool.frames, name="objects and effects")
