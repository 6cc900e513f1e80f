"""A clip to measure speed and memory on, of any size and length; it is made as it is read, so none lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Pixels
from layerlift.masks import Mask

# Frames in which a box that moves crosses the picture.
CROSSING = 100
# Where a box that stands still begins, of the room to its left: off the grid of any model's tokens.
STILL = 0.4625


def made_up_clip(
    size: tuple[int, int], frames: int, hidden: tuple[int, int], there: float | None = None
) -> tuple[Clip, Mask]:
    """A wall of blocks under a camera that pans, with noise, and the mask of a box of `hidden` (width, height) pixels.

    The box stands still; where `there` is given it crosses the picture again and again, and is there in that share of
    the frames.
    """
    width, height = size
    across, down = hidden
    rng = np.random.default_rng(0)
    wall = np.zeros((height, 2 * width, 3), np.uint8)
    for side in (4, 16, 64):
        blocks = rng.integers(0, 80, (-(-height // side), -(-2 * width // side), 3), dtype=np.uint8)
        wall += blocks.repeat(side, 0).repeat(side, 1)[:height, : 2 * width]
    noise = rng.integers(0, 4, wall.shape, dtype=np.uint8)

    def box(frame: int) -> tuple[slice, slice]:
        moved = STILL if there is None else frame % CROSSING / CROSSING
        if there is not None and moved >= there:
            return slice(0), slice(0)
        left, top = round((width - across) * moved), (height - down) // 2
        return slice(top, top + down), slice(left, left + across)

    def read(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        for frame in range(start, stop):
            # To and fro, three pixels in four frames.
            shift = int(abs((0.75 * frame) % (2 * width) - width))
            grain = 37 * frame % width
            picture = wall[:, shift : shift + width] + noise[:, grain : grain + width]
            picture[box(frame)] = (200, 40, 40)
            yield picture if pixels == "rgb24" else np.dstack([picture, np.full((height, width), 255, np.uint8)])

    def read_mask(start: int, stop: int) -> Iterator[np.ndarray]:
        for frame in range(start, stop):
            mask = np.zeros((height, width), bool)
            mask[box(frame)] = True
            yield mask

    clip = Clip(width, height, frames, Fraction(24), read, name="made up")
    return clip, Mask(width, height, frames, read_mask, name="made up")
