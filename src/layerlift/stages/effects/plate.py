"""Effects sharpened by what removal shows: what is gone from the clean plate was there, and what stayed was not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from layerlift.masks import Mask, match_mask
from layerlift.stages.effects.result import FrameEffects
from layerlift.stages.removal import RemovalPlan, run_removal

# Differences are averaged over a few pixels before they count: an effect darkens its neighbours alike, while the
# grain that a model cannot know has both signs. Share of the picture's shorter side, and pixels at least.
BLUR_SHARE = 1 / 160
BLUR_LEAST = 1.0

# The least change that counts, in levels of 255; and how many times the grain's own size it must be.
LEAST_CHANGE = 4.0
GRAIN_FACTOR = 1.0

# An effect fades out softly: it reaches from where the change is this many times the floor down to the floor.
CERTAIN = 2.0

MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def keep_changed(
    plan: RemovalPlan, draw: Callable[[int], Iterable[FrameEffects]], start: int = 0
) -> Iterator[FrameEffects]:
    """Remove objects and generous effects once, and keep of the effects what changed; yields frames from `start` on.

    `plan` was made for the objects alone. `draw` yields what was found in every frame, from a number on.
    """
    clip = plan.clip
    with plan.runtime.keeper.shelf("drawn") as drawn:
        for index, found in enumerate(draw(len(drawn)), len(drawn)):
            drawn.put(index, *found.pack())

        def hidden(first: int, stop: int) -> Iterator[np.ndarray]:
            for index in range(first, stop):
                own, effects, *_ = drawn.get(index)
                yield np.asarray((own | effects).any(0))

        generous = match_mask(Mask(clip.width, clip.height, clip.frame_count, hidden, name="objects and effects"), clip)
        plate = run_removal(plan.with_mask(generous), start=start)
        for index, (frame, clean) in enumerate(zip(clip.frames(start), plate, strict=True), start):
            found = FrameEffects.unpack(drawn.get(index))
            kept = found.effects & what_changed(frame, clean, np.asarray(found.effects.any(0)))
            yield replace(found, effects=kept, totals=found.objects | kept)


def what_changed(frame: np.ndarray, clean: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Pixels of `where` (H, W) bool in which a frame differs from its clean plate, both (H, W, 3) uint8, beyond noise.

    The floor follows the grain: where the plate's texture is not the clip's, single pixels differ everywhere.
    """
    if not where.any():
        return where
    difference = frame.astype(np.float32) - clean.astype(np.float32)
    sigma = max(BLUR_LEAST, BLUR_SHARE * min(where.shape))
    # Normalised by what counts: the object's own change must not leak into its surroundings.
    weight = cv2.GaussianBlur(where.astype(np.float32), (0, 0), sigma)
    blurred = cv2.GaussianBlur(difference * where[..., None], (0, 0), sigma) / np.maximum(weight, 1e-3)[..., None]
    change = np.abs(blurred).max(-1)
    grain = MAD_TO_DEVIATION * float(np.median(np.abs(difference - blurred)[where]))
    floor = max(LEAST_CHANGE, GRAIN_FACTOR * grain)
    faint = where & (change > floor)
    _, labels = cv2.connectedComponents(faint.astype(np.uint8), connectivity=8)
    certain = np.unique(labels[where & (change > CERTAIN * floor)])
    return faint & np.isin(labels, certain[certain > 0])
