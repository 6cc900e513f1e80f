"""Gathered pixels meet the clip's own without a seam."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.pixels import distance_to, spread

# The step at the mask's border is measured this many pixels wide, and after this blur.
EDGE = 6
SEAM_BLUR = 2.0


def join(values: np.ndarray, truth: np.ndarray, hidden: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Move gathered values (h, w, 3) float32 by what they miss the truth by just outside the mask, smoothly inwards.

    `ring` (h, w) bool are pixels outside the mask for which values were gathered too.
    """
    near = (ring & (distance_to(hidden) <= EDGE)).astype(np.float32)
    if not near.any():
        return values
    step = cv2.GaussianBlur((truth.astype(np.float32) - values) * near[..., None], (0, 0), SEAM_BLUR)
    mass = cv2.GaussianBlur(near, (0, 0), SEAM_BLUR)
    known = mass > 0.05
    mean = np.where(known[..., None], step / np.maximum(mass, 0.05)[..., None], 0).astype(np.float32)
    return values + spread(mean, (known & ~hidden).astype(np.float32))
