"""Gathered pixels meet the clip's own without a seam."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.pixels.arrays import spread

# The step at the mask's border is measured this many pixels wide, and after this blur.
EDGE = 6
SEAM_BLUR = 2.0
# It is smooth: this many times smaller shows all of it.
SCALE = 2
# A mean over less than this share of pixels says nothing.
LEAST_SHARE = 0.05


def join(values: np.ndarray, truth: np.ndarray, hidden: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Move values (h, w, 3) float32 by what they miss the truth by just outside the mask, smoothly inwards.

    `near` (h, w) bool are pixels at most `EDGE` outside the mask for which there are values too.
    """
    if not near.any():
        return values
    missed, known = misfit(values, truth, near, scale=SCALE, blur=SEAM_BLUR)
    size = known.shape[1], known.shape[0]
    outside = cv2.resize((~hidden).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    inwards = spread(missed, (known & outside).astype(np.float32))
    return values + cv2.resize(inwards, (hidden.shape[1], hidden.shape[0]), interpolation=cv2.INTER_LINEAR)


def misfit(
    values: np.ndarray, truth: np.ndarray, where: np.ndarray, *, scale: int, blur: float
) -> tuple[np.ndarray, np.ndarray]:
    """By how much values (h, w, 3) float32 miss the truth in the pixels `where` (h, w) bool.

    It is blurred by `blur` of their pixels and `scale` times smaller; returns it, (h', w', 3) float32, and where it is
    known, (h', w') bool.
    """
    size = max(1, where.shape[1] // scale), max(1, where.shape[0] // scale)
    missed = cv2.subtract(truth, values, dtype=cv2.CV_32F)
    missed *= where[..., None]
    missed = cv2.GaussianBlur(cv2.resize(missed, size, interpolation=cv2.INTER_AREA), (0, 0), blur / scale)
    mass = cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mass = cv2.GaussianBlur(mass, (0, 0), blur / scale)
    known = mass > LEAST_SHARE
    return missed * (known / np.maximum(mass, LEAST_SHARE))[..., None].astype(np.float32), known
