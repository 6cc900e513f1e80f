"""Frames that wait between two steps: on a shelf, so that a clip's length costs no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Pixels
from layerlift.jobs.keeper import Keeper
from layerlift.jobs.shelf import Shelf


def resumed_frames(
    keeper: Keeper,
    name: str,
    make: Callable[[int], Iterable[np.ndarray]],
    like: Callable[[int], Iterator[np.ndarray]] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the frames that lie on a job's shelf, then those that `make(number of the first)` yields, which are kept.

    `like`: see `FrameSpool`.
    """
    if not keeper.lasts:
        yield from make(0)
        return
    with FrameSpool(keeper.shelf(name), like) as spool:
        yield from spool.resumed(make)


class FrameSpool:
    """Frames, all of one shape and type, kept in order as they are; a context manager whose end closes the shelf.

    Frames that lie on a job's shelf are there again.
    """

    def __init__(self, shelf: Shelf | None = None, like: Callable[[int], Iterator[np.ndarray]] | None = None) -> None:
        """`shelf`: None is a temporary one.

        `like` yields frames, of the same shape and type, from a number on. What is kept in a job is the difference to
        these alone: a clean plate is its clip in most places.
        """
        self._shelf = Shelf() if shelf is None else shelf
        self._like = like if self._shelf.path is not None else None
        self._theirs: Iterator[np.ndarray] | None = None  # the frames like those to come
        self._kind: tuple[tuple[int, ...], np.dtype] | None = None
        if len(self):
            first = next(self.frames())
            self._kind = first.shape, first.dtype

    def __len__(self) -> int:
        return len(self._shelf)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shelf.close()

    def append(self, frame: np.ndarray) -> None:
        """Keep one more frame. Raises LayerliftError when the disk is full."""
        kind = frame.shape, frame.dtype
        self._kind = self._kind or kind
        if kind != self._kind:
            raise ValueError(f"a frame of {kind[0]} {kind[1]} among those of {self._kind[0]} {self._kind[1]}")
        index = len(self)
        if self._like is not None:
            self._theirs = self._theirs or self._like(index)
            frame = frame ^ next(self._theirs)
        self._shelf.put(index, frame)

    def keep(self, frame: np.ndarray) -> np.ndarray:
        """Keep one more frame and hand it on."""
        self.append(frame)
        return frame

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as they were given; may be asked again and again."""
        numbers = range(start, len(self) if stop is None else stop)
        if self._like is None:
            yield from (self._shelf.get(index)[0] for index in numbers)
        elif numbers:
            for index, frame in zip(numbers, self._like(start), strict=False):
                yield self._shelf.get(index)[0] ^ frame

    def resumed(self, make: Callable[[int], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the frames that are there, then those that `make(number of the first)` yields, which are kept."""
        done = len(self)
        yield from self.frames(0, done)
        for frame in make(done):
            yield self.keep(frame)

    def frames_backward(self) -> Iterator[np.ndarray]:
        """Yield all frames, the last first."""
        for index in range(len(self))[::-1]:
            yield from self.frames(index, index + 1)

    def as_clip(self, like: Clip) -> Clip:
        """The frames, (H, W, 3) uint8, as a clip with everything else of `like`; it lives as long as the spool."""

        def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
            for frame in self.frames(start, stop):
                yield frame if pixels == "rgb24" else np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])

        return replace(like, reader=reader, has_alpha=False)
