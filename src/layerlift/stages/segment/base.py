"""The seam of segmentation: what is said of objects, what is found, and what every segmenter can do.

Pixels are (x, y) of the frame, counted from 0; a box reaches from its first pixels up to, but not including, its last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.progress import QUIET, Cancellation, Progress

Box = tuple[float, float, float, float]  # left, top, right, bottom

# Embeddings that are kept; one of MobileSAM's is 2 MiB.
KEPT = 16


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What is said of one object in one frame.

    Attributes:
        points: (N, 2) float32, pixels.
        inside: (N,) bool, whether the object is there, or is not.
        box: what encloses the object.
        logits: (h, w) float32, a mask of an earlier `Prediction` to begin from.
    """

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    inside: np.ndarray = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: Box | None = None
    logits: np.ndarray | None = None

    @property
    def places(self) -> bool:
        """Whether these say where the object is, and not only where it is not."""
        return self.box is not None or bool(self.inside.any())


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The masks that a segmenter offers for one object in one frame.

    Attributes:
        masks: (n, h, w) float32 on a grid over the frame, see `from_grid`; above 0 is inside.
        scores: (n,) float32, how good each is thought to be, from 0 to 1.
        best: the number of the one to take.
        size: (width, height) of the frame.
        stretched: whether the grid is the frame exactly, with cells that need not be square.
    """

    masks: np.ndarray
    scores: np.ndarray
    best: int
    size: tuple[int, int]
    stretched: bool = False

    def mask(self) -> np.ndarray:
        """The best mask at the frame's size, (H, W) bool."""
        mask = self.masks[self.best]
        if self.stretched:
            return cv2.resize(mask, self.size, interpolation=cv2.INTER_LINEAR) > 0
        return from_grid(mask, self.size) > 0


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A frame as a segmenter sees it.

    Attributes:
        content: what the segmenter made of it, its own affair.
        size: (width, height) of the frame.
        cells: (h, w, C) float32 of unit length, what each cell of a grid over the frame looks like; None where that is
            not known.
    """

    content: Any
    size: tuple[int, int]
    cells: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An object to be found in every frame.

    Attributes:
        name: what the user calls it.
        prompts: what is said of it, by the frames' numbers in the clip.
        masks: (H, W) bool each, frames in which it is known.
    """

    name: str
    prompts: Mapping[int, Prompts]
    masks: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def touched(self) -> list[int]:
        """The frames that anything is said of, in order."""
        return sorted({*self.prompts, *self.masks})


class Segmenter(Protocol):
    """Finds objects in a frame, and follows them through a clip."""

    @property
    def name(self) -> str:
        """As it is asked for."""
        ...

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding:
        """Look at a frame (H, W, 3) uint8: the slow part, once for any number of predictions.

        Raises CancelledError soon after that was asked for.
        """
        ...

    def predict(self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None) -> Prediction:
        """Where an object is in a frame that was looked at. Raises CancelledError soon after that was asked for."""
        ...

    def track(
        self,
        clip: Clip,
        targets: Sequence[Target],
        progress: Progress = QUIET,
        keeper: Keeper = TEMPORARY,
        start: int = 0,
    ) -> Iterator[np.ndarray]:
        """The labels, (H, W) uint8, of every frame from `start` on: 0 where no object is, else 1 + the number of the
        target there.

        What the keeper has of an earlier process that was given the same is not done again.

        Raises InputError where nothing is found under what was said, and CancelledError as `progress` does.
        """
        ...


class Embeddings:
    """Embeddings of a clip's frames by their numbers; the ones used last are kept. May be asked from any thread."""

    def __init__(
        self, segmenter: Segmenter, clip: Clip, kept: int = KEPT, *, read: Callable[[int], np.ndarray] | None = None
    ) -> None:
        """`read` gives a frame, (H, W, 3) uint8, by its number; None reads it from the clip."""
        self._segmenter, self._most = segmenter, kept
        self._read = read or (lambda index: next(clip.frames(index, index + 1)))
        self._kept: OrderedDict[int, Embedding] = OrderedDict()
        self._lock = Lock()

    def of(self, index: int, cancellation: Cancellation | None = None) -> Embedding:
        """The embedding of a frame. Raises CancelledError as `Segmenter.embed`."""
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        made = self._segmenter.embed(self._read(index), cancellation)
        with self._lock:
            self._kept[index] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


def from_grid(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) float32 on a grid over a frame → at its pixels, (H, W), linearly; `size` is (width, height).

    A grid begins in the frame's top left corner, and its longer side is the frame's; the shorter one may reach beyond.
    """
    height, width = values.shape
    scale = max(size) / max(values.shape)
    whole = max(size[0], round(width * scale)), max(size[1], round(height * scale))
    return cv2.resize(values, whole, interpolation=cv2.INTER_LINEAR)[: size[1], : size[0]]


def onto_grid(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of `from_grid`: values (H, W) float32 of a frame → means on a grid (h, w), 0 beyond the frame."""
    height, width = values.shape
    scale = max(values.shape) / max(shape)
    below, beside = max(0, round(shape[0] * scale) - height), max(0, round(shape[1] * scale) - width)
    whole = cv2.copyMakeBorder(values, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA)
