"""Samples of a box from other frames: registered at full size, warped once, and brought to the frame's exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.evidence.reach import Reach
from layerlift.evidence.register import Template, largest_shift

Box = tuple[int, int, int, int]  # left, top, right, bottom

POINTS = 2000
# Registration looks at the box and this many times its size around it.
CONTEXT = 0.5
CONTEXT_LEAST = 48
# A pair that moves no corner of the box farther is taken without resampling.
UNMOVED = 0.04
# Lanczos' kernel reaches farther, but what lies beyond two pixels weighs next to nothing.
KERNEL = 2
# Exposure is told from at least so many pixels, and never changes contrast by more than this factor.
EXPOSURE_PIXELS = 200
EXPOSURE_LIMIT = 1.6


@dataclass(frozen=True, slots=True)
class Samples:
    """What S other frames show of a box, in the frame's place and exposure.

    Attributes:
        pictures: (S, h, w, 3) float32, 0 … 255.
        valid: (S, h, w) bool, where the source shows something that is not hidden there.
        sources: the S frames' numbers.
    """

    pictures: np.ndarray
    valid: np.ndarray
    sources: list[int]


def take_samples(
    motion: Motion, held: Reach, present: int, sources: Sequence[int], *, box: Box, ring: np.ndarray
) -> Samples:
    """Samples for a box from chosen frames; `ring` (h, w) bool are the box's pixels whose truth is known."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    here = held[present]
    truth = here.frame[top:bottom, left:right].astype(np.float32)
    template: Template | None = None
    pictures, valid, kept = [], [], []
    for index in sources:
        matrix = motion.between(present, index)
        assert matrix is not None  # of the same shot
        if motion.still(present):
            matrix = np.eye(3)
        else:
            if template is None:
                template = Template(held.view(present).cut(_context(box, here.frame.shape)), POINTS)
            found = template.fit(held.view(index), matrix)
            if found is None:
                continue
            matrix = found.matrix
        picture, seen = _warp(held[index].frame, held[index].hidden, matrix, box)
        picture = even_out(picture, truth, seen & ring)
        pictures.append(picture)
        valid.append(seen)
        kept.append(index)
    if not kept:
        return Samples(np.zeros((0, height, width, 3), np.float32), np.zeros((0, height, width), bool), [])
    return Samples(np.stack(pictures), np.stack(valid), kept)


def _context(box: Box, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    x, y = (max(CONTEXT_LEAST, int(CONTEXT * length)) for length in (right - left, bottom - top))
    return max(0, left - x), max(0, top - y), min(shape[1], right + x), min(shape[0], bottom + y)


def _warp(frame: np.ndarray, hidden: np.ndarray, matrix: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """What a source shows of a box: (h, w, 3) float32, and where it shows it (h, w) bool."""
    left, top, right, bottom = box
    if largest_shift(matrix, box) < UNMOVED:
        return frame[top:bottom, left:right].astype(np.float32), ~hidden[top:bottom, left:right]
    size = right - left, bottom - top
    # Only what of the source the box can see is looked at.
    corners = np.array([[left, right - 1, left, right - 1], [top, top, bottom - 1, bottom - 1], [1, 1, 1, 1]])
    places = matrix @ corners
    places = places[:2] / places[2]
    low, high = np.floor(places.min(1)).astype(int) - 8, np.ceil(places.max(1)).astype(int) + 9
    x0, y0 = (int(np.clip(value, 0, limit - 1)) for value, limit in zip(low, frame.shape[1::-1], strict=True))
    x1, y1 = (int(np.clip(value, 1, limit)) for value, limit in zip(high, frame.shape[1::-1], strict=True))
    if x1 <= x0 or y1 <= y0:
        return np.zeros((size[1], size[0], 3), np.float32), np.zeros((size[1], size[0]), bool)
    to_part = (
        np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    )
    flags = cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(
        frame[y0:y1, x0:x1], to_part, size, flags=cv2.INTER_LANCZOS4 | flags, borderMode=cv2.BORDER_REPLICATE
    )
    shown = cv2.erode(
        (~hidden[y0:y1, x0:x1]).astype(np.uint8) * np.uint8(255), np.ones((2 * KERNEL - 1, 2 * KERNEL - 1), np.uint8),
        borderValue=255,
    )  # fmt: skip
    seen = cv2.warpPerspective(shown, to_part, size, flags=cv2.INTER_LINEAR | flags, borderValue=0)
    return picture.astype(np.float32), seen > 254


def even_out(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Bring a sample (h, w, 3) to the exposure of the frame, as told by the pixels `where` both are known."""
    if where.sum() < EXPOSURE_PIXELS:
        return picture
    ours, theirs = truth[where], picture[where]
    step = max(1, len(ours) // 2000)
    ours, theirs = ours[::step], theirs[::step]
    out = picture
    for channel in range(3):
        x, y = theirs[:, channel], ours[:, channel]
        if np.median(np.abs(y - x)) < 1:  # nothing to even out
            shift = float((y - x)[np.abs(y - x) < 3].mean())
            if abs(shift) < 0.25:
                continue
        gain, bias = robust_line(x, y)
        if out is picture:
            out = picture.copy()
        out[..., channel] = gain * picture[..., channel] + bias
    return out


def robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Gain and offset with y ≈ gain·x + offset, whatever a minority of the pixels does."""
    gain, bias = 1.0, float(np.median(y - x))
    for _ in range(3):
        residual = y - gain * x - bias
        limit = 4.685 * max(1.0, 1.4826 * float(np.median(np.abs(residual))))
        weights = np.square(np.maximum(0, 1 - np.square(residual / limit)))
        total = weights.sum()
        mean_x, mean_y = (weights * x).sum() / total, (weights * y).sum() / total
        # A contrast of a few levels says nothing about gain: the prior holds it at 1.
        spread = (weights * np.square(x - mean_x)).sum() / total
        shared = (weights * (x - mean_x) * (y - mean_y)).sum() / total
        gain = float(np.clip((shared + 4.0) / (spread + 4.0), 1 / EXPOSURE_LIMIT, EXPOSURE_LIMIT))
        bias = float(mean_y - gain * mean_x)
    return gain, bias
