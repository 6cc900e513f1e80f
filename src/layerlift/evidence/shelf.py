"""Arrays that wait between two passes: in a temporary file, so that a clip's length costs no memory."""

from __future__ import annotations

import os
from threading import Lock
from types import TracebackType
from typing import IO, Self

import numpy as np

from layerlift.temporary import temporary_file, write_at


class Shelf:
    """Arrays by the number of their frame, read and written in any order and from any thread.

    A context manager whose end removes the file. What is put at a number twice is written twice; the last one counts.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = temporary_file("shelf")
        self._places: dict[int, list[tuple[int, tuple[int, ...], np.dtype]]] = {}
        self._end = 0
        self._lock = Lock()

    def __contains__(self, index: int) -> bool:
        return index in self._places

    def put(self, index: int, *arrays: np.ndarray) -> None:
        """Keep the arrays of a frame, of any shapes and types.

        Raises LayerliftError when the folder of temporary files is full.
        """
        places = []
        with self._lock:
            for array in arrays:
                places.append((self._end, array.shape, array.dtype))
                data = (
                    memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                    if array.size
                    else memoryview(b"")
                )
                write_at(self._file, self._end, data)
                self._end += len(data)
            self._places[index] = places

    def get(self, index: int) -> list[np.ndarray]:
        """The arrays of a frame; they may be written to."""
        found = []
        for place, shape, kind in self._places[index]:
            array = np.empty(shape, kind)
            data = memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")
            read = 0
            while read < len(data):
                count = os.preadv(self._file.fileno(), [data[read:]], place + read)
                if count == 0:
                    raise OSError("a temporary file was cut short while it was used")
                read += count
            found.append(array)
        return found

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
