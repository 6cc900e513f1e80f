"""An object that stands is seen again in water or on a floor: its reflection is the object upside down.

Where nothing moves no other frame shows the place without it. But the object's own detail comes back below it, in the
same order: what correlates with it is its reflection.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from layerlift.finder.inputs import mirror
from layerlift.finder.travel import Place

# How far below the object it may begin, in the object's units, and in how many frames that is looked for.
FARTHEST, FRAMES = 0.5, 16
# Detail is what differs from its surroundings of so many pixels; it is compared over so many, and so many frames.
DETAIL, NEARBY, STEADY = 6.0, 5.0, 8
# From this correlation on an object is mirrored: of 20 others none reaches 0.22, of 6 mirrored ones none is below 0.4.
MIRRORED = 0.3
# From this correlation on a place shows it, and how likely that is at least.
SHOWS, LIKELY = 0.1, 0.45
LEAST = 60  # pixels that can be compared


def reflection_of(
    frames: np.ndarray, masks: np.ndarray, where: Sequence[Place | None]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where an object is mirrored: how likely that is and how strongly it is seen, (F, H, W) float32 in [0, 1].

    Takes frames (F, H, W, 3) uint8, the object's masks (F, H, W) bool and its places. None where it is not mirrored.
    """
    details = np.stack([detail(frame) for frame in frames])
    gap, correlation = best_gap(details, masks, where)
    if correlation < MIRRORED:
        return None
    moments = np.zeros((len(frames), 3, *masks.shape[1:]), np.float32)
    shown = np.zeros_like(masks)
    for index, place in enumerate(where):
        if place is not None:
            there, shown[index] = mirror(details[index], masks[index], place, gap)
            moments[index] = local_moments(there, details[index], shown[index])
    likely, strength = np.zeros(masks.shape, np.float32), np.zeros(masks.shape, np.float32)
    for index, own in enumerate(shown):
        both, object_, picture = moments[max(0, index - STEADY) : index + STEADY + 1].mean(0)
        alike = both / np.sqrt(object_ * picture + 1)
        likely[index] = np.where(own & (alike > SHOWS), np.clip(LIKELY + alike, 0, 0.95), 0)
        strength[index] = np.where(own, np.sqrt(np.clip(picture / (object_ + 1), 0, 1)), 0)
    return likely, strength


def detail(frame: np.ndarray) -> np.ndarray:
    """What a frame (H, W, 3) uint8 has of fine shades of grey, (H, W) float32."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), DETAIL)


def best_gap(details: np.ndarray, masks: np.ndarray, where: Sequence[Place | None]) -> tuple[int, float]:
    """How many pixels below an object its reflection begins, and its mean correlation with the object there."""
    there = [index for index, place in enumerate(where) if place is not None]
    chosen = [there[at] for at in np.unique(np.linspace(0, len(there) - 1, FRAMES).astype(int))]
    unit = float(np.median([place.unit for place in where if place is not None]))
    gaps = range(round(FARTHEST * unit) + 1)
    alike = np.full((len(gaps), len(chosen)), np.nan)
    for column, index in enumerate(chosen):
        place, picture, mask = where[index], details[index], masks[index]
        assert place is not None
        for gap in gaps:
            upside_down, shown = mirror(picture, mask, place, gap)
            if shown.sum() >= LEAST:
                one, other = upside_down[shown], picture[shown]
                one, other = one - one.mean(), other - other.mean()
                alike[gap, column] = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum() + 1e-3)
    known = np.isfinite(alike).sum(1) >= len(chosen) / 2
    means = np.where(known, np.nansum(alike, 1) / np.maximum(np.isfinite(alike).sum(1), 1), -1)
    return int(means.argmax()), float(means.max())


def local_moments(one: np.ndarray, other: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Covariance and variances of two pictures (H, W) float32 around every pixel `shown`, (3, H, W) float32."""
    size = 2 * round(NEARBY / 2) + 1
    weight = cv2.dilate(shown.astype(np.float32), np.ones((size, size), np.uint8))

    def around(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values * weight, (0, 0), NEARBY)

    mass = np.maximum(around(np.ones_like(one)), 1e-3)
    first, second = one - around(one) / mass, other - around(other) / mass
    return np.stack([around(first * second), around(first**2), around(second**2)])
