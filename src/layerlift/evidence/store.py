"""What was gathered, in a temporary file: only the hidden pixels, so that a clip's length costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO

import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.evidence.motion import Motion
from layerlift.evidence.state import State
from layerlift.temporary import temporary_file, write_at


@dataclass(frozen=True, slots=True)
class _Record:
    """Where a frame's hidden pixels lie: in the file, and in the picture."""

    place: int
    box: tuple[int, int, int, int]  # left, top, right, bottom
    count: int


class Spool:
    """States and colours of hidden pixels, appended frame by frame."""

    def __init__(self) -> None:
        self._file: IO[bytes] = temporary_file("evidence")
        self._records: list[_Record | None] = []

    def __len__(self) -> int:
        return len(self._records)

    def append(self, frame: np.ndarray, state: np.ndarray) -> None:
        """Keep the pixels of a frame (H, W, 3) uint8 whose state (H, W) uint8 is not ORIGINAL.

        Raises LayerliftError when the folder of temporary files is full.
        """
        rows, columns = np.flatnonzero(state.any(1)), np.flatnonzero(state.any(0))
        if not len(rows):
            self._records.append(None)
            return
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        states = state[box[1] : box[3], box[0] : box[2]]
        colours = frame[box[1] : box[3], box[0] : box[2]][states != State.ORIGINAL]
        place = self._file.seek(0, 2)
        write_at(self._file, place, states.tobytes() + colours.tobytes())
        self._records.append(_Record(place, box, len(colours)))

    def apply(self, index: int, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index` with its gathered pixels written in, and its states."""
        state = np.full(frame.shape[:2], State.ORIGINAL, np.uint8)
        record = self._records[index]
        if record is None:
            return frame, state
        left, top, right, bottom = record.box
        shape = bottom - top, right - left
        self._file.seek(record.place)
        states = np.frombuffer(self._file.read(shape[0] * shape[1]), np.uint8).reshape(shape)
        colours = np.frombuffer(self._file.read(3 * record.count), np.uint8).reshape(-1, 3)
        out = frame.copy()
        out[top:bottom, left:right][states != State.ORIGINAL] = colours
        state[top:bottom, left:right] = states
        return out, state

    def state(self, index: int, height: int, width: int) -> np.ndarray:
        """The states (H, W) uint8 of frame `index`, without its pixels."""
        state = np.full((height, width), State.ORIGINAL, np.uint8)
        record = self._records[index]
        if record is not None:
            left, top, right, bottom = record.box
            self._file.seek(record.place)
            states = np.frombuffer(self._file.read((bottom - top) * (right - left)), np.uint8)
            state[top:bottom, left:right] = states.reshape(bottom - top, right - left)
        return state

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class Evidence:
    """What a clip shows of its hidden pixels; a context manager whose end removes the temporary file.

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

    def filled_frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `frames`, with the UNKNOWN pixels filled in too, without any model and steady in time; GENERATED there."""
        for frame, state in ahead(self.frames()):
            yield frame, np.where(state == State.UNKNOWN, np.uint8(State.GENERATED), state)

    def close(self) -> None:
        """Remove the temporary file; nothing can be read any more."""
        self._spool.close()

    def __enter__(self) -> Evidence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
