"""The frames around the one that is worked on, held in bounded memory while the clip streams by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.register import View
from layerlift.masks import Mask
from layerlift.pixels import grow

# At most this many frames to either side are all held, with half of the memory; farther ones as sparsely as the rest
# of it wants, but not more closely than `FAR_STEP`.
NEAR = 48
FAR_STEP = 4
# Masks are also kept this many times smaller, to choose frames by.
COARSE = 8
# Prepared pictures that are kept: neighbouring frames look at nearly the same others.
VIEWS = 24


@dataclass(frozen=True, slots=True)
class Held:
    """A frame in reach: (H, W, 3) uint8, its grown mask (H, W) bool, and that mask made smaller (h, w) bool."""

    frame: np.ndarray
    hidden: np.ndarray
    coarse: np.ndarray


class Reach:
    """Frames within `reach` of the present one: all the near ones, and of the others every `stride`-th.

    The clip is read by two readers, one for the present and one that runs ahead, so that what is skipped ahead can
    still be had when it comes near.
    """

    def __init__(self, clip: Clip, mask: Mask, dilate: int, reach: int, memory: int) -> None:
        self._clip, self._mask, self._dilate = clip, mask, dilate
        fits = max(3, memory // (clip.width * clip.height * 4))
        self.near = min(NEAR, reach, max(1, (fits // 2 - 1) // 2))
        if reach <= self.near:
            self.stride = 1
        else:
            self.stride = max(FAR_STEP, -(-2 * (reach - self.near) // max(1, fits - 2 * self.near - 1)))
        self.reach = reach
        self._held: dict[int, Held] = {}
        self._views: OrderedDict[int, View] = OrderedDict()

    def walk(self) -> Iterator[int]:
        """Go through the clip; between two steps `frames` are what is in reach of the present one."""
        ahead = enumerate(zip(self._clip.frames(), self._mask.frames(), strict=True))
        near = enumerate(zip(self._clip.frames(), self._mask.frames(), strict=True)) if self.stride > 1 else None
        last = self._clip.frame_count - 1
        read_ahead = read_near = 0
        for present in range(self._clip.frame_count):
            while read_ahead <= min(last, present + self.reach):
                index, (frame, masked) = next(ahead)
                read_ahead += 1
                if index % self.stride == 0:
                    self._hold(index, frame, masked)
            while near is not None and read_near <= min(last, present + self.near):
                index, (frame, masked) = next(near)
                read_near += 1
                if index not in self._held:
                    self._hold(index, frame, masked)
            for index in list(self._held):
                gone = present - index
                if gone > self.reach or (gone > self.near and index % self.stride):
                    del self._held[index]
                    self._views.pop(index, None)
            yield present

    def __contains__(self, index: int) -> bool:
        return index in self._held

    def __getitem__(self, index: int) -> Held:
        return self._held[index]

    def view(self, index: int) -> View:
        """A held frame as registration compares it."""
        if index not in self._views:
            held = self._held[index]
            self._views[index] = View(held.frame, held.hidden)
            if len(self._views) > VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(index)
        return self._views[index]

    def _hold(self, index: int, frame: np.ndarray, masked: np.ndarray) -> None:
        hidden = grow(masked, self._dilate)
        size = -(-frame.shape[1] // COARSE), -(-frame.shape[0] // COARSE)
        padded = cv2.copyMakeBorder(
            hidden.astype(np.uint8), 0, size[1] * COARSE - frame.shape[0], 0, size[0] * COARSE - frame.shape[1],
            cv2.BORDER_REPLICATE,
        )  # fmt: skip
        # (H, W) → (h, 8, w, 8) → (h, w)
        coarse = padded.reshape(size[1], COARSE, size[0], COARSE).any((1, 3))
        self._held[index] = Held(np.ascontiguousarray(frame), hidden, coarse)
