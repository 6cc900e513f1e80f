"""Samples of a box from other frames: registered at full size and warped once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.evidence.reach import Reach
from layerlift.evidence.register import Template, View, largest_shift
from layerlift.evidence.thin import thin_out

Box = tuple[int, int, int, int]  # left, top, right, bottom

POINTS = 1500
# Sources are looked at by so many threads: OpenCV and numpy leave the interpreter alone most of the time.
WORKERS = min(4, os.cpu_count() or 1)
# Registration looks at the box and this many times its size around it.
CONTEXT = 0.5
CONTEXT_LEAST = 48
# A pair that moves no corner of the box farther is taken without resampling.
UNMOVED = 0.04
# A cubic kernel reaches two pixels far, but gives the second one next to nothing.
KERNEL = 1
# Exposure is told from so many pixels, at least and at most, and never changes contrast by more than this factor. What
# differs by less than `EVEN` levels of 255 is left as it is.
EXPOSURE_LEAST = 200
EXPOSURE_POINTS = 2000
EVEN = 0.25
EXPOSURE_LIMIT = 1.6


@dataclass(frozen=True, slots=True)
class Samples:
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
        self._pool = ThreadPoolExecutor(WORKERS)

    def take(self, present: int, sources: Sequence[int], box: Box, ring: np.ndarray) -> Samples:
        """Samples for a box from chosen frames; `ring` (h, w) bool are the box's pixels whose truth is known."""
        left, top, right, bottom = box
        shape = bottom - top, right - left
        truth = self._held[present].frame[top:bottom, left:right]
        pictures = np.empty((len(sources), *shape, 3), np.uint8)
        valid = np.zeros((len(sources), *shape), bool)
        gains, biases = np.ones((len(sources), 3), np.float32), np.zeros((len(sources), 3), np.float32)
        template: Template | None = None
        views: list[View] = []
        if sources and not self._motion.still(present):
            context = _context(box, self._held[present].hidden.shape)
            template = Template(self._held.view(present).cut(context), POINTS)
            views = [self._held.view(index) for index in sources]

        def one(at: int) -> bool:
            index = sources[at]
            matrix = self._motion.between(present, index)
            if matrix is not None and template is not None:
                matrix = self._register(template, views[at], index, matrix)
            if matrix is None:
                return False
            pictures[at], valid[at] = _warp(self._held[index].frame, self._held[index].hidden, matrix, box)
            gains[at], biases[at] = exposure(pictures[at], truth, valid[at] & ring)
            return True

        kept = [at for at, found in enumerate(self._pool.map(one, range(len(sources)))) if found]
        if len(kept) < len(sources):
            pictures, valid, gains, biases = pictures[kept], valid[kept], gains[kept], biases[kept]
        return Samples([sources[at] for at in kept], pictures, valid, gains, biases)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def forget(self, present: int) -> None:
        """Drop what is known of frames out of reach."""
        for index in [index for index in self._off if index < present - self._held.reach]:
            del self._off[index]

    def _register(self, template: Template, view: View, index: int, chained: np.ndarray) -> np.ndarray | None:
        start = chained
        if index in self._off:
            remembered = self._off[index] @ chained
            a, b = template.judge(view, chained), template.judge(view, remembered)
            if b is not None and (a is None or b.cost < a.cost):
                start = remembered
        found = template.fit(view, start)
        if found is None:
            return None
        self._off[index] = found.matrix @ np.linalg.inv(chained)
        return found.matrix


def _context(box: Box, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    x, y = (max(CONTEXT_LEAST, int(CONTEXT * length)) for length in (right - left, bottom - top))
    return max(0, left - x), max(0, top - y), min(shape[1], right + x), min(shape[0], bottom + y)


def _warp(frame: np.ndarray, hidden: np.ndarray, matrix: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """What a source shows of a box: (h, w, 3) uint8, and where it shows it (h, w) bool."""
    left, top, right, bottom = box
    if largest_shift(matrix, box) < UNMOVED:
        return frame[top:bottom, left:right], ~hidden[top:bottom, left:right]
    size = right - left, bottom - top
    height, width = hidden.shape
    from_box = matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
    picture = cv2.warpPerspective(
        frame, from_box, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    # Of the source, only what the box can see.
    corners = from_box @ np.array([[0, size[0], 0, size[0]], [0, 0, size[1], size[1]], [1, 1, 1, 1]])
    x, y = corners[0] / corners[2], corners[1] / corners[2]
    x0, x1 = (int(np.clip(value, 0, width)) for value in (x.min() - 3, x.max() + 4))
    y0, y1 = (int(np.clip(value, 0, height)) for value in (y.min() - 3, y.max() + 4))
    if x1 <= x0 or y1 <= y0:
        return picture, np.zeros((size[1], size[0]), bool)
    kernel = np.ones((2 * KERNEL + 1, 2 * KERNEL + 1), np.uint8)
    shown = cv2.erode((~hidden[y0:y1, x0:x1]).astype(np.uint8), kernel, borderValue=1)
    if x0 == 0 or y0 == 0 or x1 == width or y1 == height:  # what the kernel would take from beyond the frame
        shown[: 1 if y0 == 0 else 0] = 0
        shown[:, : 1 if x0 == 0 else 0] = 0
        shown[shown.shape[0] - (y1 == height) :] = 0
        shown[:, shown.shape[1] - (x1 == width) :] = 0
    to_part = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ from_box
    seen = cv2.warpPerspective(shown, to_part, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=0)
    return picture, seen > 0


def exposure(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias (3,) that bring a sample (h, w, 3) to the frame's exposure, as told by the pixels `where`."""
    gain, bias = np.ones(3, np.float32), np.zeros(3, np.float32)
    rows, columns = thin_out(where, EXPOSURE_POINTS)
    if len(rows) < EXPOSURE_LEAST:
        return gain, bias
    ours, theirs = truth[rows, columns].astype(np.float32), picture[rows, columns].astype(np.float32)
    for channel in range(3):
        x, y = theirs[:, channel], ours[:, channel]
        off = np.abs(y - x)
        if np.median(off) < 1 and abs(float((y - x)[off < 3].mean())) < EVEN:
            continue
        gain[channel], bias[channel] = robust_line(x, y)
    return gain, bias


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
