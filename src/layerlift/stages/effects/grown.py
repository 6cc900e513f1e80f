"""Without a model nobody looks for shadows and reflections: the object masks, grown, stand for objects with effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerlift.clip import Clip
from layerlift.masks import Mask
from layerlift.stages.effects import with_effects
from layerlift.stages.spool import FrameSpool

# Masks grow by this share of the picture's shorter side: 12 pixels at 480, 27 at 1080. That takes in soft edges, motion
# blur, glow and the shadow at the feet. A shadow that is cast farther is no matter of growing.
GROWTH_SHARE = 1 / 40
GROWTH_LEAST = 2


def growth(clip: Clip) -> int:
    """Pixels by which the object masks of a clip grow."""
    return max(GROWTH_LEAST, round(GROWTH_SHARE * min(clip.width, clip.height)))


def grown_objects(clip: Clip, objects: Sequence[Mask]) -> Iterator[np.ndarray]:
    """Each object's grown mask, but never over another object: (n, H, W) bool for every frame."""
    pixels = growth(clip)
    for masks in zip(*(mask.frames() for mask in objects), strict=True):
        own = np.stack(masks)
        yield with_effects(own, np.zeros_like(own), pixels)


def grown_total_mask(clip: Clip, objects: Sequence[Mask], spool: FrameSpool) -> Mask:
    """All grown objects as the one mask that removal wants; it lives as long as the spool."""
    for totals in grown_objects(clip, objects):
        spool.append(np.asarray(totals.any(0)))
    return Mask(clip.width, clip.height, clip.frame_count, spool.frames, name="grown objects")


def growth_note(clip: Clip) -> str:
    """What stands for the total masks, as a sentence for the user."""
    return (
        f"No model is available to find shadows and reflections, so the object masks are only grown by {growth(clip)} "
        "pixels; if that is not enough, give a mask that includes the effects."
    )
