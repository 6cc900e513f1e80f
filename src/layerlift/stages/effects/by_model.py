"""Effects as the attention of a model tells them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerlift.engine.device.budget import limit
from layerlift.pixels.effects import cell_side, keep_effects, smoothed
from layerlift.stages.effects.look import AttentionPlan, look_at_clip
from layerlift.stages.effects.result import FrameEffects, draw_chunks


def attend(plan: AttentionPlan) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the model's cells, (n, F, h, w) float32, and the same with those set to 0 that are no effects."""
    model, report, progress = plan.model, plan.runtime.report, plan.runtime.progress
    report.sizes |= {
        "scaled": list(plan.fit.scaled),
        "padded": list(plan.fit.padded),
        "windows": [[window.start, window.stop] for window in plan.windows],
    }
    report.results["cell"] = list(cell_side(plan.fit, model.geometry))
    report.results["planned_bytes"] = {need.stage: round(need.total) for need in plan.memory.needs}
    with plan.runtime.keeper.shelf("attended") as shelf:
        if 0 not in shelf:
            with report.stage("text"), progress.stage("text", None) as bar:
                prompts = model.prompts([plan.prompt], plan.memory.policy, plan.runtime.cache, bar)
            with limit(plan.memory, asked=plan.runtime.memory_bytes is not None):
                shelf.put(0, *look_at_clip(plan, prompts))
        scores, covered = shelf.get(0)
    scores = smoothed(scores, plan.temporal_radius)
    # Decide on the small grid of cells and over the whole clip what is an effect and what is noise.
    kept = keep_effects(scores, covered, plan.decision, max(cell_side(plan.fit, model.geometry)))
    return scores, kept


def find_by_model(plan: AttentionPlan, scores: np.ndarray, kept: np.ndarray, start: int = 0) -> Iterator[FrameEffects]:
    """Draw what the model calls effects, from frame `start` on; takes what `attend` returns."""
    side = cell_side(plan.fit, plan.model.geometry)
    clip = plan.clip
    with plan.runtime.report.stage("draw"), plan.runtime.progress.stage("draw", clip.frame_count) as bar:
        plan.runtime.keeper.skip(bar, "draw", start)
        device = plan.runtime.policy.device
        drawing = draw_chunks(clip, plan.masks, kept, 0, plan.decision, side=side, device=device, begin=start)
        for index, (own, effects) in enumerate(drawing, start):
            bar.advance()
            yield FrameEffects(own, effects, own | effects, scores[:, index])
