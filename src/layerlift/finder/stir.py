"""What stirs: where frames a little before and after show something else, along the camera's motion.

Smoke and water never rest, the hedge behind them does. That can be told where no other frame shows what is behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.motion import Motion, follow
from layerlift.masks import Mask
from layerlift.progress import QUIET

# Frames before and after that a frame is compared to.
STRIDES = (3, 8)
# Pixels around objects that count as theirs, and by which frames may be registered wrongly: that much of a slope is no
# difference.
MARGIN, OFF = 2, 0.5


@dataclass(frozen=True, slots=True)
class Stir:
    """How much F frames stir.

    Attributes:
        levels: (F, H, W, 2) float16, by how many levels of 255 a channel differs at most, over each of `STRIDES`.
        known: (F, H, W, 2) bool, where that is known.
        motion: how the camera moves.
    """

    levels: np.ndarray
    known: np.ndarray
    motion: Motion


def stir_of(frames: np.ndarray, hidden: np.ndarray) -> Stir:
    """How much frames (F, H, W, 3) uint8 stir where objects are not `hidden`, (F, H, W) bool.

    Differences are averaged over the frame before and the one after, as far as they are of the same shot and show the
    place.
    """
    count, height, width = hidden.shape
    square = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), square) for mask in hidden])
    motion = follow(Clip.from_array(frames), Mask.from_array(grown > 0), 0, QUIET)
    slopes = [slope(frame) for frame in frames]
    out = np.zeros((count, height, width, len(STRIDES)), np.float16)
    known = np.zeros(out.shape, bool)
    for index in range(count):
        for number, stride in enumerate(STRIDES):
            total, mass = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
            for other in (index - stride, index + stride):
                matrix = motion.between(index, other) if 0 <= other < count else None
                if matrix is None:
                    continue
                there = np.dstack([frames[other], 255 * (1 - grown[other])])
                flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                moved = cv2.warpPerspective(there, matrix, (width, height), flags=flags)
                weight = (moved[..., 3] == 255).astype(np.float32) * (1 - grown[index])
                differs = np.abs(moved[..., :3].astype(np.float32) - frames[index]).max(-1)
                total += weight * np.maximum(differs - OFF * slopes[index], 0)
                mass += weight
            out[index, ..., number] = total / np.maximum(mass, 1)
            known[index, ..., number] = mass > 0
    return Stir(out, known, motion)


def slope(frame: np.ndarray) -> np.ndarray:
    """By how many levels a frame (H, W, 3) uint8 changes over a pixel at most, (H, W) float32."""
    grey = cv2.GaussianBlur(frame.max(-1).astype(np.float32), (3, 3), 0)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.hypot(across, down)
