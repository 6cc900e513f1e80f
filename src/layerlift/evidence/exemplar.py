"""Exemplar-based inpainting: a hole is filled with pieces of the picture around it, by PatchMatch.

Bricks, fences and water go on as bricks, fences and water where Telea's method smears. The method is that of Wexler,
Shechtman and Irani, *Space-Time Completion of Video* (2007), in one frame, with the search of Barnes et al.,
*PatchMatch* (2009), as the package `pypatchmatch` has it.
"""

from __future__ import annotations

from threading import Lock

import cv2
import numpy as np

from layerlift.pixels.arrays import bounds, fill_masked

# Pixels. On real clips of 432×240, 3 to 6 reach the same PSNR; 5 is the fastest of them, and follows larger structure.
# From 8 on a 720p frame takes three times as long.
PATCH_RADIUS = 5
# What is searched around the hole, to each side: this share of the hole's longer side, and at least so many pixels.
REACH_SHARE = 1.0
REACH_LEAST = 96
# With fewer patches than so many side by side, or fewer whole ones for a pixel of the hole, there is too little to
# choose from.
LEAST_SIDES = 4
LEAST_KNOWN = 0.25

# The package's seed and its library's state are those of the process.
_turn = Lock()


def exemplars_available() -> bool:
    """Whether `exemplar_fill` works here: `pypatchmatch` is installed, and its library can be loaded."""
    try:
        from patchmatch import patchmatch_available
    except ImportError:
        return False
    return bool(patchmatch_available)


def exemplar_fill(frame: np.ndarray, hole: np.ndarray, *, seed: int) -> np.ndarray:
    """Fill a frame's hole with what fits from around it; every other pixel stays as it is.

    Frame (H, W, 3) uint8, hole (H, W) bool → (H, W, 3) uint8. The same inputs and seed give the same result. A frame
    without a hole, or with nothing but a hole, comes back as it is. Calls from several threads wait for each other.

    Only the hole's neighbourhood is searched (`REACH_SHARE`): what fits is mostly near, and a small hole in a large
    picture is filled in the time that its own size takes. Where there is too little to choose from, colours are spread
    instead.

    Raises RuntimeError where `exemplars_available` is False.
    """
    spot = bounds(hole)
    if spot is None or hole.all():
        return frame
    if not exemplars_available():
        raise RuntimeError("exemplar_fill needs the package pypatchmatch, which is not installed here")
    from patchmatch import inpaint, set_random_seed

    left, top, right, bottom = spot
    reach = max(REACH_LEAST, round(REACH_SHARE * max(right - left, bottom - top)))
    box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
    part, inside = np.ascontiguousarray(frame[box]), np.ascontiguousarray(hole[box])
    if not _has_exemplars(inside):
        filled = fill_masked(part, inside)
    else:
        with _turn:
            set_random_seed(seed)
            filled = inpaint(part, inside, patch_size=PATCH_RADIUS)
    out = frame.copy()
    out[box][inside] = filled[inside]
    return out


def _has_exemplars(hole: np.ndarray) -> bool:
    """Whether enough is known around a hole (H, W) bool: the library leaves black where it runs out of patches."""
    side = 2 * PATCH_RADIUS + 1
    if min(hole.shape) < LEAST_SIDES * side:
        return False
    whole = cv2.erode(
        (~hole).astype(np.uint8), np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return bool(np.count_nonzero(whole) >= LEAST_KNOWN * np.count_nonzero(hole))
