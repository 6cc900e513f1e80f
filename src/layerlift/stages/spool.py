"""Frames that wait between two steps: in a temporary file, so that a clip's length costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import IO, Self

import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Pixels
from layerlift.temporary import temporary_file, write_at


class FrameSpool:
    """Frames, all of one shape and type, kept in order as they are; a context manager whose end removes the file."""

    def __init__(self) -> None:
        self._file: IO[bytes] = temporary_file("frames")
        self._shape: tuple[int, ...] | None = None
        self._type = np.dtype(np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, frame: np.ndarray) -> None:
        """Keep one more frame. Raises LayerliftError when the folder of temporary files is full."""
        if self._shape is None:
            self._shape, self._type = frame.shape, frame.dtype
        if frame.shape != self._shape or frame.dtype != self._type:
            raise ValueError(f"a frame of {frame.shape} {frame.dtype} among those of {self._shape} {self._type}")
        write_at(self._file, self._count * frame.nbytes, np.ascontiguousarray(frame).tobytes())
        self._count += 1

    def keep(self, frame: np.ndarray) -> np.ndarray:
        """Keep one more frame and hand it on."""
        self.append(frame)
        return frame

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as they were given; may be asked again and again."""
        if self._shape is None:
            return
        size = int(np.prod(self._shape)) * self._type.itemsize
        for index in range(start, self._count if stop is None else stop):
            self._file.seek(index * size)
            yield np.frombuffer(self._file.read(size), self._type).reshape(self._shape)

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
