"""What is called an effect: steadied in the object's coordinates, decided over space and time, of the kinds asked for.

Effects are there in most frames, touch their object or lie near it, and most objects have a small one or none.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from scipy import ndimage

from layerlift.engine.finder import KINDS
from layerlift.finder.travel import Place, places

# From here on it is an effect: what is missed of one spoils a plate more than what is too much. Pixels join from `WEAK`
# times that on, where one among them reaches `STRONG` times.
THRESHOLD, WEAK, STRONG = 0.4, 0.8, 1.5
# Frames on either side over which it is steadied.
STEADY = 2
# Farther from the object than so many of its units, or shorter than this share of the frames that show it, only what is
# sure is an effect.
NEAR, LASTING = 0.5, 0.15
SURE = 0.85
# Effects smaller than this share of their object are none.
LEAST = 0.01
# Effects have a kind where at least this share of them looks like one.
NAMED, UNKNOWN = 0.2, "unknown"


def wanted(likely: np.ndarray, kinds: Collection[str]) -> np.ndarray:
    """How likely one of some kinds is, (n, F, 5, h, w) → (n, F, h, w) float32; where another is likelier, 0."""
    asked = np.array([kind in kinds for kind in KINDS])
    mine = likely[:, :, asked].astype(np.float32).sum(2)
    if asked[1:].all():
        return mine
    others = likely[:, :, 1:][:, :, ~asked[1:]].astype(np.float32).sum(2)
    return np.where(mine >= others, mine + others, 0)


def decide(
    likely: np.ndarray,
    objects: np.ndarray,
    *,
    threshold: float = THRESHOLD,
    steady: int = STEADY,
    max_distance: float | None = None,
) -> np.ndarray:
    """What is likely (n, F, h, w) float32 with everything set to 0 that is no effect of objects (n, F, h, w) bool.

    `max_distance` is in pixels of the small picture.
    """
    out = np.zeros_like(likely)
    hidden = objects.any(0)
    for target, own, masks in zip(out, likely, objects, strict=True):
        where = places(masks)
        values = steadied(own, where, steady) * ~hidden
        labels, count = ndimage.label(values >= WEAK * threshold, np.ones((3, 3, 3), bool))
        if not count:
            continue
        every = np.arange(1, count + 1)
        distance = np.stack(
            [
                np.full(mask.shape, np.inf) if place is None else ndimage.distance_transform_edt(~mask) / place.unit
                for mask, place in zip(masks, where, strict=True)
            ]
        )
        peak = ndimage.maximum(values, labels, every)
        mean = ndimage.mean(values, labels, every)
        near = ndimage.minimum(distance, labels, every) <= NEAR
        spans = [found[0] for found in ndimage.find_objects(labels)]
        there = sum(place is not None for place in where)
        lasting = np.array([span.stop - span.start for span in spans]) >= LASTING * there
        size = np.bincount(labels.ravel(), minlength=count + 1)[1:] / np.array([s.stop - s.start for s in spans])
        good = (peak >= min(STRONG * threshold, 0.9)) & (size >= max(LEAST * masks.sum() / max(there, 1), 3))
        good &= (near & lasting) | (mean >= SURE)
        target[:] = np.where(np.concatenate([[False], good])[labels], values, 0)
        if max_distance is not None:
            units = np.array([1.0 if place is None else place.unit for place in where])[:, None, None]
            target[distance * units > max_distance] = 0
    return out


def steadied(values: np.ndarray, where: list[Place | None], radius: int) -> np.ndarray:
    """Values (F, h, w) float32 averaged over `radius` frames on either side, moved along with the object."""
    if radius == 0:
        return values
    size = values.shape[2], values.shape[1]
    out = np.empty_like(values)
    for index, place in enumerate(where):
        total, mass = values[index] * (radius + 1), float(radius + 1)
        for other in range(max(0, index - radius), min(len(values), index + radius + 1)):
            from_place = where[other]
            if other == index or place is None or from_place is None:
                continue
            weight = radius + 1.0 - abs(other - index)
            shift = np.array([[1, 0, place.x - from_place.x], [0, 1, place.y - from_place.y]])
            moved = cv2.warpAffine(values[other], shift, size, borderMode=cv2.BORDER_REPLICATE)
            total = total + weight * moved
            mass += weight
        out[index] = total / mass
    return out


def kinds_of(decided: np.ndarray, likely: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """How many pixels of a frame were decided on: (n, 5) float64 of all, shadow, reflection, light and smoke.

    Takes (n, h, w) and (n, 5, h, w).
    """
    counts = np.zeros((len(decided), len(KINDS)))
    for own, where, chances in zip(counts, decided >= threshold, likely, strict=True):
        own[0] = np.count_nonzero(where)
        own[1:] = chances[1:, where].astype(np.float64).sum(1)
    return counts


def names_of(counts: np.ndarray) -> list[str]:
    """What each object causes most of, of counts (n, 5) as `kinds_of` returns them, added up.

    "none" where it causes nothing, "unknown" where hardly any of it looks like a kind: the user or a model found it.
    """
    return [
        KINDS[0] if not all_ else KINDS[1 + int(own.argmax())] if own.sum() >= NAMED * all_ else UNKNOWN
        for all_, own in ((row[0], row[1:]) for row in counts)
    ]
