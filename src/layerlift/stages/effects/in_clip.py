"""Effects as the clip itself tells them, and the model where the clip cannot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerlift.engine.finder import KINDS
from layerlift.finder.decide import STEADY, decide, kinds_of, names_of, wanted
from layerlift.finder.find import STEPS, look
from layerlift.finder.small import small_size
from layerlift.pixels.effects import Decision, cell_side
from layerlift.stages.effects.brushes import brushed
from layerlift.stages.effects.plan import EffectPlan
from layerlift.stages.effects.result import Found, draw_chunks
from layerlift.stages.effects.votes import small_votes, with_votes

# What the clip itself tells is finer than a model's cells: the filter that follows edges works on half of its pixels.
GUIDE_CELLS = 2.0


def find_in_clip(plan: EffectPlan, kept: np.ndarray | None) -> Iterator[Found]:
    """Look at the clip itself, hear the model where it cannot tell, and decide; window by window.

    `kept` (n, F, h, w) float32 are scores of the cells that the model calls effects; None without a model.
    """
    clip, options, report = plan.clip, plan.options, plan.runtime.report
    size = small_size(clip)
    side = plan.side
    decision = Decision(plan.threshold, edges=options.refine != "none", guide_cells=GUIDE_CELLS)
    counts = np.zeros((len(plan.masks), len(KINDS)))
    radius = STEADY if options.temporal_radius is None else options.temporal_radius
    far = None if options.max_distance is None else options.max_distance / side[0]
    with report.stage("clip"), plan.runtime.progress.stage("clip", STEPS * clip.frame_count) as bar:
        for start, stop, seen in look(clip, plan.masks, bar):
            likely = wanted(seen.likely, options.kinds)
            if kept is not None and plan.attention is not None:
                there = slice(seen.first, seen.first + likely.shape[1])
                cells = cell_side(plan.attention.fit, plan.attention.model.geometry)
                votes = small_votes(kept[:, there], cells, size, (clip.width, clip.height))
                likely = with_votes(likely, seen, votes, plan.attention.decision.threshold)
            likely = brushed(likely, seen.objects, plan.brushes, seen.first)
            decided = decide(likely, seen.objects, threshold=plan.threshold, steady=radius, max_distance=far)
            now = slice(start - seen.first, stop - seen.first)
            counts += kinds_of(decided[:, now], seen.likely[:, now], plan.threshold)
            drawing = draw_chunks(
                clip, plan.masks, decided[:, now], start, decision, side=side, device=plan.runtime.policy.device
            )
            for index, (own, effects) in enumerate(drawing, start - seen.first):
                witnesses = (seen.strength[:, index], seen.change[index], seen.known[index])
                yield Found(own, effects, decided[:, index], *witnesses)
    report.results["kinds"] = names_of(counts)
