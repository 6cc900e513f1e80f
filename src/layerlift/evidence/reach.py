"""The frames around the one that is worked on, held in bounded memory while the clip streams by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.evidence.register import Sight
from layerlift.masks import Mask
from layerlift.pixels.arrays import bounds, grow

# At most this many frames to either side are all held, with half of the memory; farther ones as sparsely as the rest
# of it wants, but not more closely than `FAR_STEP`.
NEAR = 48
FAR_STEP = 4
# References are held however far they are, in at most this share of the memory.
REFERENCE_SHARE = 1 / 4
# A frame in reach takes so many bytes a pixel: its colours, and a bit of either mask.
BYTES = 3 + 2 / 8
# Masks are also kept this many times smaller, to choose frames by.
COARSE = 8
# Prepared pictures that are kept: neighbouring frames look at nearly the same others.
VIEWS = 24


# A cubic kernel reaches two pixels far, but gives the second one next to nothing.
KERNEL = 1


@dataclass(frozen=True, slots=True)
class Held:
    """A frame in reach.

    Attributes:
        frame: (H, W, 3) uint8; just inside what is hidden the surroundings continue, so that no kernel reads it.
        coarse: the mask made smaller, (h, w) bool.
    """

    frame: np.ndarray
    coarse: np.ndarray
    packed_hidden: np.ndarray
    packed_clear: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """Its grown mask, (H, W) bool."""
        return self._unpacked(self.packed_hidden).view(np.bool_)

    @property
    def clear(self) -> np.ndarray:
        """(H, W) uint8, 1 where resampling brings in nothing that is hidden or beyond the frame, else 0."""
        return self._unpacked(self.packed_clear)

    def _unpacked(self, bits: np.ndarray) -> np.ndarray:
        height, width = self.frame.shape[:2]
        return np.unpackbits(bits, count=height * width).reshape(height, width)


class Reach:
    """Frames within `reach` of the present one: all the near ones, and of the others every `stride`-th.

    References among them are all held, unless there are very many.

    The clip is read by two readers, one for the present and one that runs ahead, so that what is skipped ahead can
    still be had when it comes near.
    """

    def __init__(
        self, clip: Clip, mask: Mask, dilate: int, reach: int, memory: int, *, references: Collection[int] = ()
    ) -> None:
        """`references`: the numbers of frames that are references."""
        self._clip, self._mask, self._dilate = clip, mask, dilate
        fits = max(3, int(memory // (clip.width * clip.height * BYTES)))
        self.references = frozenset(references if len(references) <= REFERENCE_SHARE * fits else ())
        fits -= len(self.references)
        self.near = min(NEAR, reach, max(1, (fits // 2 - 1) // 2))
        if reach <= self.near:
            self.stride = 1
        else:
            self.stride = max(FAR_STEP, -(-2 * (reach - self.near) // max(1, fits - 2 * self.near - 1)))
        self.reach = reach
        self._held: dict[int, Held] = {}
        self._views: OrderedDict[int, Sight] = OrderedDict()

    def walk(self, start: int = 0) -> Iterator[int]:
        """Go through the clip from a frame on; between two steps `frames` are what is in reach of the present one."""
        read_far, read_near = max(0, start - self.reach), max(0, start - self.near)
        far_reader = ahead(self._read(read_far))
        near_reader = ahead(self._read(read_near)) if self.stride > 1 else None
        last = self._clip.frame_count - 1
        for present in range(start, self._clip.frame_count):
            while read_far <= min(last, present + self.reach):
                held = next(far_reader)
                if read_far % self.stride == 0 or read_far in self.references:
                    self._held[read_far] = held
                read_far += 1
            while near_reader is not None and read_near <= min(last, present + self.near):
                self._held.setdefault(read_near, next(near_reader))
                read_near += 1
            for index in list(self._held):
                gone = present - index
                sparse = index % self.stride and index not in self.references
                if gone > self.reach or (gone > self.near and sparse):
                    del self._held[index]
                    self._views.pop(index, None)
            yield present

    def __contains__(self, index: int) -> bool:
        return index in self._held

    def at_hand(self) -> dict[int, Held]:
        """All frames in reach of the present one, by number; they stay at hand for whoever holds this."""
        return dict(self._held)

    def __getitem__(self, index: int) -> Held:
        return self._held[index]

    def views(self, indices: Sequence[int], pool: Executor) -> list[Sight]:
        """Held frames as registration compares them."""
        missing = [index for index in indices if index not in self._views]
        made = pool.map(lambda held: Sight(held.frame, held.hidden), [self._held[index] for index in missing])
        self._views.update(zip(missing, made, strict=True))
        for index in indices:
            self._views.move_to_end(index)
        views = [self._views[index] for index in indices]
        while len(self._views) > VIEWS:
            self._views.popitem(last=False)
        return views

    def _read(self, start: int) -> Iterator[Held]:
        for frame, masked in zip(self._clip.frames(start), self._mask.frames(start), strict=True):
            yield hold(frame, grow(masked, self._dilate))


def hold(frame: np.ndarray, hidden: np.ndarray) -> Held:
    """A frame (H, W, 3) uint8 whose pixels `hidden` (H, W) bool are not known."""
    height, width = hidden.shape
    size = -(-width // COARSE), -(-height // COARSE)
    free = (~hidden).astype(np.uint8)
    square = np.ones((2 * KERNEL + 1, 2 * KERNEL + 1), np.uint8)
    clear = cv2.erode(free, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    padded = cv2.copyMakeBorder(
        1 - free, 0, size[1] * COARSE - height, 0, size[0] * COARSE - width, cv2.BORDER_REPLICATE
    )
    # (H, W) → (h, 8, w, 8) → (h, w); rows first, which is quick.
    coarse = padded.reshape(size[1], COARSE, size[0] * COARSE).any(1).reshape(size[1], size[0], COARSE).any(2)
    return Held(_edged(frame, hidden), coarse, np.packbits(hidden), np.packbits(clear))


def _edged(frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The frame with a mean of what is not hidden in the hidden pixels next to that."""
    spot = bounds(hidden)
    if spot is None:
        return np.ascontiguousarray(frame)
    left, top, right, bottom = (max(0, spot[0] - 2), max(0, spot[1] - 2), spot[2] + 2, spot[3] + 2)
    part, inside = frame[top:bottom, left:right], hidden[top:bottom, left:right]
    free = (~inside).astype(np.float32)
    mass = cv2.boxFilter(free, -1, (5, 5), normalize=False)
    mean = cv2.boxFilter(part * free[..., None], -1, (5, 5), normalize=False)
    edge = inside & (mass > 0.5)
    out = frame.copy()
    out[top:bottom, left:right][edge] = np.rint(mean[edge] / mass[edge][:, None])
    return out
