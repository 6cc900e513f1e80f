"""Effects as the clip itself tells them, and the model where the clip cannot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerlift.finder.decide import STEADY, decide, kinds_of, wanted
from layerlift.finder.find import STEPS, Seen, look
from layerlift.pixels.effects import Decision, cell_side
from layerlift.stages.effects.brushes import brushed
from layerlift.stages.effects.look import AttentionPlan
from layerlift.stages.effects.plan import EffectPlan
from layerlift.stages.effects.result import FrameEffects, draw_chunks
from layerlift.stages.effects.votes import small_votes, with_votes

# What the clip itself tells is finer than a model's cells: the filter that follows edges works on half of its pixels.
GUIDE_CELLS = 2.0


def find_in_clip(plan: EffectPlan, kept: np.ndarray | None, begin: int = 0) -> Iterator[FrameEffects]:
    """Look at the clip itself, hear the model where it cannot tell, and decide, window by window.

    Frames are yielded from `begin` on.

    `kept` (n, F, h, w) float32 are scores of the cells that the model calls effects; None without a model.
    """
    clip, options, report = plan.clip, plan.options, plan.runtime.report
    decision = Decision(plan.threshold, edges=options.refine != "none", guide_cells=GUIDE_CELLS)
    device = plan.runtime.policy.device
    radius = STEADY if options.temporal_radius is None else options.temporal_radius
    far = None if options.max_distance is None else options.max_distance / plan.side[0]
    with report.stage("clip"), plan.runtime.progress.stage("clip", STEPS * clip.frame_count) as bar:
        for start, stop, seen in look(clip, plan.masks, bar, plan.seen or plan.runtime.keeper, begin):
            likely = wanted(seen.likely, options.kinds)
            if kept is not None and plan.attention is not None:
                likely = heard(plan.attention, likely, seen, kept)
            likely = brushed(likely, seen.objects, plan.brushes, seen.first)
            decided = decide(likely, seen.objects, threshold=plan.threshold, steady=radius, max_distance=far)
            # What was painted need not last, nor lie near.
            painted = brushed(np.zeros_like(likely), seen.objects, plan.brushes, seen.first)
            decided = np.where(painted >= plan.threshold, np.maximum(decided, painted), decided)
            part = decided[:, start - seen.first : stop - seen.first]
            drawing = draw_chunks(clip, plan.masks, part, start, decision, side=plan.side, device=device, begin=begin)
            for at, (own, effects) in enumerate(drawing, max(start, begin) - seen.first):
                yield FrameEffects(
                    own,
                    effects,
                    own | effects,
                    decided[:, at],
                    strength=seen.strength[:, at],
                    change=seen.change[at],
                    known=seen.known[at],
                    kinds=kinds_of(decided[:, at], seen.likely[:, at], plan.threshold),
                )


def heard(plan: AttentionPlan, likely: np.ndarray, seen: Seen, kept: np.ndarray) -> np.ndarray:
    """How likely effects are, (n, F, h, w) float32, once the model was heard on a window's frames."""
    frames, height, width = likely.shape[1:]
    cells = cell_side(plan.fit, plan.model.geometry)
    now = kept[:, seen.first : seen.first + frames]
    votes = small_votes(now, cells, (width, height), (plan.clip.width, plan.clip.height))
    return with_votes(likely, seen, votes, plan.decision.threshold)
