"""Samples of a box from other frames: registered at full size and warped once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.ahead import pool
from layerlift.evidence.motion import Motion
from layerlift.evidence.reach import Held, Reach
from layerlift.evidence.region import Box, Region, thin_out
from layerlift.evidence.register import Sight, Template, largest_shift

POINTS = 800
# Registration looks at the box and this many times its size around it.
CONTEXT = 0.5
CONTEXT_LEAST = 48
# A pair that moves no corner of the box farther is taken without resampling.
UNMOVED = 0.04
# Exposure is told from so many pixels, at least and at most, and never changes contrast by more than this factor. What
# differs by less than `EVEN` levels of 255 is left as it is.
EXPOSURE_LEAST = 200
EXPOSURE_POINTS = 2000
EVEN = 0.25
EXPOSURE_LIMIT = 1.6


@dataclass(frozen=True, slots=True)
class Aligned:
    """What S other frames show of a box, in the frame's place.

    Attributes:
        sources: the S frames' numbers.
        pictures: (S, h, w, 3) uint8, as the sources show it.
        valid: (S, h, w) bool, where the source shows something that is not hidden there.
        gain, bias: (S, 3) float32; gain · picture + bias is in the frame's exposure.
    """

    sources: list[int]
    pictures: np.ndarray
    valid: np.ndarray
    gain: np.ndarray
    bias: np.ndarray

    def values(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """All samples of N pixels in the frame's exposure, (S, N, 3) float32."""
        return self.pictures[:, rows, columns] * self.gain[:, None] + self.bias[:, None]


class Aligner:
    """Takes samples of boxes; remembers what every frame was found to lie off, which the next one starts from."""

    def __init__(self, motion: Motion, held: Reach) -> None:
        self._motion, self._held = motion, held
        self._off: dict[int, np.ndarray] = {}
        self._new: dict[int, np.ndarray] = {}
        self._pool = pool()

    def take(self, present: int, sources: Sequence[int], region: Region) -> Aligned:
        """Samples of a region from chosen frames."""
        shape = region.hidden.shape
        pictures = np.empty((len(sources), *shape, 3), np.uint8)
        valid = np.zeros((len(sources), *shape), bool)
        gains, biases = np.ones((len(sources), 3), np.float32), np.zeros((len(sources), 3), np.float32)
        template: Template | None = None
        views: list[Sight] = []
        if sources and not self._motion.still(present):
            ours, *views = self._held.views([present, *sources], self._pool)
            template = Template(ours.cut(_context(region.box, self._held[present].hidden.shape)), POINTS)

        def one(at: int) -> bool:
            index, held = sources[at], self._held[sources[at]]
            matrix = self._motion.between(present, index)
            if matrix is not None and template is not None:
                matrix = self._register(template, views[at], index, matrix)
            if matrix is None:
                return False
            pictures[at], valid[at] = _warp(held, matrix, region.box)
            gains[at], biases[at] = exposure(pictures[at], region.truth, valid[at] & region.ring)
            return True

        kept = [at for at, found in enumerate(self._pool.map(one, range(len(sources)))) if found]
        if len(kept) < len(sources):
            pictures, valid, gains, biases = pictures[kept], valid[kept], gains[kept], biases[kept]
        return Aligned([sources[at] for at in kept], pictures, valid, gains, biases)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def forget(self, present: int) -> None:
        """Drop what is known of frames out of reach."""
        for index in [index for index in self._off if index < present - self._held.reach]:
            del self._off[index]

    def learned(self) -> tuple[np.ndarray, np.ndarray]:
        """What was found since this was asked last: N frames' numbers, and by what they lie off, (N, 3, 3)."""
        found, self._new = self._new, {}
        return np.array([*found], np.int64), np.array([*found.values()]).reshape(-1, 3, 3)

    def learn(self, numbers: np.ndarray, off: np.ndarray) -> None:
        """Remember what an earlier aligner had `learned`, oldest first."""
        self._off.update(zip(numbers.tolist(), off, strict=True))

    def _register(self, template: Template, view: Sight, index: int, chained: np.ndarray) -> np.ndarray | None:
        start = template.judge(view, chained)
        if index in self._off:
            remembered = template.judge(view, self._off[index] @ chained)
            if remembered is not None and (start is None or remembered.cost < start.cost):
                start = remembered
        found = None if start is None else template.fit(view, start)
        if found is None:
            return None
        self._off[index] = self._new[index] = found.matrix @ np.linalg.inv(chained)
        return found.matrix


def _context(box: Box, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    x, y = (max(CONTEXT_LEAST, int(CONTEXT * length)) for length in (right - left, bottom - top))
    return max(0, left - x), max(0, top - y), min(shape[1], right + x), min(shape[0], bottom + y)


def _warp(held: Held, matrix: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """What a source shows of a box: (h, w, 3) uint8, and where it shows it (h, w) bool."""
    left, top, right, bottom = box
    if largest_shift(matrix, box) < UNMOVED:
        return held.frame[top:bottom, left:right], ~held.hidden[top:bottom, left:right]
    from_box = matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
    size, flags = (right - left, bottom - top), cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(
        held.frame, from_box, size, flags=cv2.INTER_CUBIC | flags, borderMode=cv2.BORDER_REPLICATE
    )
    clear = cv2.warpPerspective(held.clear, from_box, size, flags=cv2.INTER_NEAREST | flags, borderValue=0)
    return picture, clear > 0


def exposure(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias (3,) that bring a sample (h, w, 3) to the frame's exposure, as told by the pixels `where`."""
    gain, bias = np.ones(3, np.float32), np.zeros(3, np.float32)
    rows, columns = thin_out(where, EXPOSURE_POINTS)
    if len(rows) < EXPOSURE_LEAST:
        return gain, bias
    y, x = (np.ascontiguousarray(of[rows, columns].T, np.float32) for of in (truth, picture))  # (3, N)
    apart = y - x
    even = np.abs(apart) < 3
    off = np.abs((apart * even).sum(1) / np.maximum(even.sum(1), 1))
    uneven = (even.mean(1) < 0.5) | (off >= EVEN)
    if uneven.any():
        gain[uneven], bias[uneven] = robust_lines(x[uneven], y[uneven])
    return gain, bias


def robust_lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets (C,) with y ≈ gain·x + offset, (C, N) each, whatever a minority of the pixels does."""
    half = x.shape[1] // 2
    gain, bias = np.ones(len(x), x.dtype), np.partition(y - x, half, 1)[:, half]
    for _ in range(3):
        residual = y - gain[:, None] * x - bias[:, None]
        middle = np.partition(np.abs(residual), half, 1)[:, half]
        limit = 4.685 * np.maximum(1.0, 1.4826 * middle)
        weights = np.square(np.maximum(0, 1 - np.square(residual / limit[:, None])))
        weights /= weights.sum(1, keepdims=True)
        mean_x, mean_y = (weights * x).sum(1), (weights * y).sum(1)
        # A contrast of a few levels says nothing about gain: the prior holds it at 1.
        from_mean = x - mean_x[:, None]
        weighted = weights * from_mean
        spread, shared = (weighted * from_mean).sum(1), (weighted * (y - mean_y[:, None])).sum(1)
        gain = np.clip((shared + 4.0) / (spread + 4.0), 1 / EXPOSURE_LIMIT, EXPOSURE_LIMIT)
        bias = mean_y - gain * mean_x
    return gain, bias
