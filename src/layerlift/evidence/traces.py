"""Traces: for every hidden pixel, where the scene shows it before and after. `find_traces` finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerlift.evidence.exposure import Exposures
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.arrays import sampled

# The expected error of a trace in levels of 255: so much, and so much more by what it costs. Measured on frames of real
# clips, whose errors follow this from costs of 1 to 40.
TRACE_ERROR, ERROR_OF_COST = 0.5, 1.1
X, Y, FRAME, COST = range(4)


@dataclass(frozen=True, slots=True)
class Trace:
    """Where hidden pixels are shown in one direction of time.

    Attributes:
        source: (h, w, 4) float32: x, y and number of the frame that shows a pixel, and what the trace costs; NaN, and
            infinite costs, where nothing was found. Pixels that are not hidden are their own source.
    """

    source: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The error that colours taken along it are expected to have, (h, w) float32 in levels of 255."""
        return np.asarray(TRACE_ERROR + ERROR_OF_COST * self.source[..., COST])

    def without(self, other: Trace) -> Trace:
        """The same with nothing found where both lead the same way."""
        source = self.source.copy()
        source[source[..., COST] == other.source[..., COST], COST] = np.inf
        return Trace(source)


class Traces:
    """The traces of a clip's frames, backwards and forwards in time; they lie in a file.

    Attributes:
        size: (width, height) of the pictures they were found on.
        exposures: of the frames; colours taken along a trace have to be brought from one to another.
        painted: those that lead to what reference frames show in their holes; None without references.
        fills: what no frame shows, filled; None until it is.
    """

    def __init__(self, size: tuple[int, int], exposures: Exposures, shelf: Shelf) -> None:
        self.size, self.exposures = size, exposures
        self.painted: Traces | None = None
        self.fills: Fills | None = None
        self._shelf = shelf

    def put(self, index: int, side: int, hidden: np.ndarray, source: np.ndarray) -> None:
        """Keep where the `hidden` (h, w) bool pixels of a frame are shown; side 0 is before it, 1 after."""
        self._shelf.put(2 * index + side, np.packbits(hidden), source[hidden])

    def has(self, index: int, side: int) -> bool:
        """Whether that was kept already, maybe by an earlier process."""
        return 2 * index + side in self._shelf

    def __getitem__(self, index: int) -> tuple[Trace, Trace]:
        """The traces of a frame backwards and forwards."""
        return self.get(index, 0), self.get(index, 1)

    def get(self, index: int, side: int) -> Trace:
        """One of the two."""
        width, height = self.size
        bits, found = self._shelf.get(2 * index + side)
        hidden = np.unpackbits(bits, count=width * height).reshape(height, width) > 0
        source = own_source(index, height, width)
        source[hidden] = found
        return Trace(source)

    def close(self) -> None:
        """Close the files."""
        self._shelf.close()
        for more in (self.painted, self.fills):
            if more is not None:
                more.close()


class Fills:
    """What no frame shows, filled, frame by frame; it lies in a file."""

    def __init__(self, size: tuple[int, int], shelf: Shelf) -> None:
        """`size`: (width, height) of the frames."""
        self._size = size
        self._shelf = shelf

    def put(self, index: int, unseen: np.ndarray, colours: np.ndarray, source: np.ndarray) -> None:
        """Keep the `colours` (N, 3) uint8 of what is `unseen` (h, w) bool in a frame, and their sources (N, 4)."""
        self._shelf.put(index, np.packbits(unseen), colours, source)

    def __contains__(self, index: int) -> bool:
        return index in self._shelf

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """What is unseen in a frame, (h, w) bool, and its colours (N, 3) uint8."""
        width, height = self._size
        bits, colours, _ = self._shelf.get(index)
        return np.unpackbits(bits, count=width * height).reshape(height, width) > 0, colours

    def source(self, index: int) -> np.ndarray:
        """Where the colours of what is unseen in a frame were made, (h, w, 4) float32 as in `Trace`; NaN elsewhere."""
        unseen, _ = self[index]
        source = no_source(*unseen.shape)
        source[unseen] = self._shelf.get(index)[2]
        return source

    def close(self) -> None:
        """Close the file."""
        self._shelf.close()


def no_source(height: int, width: int) -> np.ndarray:
    """Nothing found for any pixel of a frame, (h, w, 4) float32."""
    source = np.full((height, width, 4), np.nan, np.float32)
    source[..., COST] = np.inf
    return source


def own_source(index: int, height: int, width: int) -> np.ndarray:
    """Every pixel of a frame as its own source, (h, w, 4) float32."""
    source = np.zeros((height, width, 4), np.float32)
    source[..., X], source[..., Y] = np.arange(width), np.arange(height)[:, None]
    source[..., FRAME] = index
    return source


def follow_link(
    flow: np.ndarray, error: np.ndarray, theirs: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Sources of N pixels of a frame by way of another one's, (h, w, 4): (N, 4) float32.

    `flow` (N, 2) and `error` (N,) are those of the link at these pixels.
    """
    height, width = theirs.shape[:2]
    to = flow + np.stack([columns, rows], 1)  # (N, 2)
    inside = (to[:, 0] >= 0) & (to[:, 0] <= width - 1) & (to[:, 1] >= 0) & (to[:, 1] <= height - 1)
    near = np.where(inside[:, None], np.rint(to), 0).astype(np.intp)
    found = theirs[near[:, 1], near[:, 0]]
    # The part of a pixel by which the place lies off the one whose source is known stays.
    found[:, :FRAME] += to - near
    found[:, COST] += error
    found[~inside | ~np.isfinite(found[:, COST]), COST] = np.inf
    return found


def taken(source: np.ndarray, where: np.ndarray, frame_of) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Colours at the sources (h, w, 4) of the pixels `where` (h, w) bool: (h, w, 3) float32, 0 where there is none.

    `frame_of` gives a frame (h, w, 3) uint8 by its number.
    """
    rows, columns = np.nonzero(where & np.isfinite(source[..., COST]))
    out = np.zeros((*where.shape, 3), np.float32)
    if not len(rows):
        return out
    found = source[rows, columns]
    numbers = found[:, FRAME].astype(np.intp)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for first, end in zip(starts, [*starts[1:], len(order)], strict=True):
        part = order[first:end]
        frame = frame_of(int(numbers[part[0]]))
        out[rows[part], columns[part]] = sampled(frame, found[part, X], found[part, Y])
    return out
