"""The clip made small, on a shelf: what dense motion is found on, again and again and in any order."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import cv2
import numpy as np

from layerlift.evidence.inpaint import inpaint
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.pixels.arrays import distance_to, spread

# Pictures kept in memory of each kind: a trace looks at its neighbours' frames.
KEPT = 40
# The expected error of inpainting grows with the contrast around the hole and with the depth in it. Measured on frames
# of real clips, 432x240: one level, and of the contrast (standard deviation, in a Gaussian window of CONTRAST pixels)
# so much at the border, so much more for every pixel of depth, and at most so much.
CONTRAST = 6.0
AT_BORDER, PER_PIXEL, AT_MOST = 0.3, 0.16, 2.1


class Proxies:
    """A clip's frames reduced to one size, and what is hidden in them.

    Attributes:
        size: (width, height) of the reduced frames.
    """

    def __init__(self, size: tuple[int, int], keeper: Keeper = TEMPORARY) -> None:
        self.size = size
        # They are looked at again and again.
        self._shelf = keeper.shelf("proxies", packed=False)
        self._filled = keeper.shelf("proxies-filled", packed=False)
        self._recent: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self._shelf)

    def put(self, index: int, frame: np.ndarray, hidden: np.ndarray) -> None:
        """Keep a reduced frame (h, w, 3) uint8 and where anything of a pixel is hidden, (h, w) bool."""
        self._shelf.put(index, frame, hidden)

    def seen(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A frame as it was put, with what is hidden still in it."""
        frame, hidden = self._shelf.get(index)
        return frame, hidden

    def is_filled(self, index: int) -> bool:
        """Whether `fill` was called for a frame, maybe in an earlier process."""
        return index in self._filled

    def fill(self, index: int) -> None:
        """Inpaint what is hidden in a frame: it is never read after that, not even between two pixels."""
        frame, hidden = self.seen(index)
        self._filled.put(index, *([inpaint(frame, hidden)] if hidden.any() else []))
        with self._lock:
            self._recent.pop(index, None)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index`, (h, w, 3) uint8 with its hidden pixels inpainted, and what is hidden, (h, w) bool."""
        with self._lock:
            if index not in self._recent:
                frame, hidden = self.seen(index)
                filled = self._filled.get(index) if index in self._filled else []
                self._recent[index] = filled[0] if filled else frame, hidden
                while len(self._recent) > KEPT:
                    self._recent.popitem(last=False)
            self._recent.move_to_end(index)
            return self._recent[index]

    def close(self) -> None:
        """Close the files."""
        self._shelf.close()
        self._filled.close()


def inpainting_error(frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The error that inpainting the hidden pixels is expected to have, (h, w) float32 in levels of 255."""
    if hidden.all():
        return np.full(hidden.shape, np.inf, np.float32)
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    known = (~hidden).astype(np.float32)
    mass, first, second = (
        cv2.GaussianBlur(part, (0, 0), CONTRAST) for part in (known, gray * known, gray * gray * known)
    )
    mass = np.maximum(mass, 1e-3)
    contrast = np.sqrt(np.maximum(second / mass - np.square(first / mass), 0))
    contrast = spread(contrast[..., None], (mass > 0.2).astype(np.float32))[..., 0]
    depth = np.minimum(distance_to(~hidden), 1e4)
    return np.asarray(1 + contrast * np.minimum(AT_MOST, AT_BORDER + PER_PIXEL * depth), np.float32)
