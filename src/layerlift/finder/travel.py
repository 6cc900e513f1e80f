"""What travels with an object: a clip's differences from its plate, averaged in the object's own coordinates.

What the object causes stays where it is there; what else moves, and what the plate gets wrong, smears out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

# The canvas in the object's coordinates: so many cells, and so many of the object's units from its middle to an edge.
CELLS, REACH = 192, 3.0
# An object's unit and its foot are steadied over about so many frames.
STEADY_UNIT, STEADY_FOOT = 6.0, 1.0
# An object cut off by the picture's edge tells its place worse.
CUT_OFF = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is in a frame, in pixels.

    Attributes:
        x, y: its middle.
        unit: the geometric mean of its width and height.
        foot: the row on which it stands.
    """

    x: float
    y: float
    unit: float
    foot: float

    def to_canvas(self) -> np.ndarray:
        """The affine (2, 3) from pixels to canvas cells."""
        scale = CELLS / (2 * REACH * self.unit)
        return np.array([[scale, 0, CELLS / 2 - scale * self.x], [0, scale, CELLS / 2 - scale * self.y]])


def places(masks: np.ndarray) -> list[Place | None]:
    """Where an object is in every frame of its masks (F, H, W) bool; None where it is not."""
    found = np.full((len(masks), 5), np.nan)
    height, width = masks.shape[1:]
    for index, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        across, down = mask.sum(0), mask.sum(1)
        whole = top > 0 and left > 0 and bottom < height and right < width
        unit = max(float(np.sqrt((bottom - top) * (right - left))), 4.0)
        x = float((across * np.arange(width)).sum() / across.sum())
        y = float((down * np.arange(height)).sum() / down.sum())
        found[index] = x, y, unit, bottom - 1.0, 1.0 if whole else CUT_OFF
    there = np.isfinite(found[:, 0])
    weight = np.where(there, found[:, 4], 0)
    steady = found.copy()
    if there.any():
        # The size is steadied over longer than the foot: legs and arms swing.
        for column, sigma in ((2, STEADY_UNIT), (3, STEADY_FOOT)):
            value, mass = (
                gaussian_filter1d(part, sigma, mode="nearest")
                for part in (np.where(there, found[:, column], 0) * weight, weight)
            )
            steady[:, column] = value / np.maximum(mass, 1e-6)
    return [Place(*map(float, steady[i, :4])) if there[i] else None for i in range(len(masks))]


@dataclass(frozen=True, slots=True)
class Travelling:
    """Averages on the canvas.

    Attributes:
        mean: (CELLS, CELLS, 3) float32, the signed difference.
        size: (CELLS, CELLS) float32, the mean of the greatest difference of a channel.
        steady: (CELLS, CELLS) float32 in [0, 1]: 1 where all frames agree.
        seen: (CELLS, CELLS) float32 in [0, 1]: the share of frames that know the place.
    """

    mean: np.ndarray
    size: np.ndarray
    steady: np.ndarray
    seen: np.ndarray


def average(changes: Iterable[np.ndarray], weights: Iterable[np.ndarray], where: Sequence[Place | None]) -> Travelling:
    """The average of changes (H, W, 3) float32, where weights (H, W) float32 in [0, 1] say that they are known."""
    total = np.zeros((CELLS, CELLS, 3), np.float32)
    squares, size, mass = (np.zeros((CELLS, CELLS), np.float32) for _ in range(3))
    frames = 0
    for change, weight, place in zip(changes, weights, where, strict=True):
        if place is None:
            continue
        frames += 1
        stacked = np.dstack([change * weight[..., None], weight])
        there = cv2.warpAffine(stacked, place.to_canvas(), (CELLS, CELLS), flags=cv2.INTER_LINEAR)
        share = there[..., 3]
        total += there[..., :3]
        size += np.abs(there[..., :3]).max(-1)
        squares += np.square(there[..., :3]).sum(-1) / np.maximum(share, 1e-3)
        mass += share
    mean = total / np.maximum(mass, 0.5)[..., None]
    rms = np.sqrt(squares / np.maximum(mass, 0.5))
    return Travelling(
        mean,
        size / np.maximum(mass, 0.5),
        np.sqrt(np.square(mean).sum(-1)) / (rms + 2.0),
        mass / max(frames, 1),
    )


def brought(averages: Travelling, place: Place, size: tuple[int, int]) -> np.ndarray:
    """Averages as a frame of `size` (width, height) sees them: (H, W, 6) float32 of mean (3), size, steady and seen."""
    stacked = np.dstack([averages.mean, averages.size, averages.steady, averages.seen])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV warps four channels at a time.
    parts = [
        cv2.warpAffine(np.ascontiguousarray(part), place.to_canvas(), size, flags=flags)
        for part in (stacked[..., :3], stacked[..., 3:])
    ]
    return np.concatenate(parts, -1)
