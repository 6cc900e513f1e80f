"""What was gathered, on a shelf: only the hidden pixels, so that a clip's length costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.evidence.motion import Motion
from layerlift.evidence.state import State
from layerlift.jobs.shelf import Shelf


class Spool:
    """States and colours of hidden pixels, appended frame by frame."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        """`shelf`: None is a temporary one."""
        self._shelf = Shelf() if shelf is None else shelf

    def __len__(self) -> int:
        return len(self._shelf)

    def append(self, frame: np.ndarray, state: np.ndarray, *more: np.ndarray) -> None:
        """Keep the pixels of a frame (H, W, 3) uint8 whose state (H, W) uint8 is not ORIGINAL, and any other arrays.

        Raises LayerliftError when the disk is full.
        """
        rows, columns = np.flatnonzero(state.any(1)), np.flatnonzero(state.any(0))
        box = np.zeros(4, np.int64)  # left, top, right, bottom
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        where = np.s_[box[1] : box[3], box[0] : box[2]]
        states = state[where]
        self._shelf.put(len(self), box, states, frame[where][states != State.ORIGINAL], *more)

    def more(self, index: int) -> list[np.ndarray]:
        """The other arrays that were kept with frame `index`."""
        return self._shelf.get(index)[3:]

    def apply(self, index: int, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index` with its gathered pixels written in, and its states."""
        state = np.full(frame.shape[:2], State.ORIGINAL, np.uint8)
        (left, top, right, bottom), states, colours, *_ = self._shelf.get(index)
        if not states.size:
            return frame, state
        out = frame.copy()
        out[top:bottom, left:right][states != State.ORIGINAL] = colours
        state[top:bottom, left:right] = states
        return out, state

    def state(self, index: int, height: int, width: int) -> np.ndarray:
        """The states (H, W) uint8 of frame `index`, without its pixels."""
        state = np.full((height, width), State.ORIGINAL, np.uint8)
        (left, top, right, bottom), states, *_ = self._shelf.get(index)
        state[top:bottom, left:right] = states
        return state

    def close(self) -> None:
        """Close the shelf."""
        self._shelf.close()


class Evidence:
    """What a clip shows of its hidden pixels; a context manager whose end closes its file.

    Attributes:
        motion: how the camera moves.
        shares: `hidden` pixels in all frames, and which share of them was `gathered` or stays `unknown`.
    """

    def __init__(self, clip: Clip, spool: Spool, motion: Motion, *, hidden: int, gathered: int) -> None:
        self._clip, self._spool, self.motion = clip, spool, motion
        share = gathered / hidden if hidden else 0.0
        self.shares = {"hidden": hidden, "gathered": share, "unknown": 1 - share if hidden else 0.0}

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield frames start … stop - 1: (H, W, 3) uint8 with gathered pixels written in, and `State` (H, W) uint8.

        UNKNOWN pixels still show what the clip shows.
        """
        for index, frame in enumerate(self._clip.frames(start, stop), start):
            yield self._spool.apply(index, frame)

    def states(self) -> Iterator[np.ndarray]:
        """Yield every frame's `State` (H, W) uint8, without reading the clip."""
        for index in range(len(self._spool)):
            yield self._spool.state(index, self._clip.height, self._clip.width)

    def filled_frames(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `frames`, with the UNKNOWN pixels filled in too, without any model and steady in time; GENERATED there."""
        for frame, state in ahead(self.frames(start)):
            yield frame, np.where(state == State.UNKNOWN, np.uint8(State.GENERATED), state)

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._spool.close()

    def __enter__(self) -> Evidence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
