"""Paste-back: generated pixels inside the mask, the clip's own everywhere else, and no seam between them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from layerlift.pixels.arrays import distance_to, spread

# Colours are compared in a ring around the mask this wide, as a share of the picture's shorter side.
RING_SHARE = 1 / 24
# The comparison is made this many times smaller: a VAE's errors of detail average out, its errors of colour stay.
RING_SCALE = 8
# How much of the colour difference seen so far is kept for the next frame: single frames' errors would flicker.
RING_MEMORY = 0.8
# Beyond this many levels of 255 a difference is content the model got wrong, not colour, and moves nothing further.
RING_LIMIT = 24.0


def feather_alpha(mask: np.ndarray, feather: float) -> np.ndarray:
    """How much of the generated picture is shown: 0 outside `mask`, rising to 1 within `feather` pixels inside it.

    Mask (H, W) bool → (H, W) float32. The picture's own border is no seam, so nothing fades there.
    """
    return np.minimum(distance_to(~mask) / max(feather, 1.0), 1.0)


def ring_radius(height: int, width: int) -> float:
    """How wide the ring is in which colours are compared, in pixels, for a picture of this size."""
    return max(RING_SCALE, RING_SHARE * min(height, width))


def moved_grid(
    before: tuple[int, int], now: tuple[int, int], down: int, across: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What two grids (rows, columns) share when the second begins `down` and `across` cells after the first: slices of
    the first and of the second."""
    old, new = [], []
    for length, next_length, step in zip(before, now, (down, across), strict=True):
        first, last = max(0, -step), max(0, -step, min(next_length, length - step))
        new.append(slice(first, last))
        old.append(slice(first + step, last + step))
    return (old[0], old[1]), (new[0], new[1])


class ColorMatch:
    """Moves a generated clip's colours to the clip's own, by what differs in a ring around the mask.

    The difference is spread smoothly over the picture and averaged over time, so it takes frames in order; detail is
    not touched. After a frame without a mask it starts afresh. Where only a part of each frame is given, `place` says
    where it lies in the picture.
    """

    def __init__(self) -> None:
        self._place = (0, 0)
        self._within: tuple[int, int] | None = None
        self._seen: tuple[np.ndarray, np.ndarray] | None = None
        self._seen_at = (0, 0)

    def reset(self) -> None:
        """Forget the frames seen so far."""
        self._seen = None

    def state(self) -> list[np.ndarray]:
        """What it has seen so far, as arrays; none where that is nothing."""
        return [] if self._seen is None else [*self._seen, np.array(self._seen_at)]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Go on from where `state` was asked for."""
        self._seen = None
        if state:
            self._seen, self._seen_at = (state[0], state[1]), (int(state[2][0]), int(state[2][1]))

    def place(self, corner: tuple[int, int], within: tuple[int, ...]) -> None:
        """The parts from here on lie at `corner` (left, top) of a picture whose (height, width) is `within`."""
        self._place, self._within = corner, (within[0], within[1])

    def __call__(self, generated: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Generated (H, W, 3) float32, the clip's frame (H, W, 3) uint8, mask (H, W) bool → generated, matched."""
        height, width = mask.shape
        radius = ring_radius(*(self._within or mask.shape))
        ring = ~mask & (distance_to(mask) <= radius)
        small = max(1, width // RING_SCALE), max(1, height // RING_SCALE)
        known = np.clip(frame - generated, -RING_LIMIT, RING_LIMIT) * ring[..., None]
        difference = cv2.resize(known, small, interpolation=cv2.INTER_AREA).reshape(small[1], small[0], 3)
        weight = cv2.resize(ring.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        if self._seen is not None:
            (left, top), (old_left, old_top) = self._place, self._seen_at
            old, new = moved_grid(
                self._seen[1].shape, weight.shape,
                round((top - old_top) / RING_SCALE), round((left - old_left) / RING_SCALE),
            )  # fmt: skip
            difference[new] += RING_MEMORY * self._seen[0][old]
            weight[new] += RING_MEMORY * self._seen[1][old]
        self._seen, self._seen_at = (difference, weight), self._place

        mean = difference / np.maximum(weight, np.finfo(np.float32).tiny)[..., None]
        smooth = cv2.GaussianBlur(spread(mean, (weight > 0).astype(np.float32)), (0, 0), sigmaX=1.5)
        return generated + cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)


def paste(frame: np.ndarray, generated: np.ndarray, mask: np.ndarray, feather: float) -> np.ndarray:
    """Lay generated pixels over a frame of the clip; beyond `mask` every pixel stays the frame's, bit for bit.

    Frame (H, W, 3) uint8, generated (H, W, 3) float32 in 0 … 255, mask (H, W) bool → (H, W, 3) uint8.
    """
    alpha = feather_alpha(mask, feather)[..., None]
    blended = np.clip(np.rint(alpha * generated + (1 - alpha) * frame), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], blended, frame)
