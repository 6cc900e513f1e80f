"""Evidence that was not looked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.state import State
from layerlift.masks import Mask
from layerlift.pixels.arrays import grow, same


class Unsearched:
    """What `Evidence` would be had nothing been found: every hidden pixel is UNKNOWN."""

    def __init__(self, clip: Clip, mask: Mask, dilate: int) -> None:
        self._clip, self._mask, self._dilate = clip, mask, dilate
        self.shares: dict[str, float] = {}

    def frames(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield every frame from `start` on, (H, W, 3) uint8 as the clip has it, with `State` (H, W) uint8."""
        before: np.ndarray | None = None
        state = np.empty((0, 0), np.uint8)
        for frame, hidden in self.wanted(start):
            if hidden is not before:
                state = hidden.view(np.uint8) * np.uint8(State.UNKNOWN)
                before = hidden
            yield frame, state

    def wanted(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield every frame from `start` on with its hidden pixels (H, W) bool: what `frames` has as UNKNOWN."""
        yield from zip(self._clip.frames(start), self.hidden(start), strict=True)

    def hidden(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the hidden pixels (H, W) bool of every frame from `start` on; equal ones share an array."""
        before: np.ndarray | None = None
        grown = np.empty((0, 0), bool)
        for masked in self._mask.frames(start):
            # A still's frames are one array, those of a clip of something still are alike.
            if before is None or not (masked is before or same(masked, before)):
                grown = grow(masked, self._dilate)
                before = masked
            yield grown

    def __enter__(self) -> Unsearched:
        return self

    def __exit__(self, *_: object) -> None:
        pass
