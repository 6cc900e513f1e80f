"""What `fit` decides, done to pixels: scale, pad, fill, and the way back. Frame by frame, as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import cv2
import numpy as np

from layerlift.geometry.fit import Fit

LONGEST_ROW = 32_000
# Bytes: what is written in steps of this size begins at a multiple of it.
ALIGNED = 64


def fit_frame(frame: np.ndarray, fit: Fit) -> np.ndarray:
    """Scale and pad: (H, W, 3) uint8 at the clip's size → (H', W', 3) at the model's; padding repeats the edge."""
    if fit.scaled != fit.native:
        frame = cv2.resize(frame, fit.scaled, interpolation=cv2.INTER_AREA)
    right, bottom = fit.padding
    if not (right or bottom):
        return frame
    return cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)


def fit_mask(mask: np.ndarray, fit: Fit) -> np.ndarray:
    """The same for a mask, (H, W) bool → (H', W') bool: a pixel is masked when any part of it was.

    Padding is masked where it repeats masked pixels: what the object's edge would be smeared into is not known either.
    """
    if fit.padded == fit.native:
        return mask
    covered = mask.astype(np.float32)
    if fit.scaled != fit.native:
        covered = cv2.resize(covered, fit.scaled, interpolation=cv2.INTER_AREA)
    right, bottom = fit.padding
    return cv2.copyMakeBorder(covered, 0, bottom, 0, right, cv2.BORDER_REPLICATE) > 0


def unfit_frame(frame: np.ndarray, fit: Fit) -> np.ndarray:
    """Crop the padding and scale back: (H', W', 3) float32 in 0 … 255 → (H, W, 3) float32 at the clip's size."""
    frame = frame[: fit.scaled[1], : fit.scaled[0]]
    if fit.scaled == fit.native:
        return frame
    # Bicubic overshoots at edges.
    return np.clip(cv2.resize(frame, fit.native, interpolation=cv2.INTER_CUBIC), 0.0, 255.0)


def fill_masked(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replace masked pixels by a smooth continuation of what surrounds them; frame (H, W, 3) uint8, mask (H, W) bool.

    What stands there is generated anyway, but the VAE's receptive field would leak the object into the known tokens
    around it.
    """
    if not mask.any():
        return frame
    filled = spread(frame.astype(np.float32), (~mask).astype(np.float32))
    return np.where(mask[..., None], np.rint(filled).astype(np.uint8), frame)


def spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spread values from where their weight is 1 to where it is 0, ever smoother with the distance (push-pull).

    Values (H, W, C) float32, weights (H, W) float32 in [0, 1]; returns (H, W, C) float32, all zeros where no weight is
    anywhere. The pyramid of Gortler et al., *The Lumigraph* (1996): average downwards, fill upwards.
    """
    height, width = weights.shape
    if max(height, width) == 1:
        return values * (weights[..., None] > 0)
    half = max(1, width // 2), max(1, height // 2)
    mass = cv2.resize(weights, half, interpolation=cv2.INTER_AREA)
    weighted = cv2.resize(values * weights[..., None], half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    coarse = weighted / np.maximum(mass, np.finfo(np.float32).tiny)[..., None]
    # Two of the four pixels below a coarse one are enough to know its value.
    coarse = spread(coarse, np.minimum(2 * mass, 1))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    return values * weights[..., None] + smooth * (1 - weights[..., None])


def grow(mask: np.ndarray, distance: float) -> np.ndarray:
    """The mask and everything within `distance` pixels of it; (H, W) bool → (H, W) bool."""
    spot = bounds(mask)
    if distance <= 0 or spot is None:
        return mask
    # Nothing grows beyond the box around the mask and that distance; most masks fill little of their frame.
    reach = ceil(distance)
    left, top, right, bottom = spot
    box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
    grown = np.zeros_like(mask)
    grown[box] = distance_to(mask[box]) <= distance
    return grown


def bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) around what is True in (H, W) bool; None where nothing is."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (left, top, left + width, top + height) if width else None


def all_bounds(masks: Iterable[np.ndarray]) -> list[tuple[int, int, int, int] | None]:
    """`bounds` of each mask; one that is given several times in a row is looked at once."""
    found: list[tuple[int, int, int, int] | None] = []
    before: np.ndarray | None = None
    for mask in masks:
        found.append(found[-1] if mask is before else bounds(mask))
        before = mask
    return found


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two masks, (H, W) bool, are alike; OpenCV makes no third array for that."""
    first, second = (np.ascontiguousarray(mask).view(np.uint8) for mask in (one, other))
    return first.shape == second.shape and cv2.norm(first, second, cv2.NORM_INF) == 0


def sampled(picture: np.ndarray, x: np.ndarray, y: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """A picture (H, W) or (H, W, C) at N places, x and y (N,) in pixels: (N,) or (N, C) of its type.

    Beyond its border it repeats. OpenCV's remap alone takes at most 32767 places in a row.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    out = np.empty((len(x), *picture.shape[2:]), picture.dtype)
    for first in range(0, len(x), LONGEST_ROW):
        run = slice(first, first + LONGEST_ROW)
        out[run] = cv2.remap(picture, x[None, run], y[None, run], interpolation, borderMode=cv2.BORDER_REPLICATE)[0]
    return out


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Pixels from every pixel to the nearest True one, Euclidean, (H, W) float32; infinite if there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    # How OpenCV rounds depends on where in memory the result lies: it always lies alike, so that it is always the same.
    room = np.empty(mask.size + ALIGNED // 4, np.float32)
    first = -room.ctypes.data % ALIGNED // 4
    out = room[first : first + mask.size].reshape(mask.shape)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, dst=out)
