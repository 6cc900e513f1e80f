"""Arrays that wait between two steps: in a temporary file, or in a job's, which outlives the process that wrote it.

A kept file is only ever appended to. It is a first line, and records one after the other: a header with a checksum, the
types and shapes of the arrays as JSON, and their bytes, most often compressed. What a kill tore off at the end is cut
off when the file is opened again. Nothing of it is ever executed: it holds numbers.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO, Self

import numpy as np

from layerlift.names import naming
from layerlift.temporary import NO_LINK, cut_at, folder, read_at, temporary_file, write_at

_FIRST_LINE = b"layerlift shelf 1\n"
# Of a record: its number, the lengths of its JSON and of its bytes, and the checksum of both.
_HEADER = struct.Struct("<qIQI")
_CHECKSUM = struct.Struct("<I")
# More JSON than any record has: a header that says so is damaged.
_MOST_JSON = 2**20
_AT_ONCE = 2**20
# Kinds of numpy's types that a record may hold: bool, integers and floats.
_KINDS = "biuf"


class Shelf:
    """Arrays by number, such as a frame's or a window's, read and written in any order and from any thread.

    A context manager whose end closes the file; a temporary one goes then. What is put at a number twice is written
    twice; the last one counts.
    """

    def __init__(self, path: Path | None = None, *, packed: bool = True) -> None:
        """`path`: a file to be kept, whose whole records are there again; None is a temporary file. What is kept is
        compressed unless it is not to be `packed`: it is read far more often than written, or does not get smaller.

        Raises OSError where it cannot be opened, LayerliftError where the disk does not give what is in it.
        """
        self.path = path
        self._packed = packed and path is not None
        self._places: dict[int, tuple[int, int, list[tuple[np.dtype, tuple[int, ...]]]]] = {}
        self._count = self._end = 0
        self._lock = Lock()
        self._file: IO[bytes]
        if path is None:
            self._file = temporary_file("shelf")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666), "r+b", 0)
        try:
            self._find_records()
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, index: int) -> bool:
        return index in self._places

    def __len__(self) -> int:
        """How many there are without a gap, counted from number 0."""
        return self._count

    def last(self, most: int) -> int | None:
        """The highest number that is there, up to `most`."""
        return max((index for index in self._places if index <= most), default=None)

    def put(self, index: int, *arrays: np.ndarray) -> None:
        """Keep arrays of any shapes and types under a number.

        Raises LayerliftError when the file's folder has no room left.
        """
        shapes = [(array.dtype, array.shape) for array in arrays]
        parts = [_bytes_of(array) for array in arrays]
        if self.path is not None:
            if self._packed:
                press = zlib.compressobj(1)
                parts = [*(memoryview(press.compress(part)) for part in parts), memoryview(press.flush())]
            data = b"".join(parts)
            told = json.dumps([[kind.str, shape] for kind, shape in shapes]).encode()
            header = _HEADER.pack(index, len(told), len(data), zlib.crc32(data, zlib.crc32(told)))
            before = header + _CHECKSUM.pack(zlib.crc32(header)) + told
            parts = [memoryview(before + data)]
        with self._lock:
            place, size = self._end, sum(map(len, parts))
            for part in parts:
                write_at(self._file.fileno(), self._end, part, self.path)
                self._end += len(part)
            if self.path is not None:
                place, size = place + len(before), len(data)
            self._add(index, place, size, shapes)

    def get(self, index: int) -> list[np.ndarray]:
        """The arrays under a number; they may be written to."""
        place, size, shapes = self._places[index]
        data: bytes | bytearray = self._read(place, size)
        whole = sum(_size_of(*of) for of in shapes)
        if self._packed:
            # No more than the arrays take: what says otherwise is damaged.
            try:
                data = zlib.decompressobj().decompress(data, whole) if whole else b""
            except (zlib.error, OverflowError):
                data = b""
        if len(data) != whole:
            raise OSError(f"{self.path or 'a temporary file'} does not hold what it says")
        found, at = [], 0
        for kind, shape in shapes:
            count = math.prod(shape)
            # A copy may be written to, and lies where its type wants to lie.
            found.append(np.frombuffer(data, kind, count, at).reshape(shape).copy() if count else np.empty(shape, kind))
            at += count * kind.itemsize
        return found

    def close(self) -> None:
        """Close the file; a temporary one is gone then."""
        with naming(self.path or folder()):  # disks of other machines say only now that they are full
            self._file.close()

    def drop(self) -> None:
        """Close the file, and remove it where it is kept: it is needed no more."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, index: int, place: int, size: int, shapes: list[tuple[np.dtype, tuple[int, ...]]]) -> None:
        self._places[index] = place, size, shapes
        while self._count in self._places:
            self._count += 1

    def _find_records(self) -> None:
        """Find the whole records of a kept file; what follows the last of them is cut off."""
        self._end = len(_FIRST_LINE)
        if self._read(0, self._end) != _FIRST_LINE:
            cut_at(self._file.fileno(), 0, self.path)
            write_at(self._file.fileno(), 0, _FIRST_LINE, self.path)
            return
        for index, place, size, shapes in self._records(os.fstat(self._file.fileno()).st_size):
            self._add(index, place, size, shapes)
            self._end = place + size
        cut_at(self._file.fileno(), self._end, self.path)

    def _records(self, length: int) -> Iterator[tuple[int, int, int, list[tuple[np.dtype, tuple[int, ...]]]]]:
        """Number, place and size of the bytes, types and shapes of every record up to the first that is not whole."""
        at = len(_FIRST_LINE)
        while True:
            header = self._read(at, _HEADER.size)
            at += _HEADER.size
            if len(header) < _HEADER.size or self._read(at, _CHECKSUM.size) != _CHECKSUM.pack(zlib.crc32(header)):
                return
            index, json_size, size, checksum = _HEADER.unpack(header)
            at += _CHECKSUM.size
            if json_size > _MOST_JSON or at + json_size + size > length:
                return
            told, at = self._read(at, json_size), at + json_size
            found = zlib.crc32(told)
            for place in range(at, at + size, _AT_ONCE):
                found = zlib.crc32(self._read(place, min(_AT_ONCE, at + size - place)), found)
            shapes = _shapes_in(told)
            if found != checksum or shapes is None:
                return
            yield index, at, size, shapes
            at += size

    def _read(self, place: int, size: int) -> bytes:
        """So many bytes; fewer at the file's end."""
        return read_at(self._file.fileno(), place, size, self.path)


def _bytes_of(array: np.ndarray) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _size_of(kind: np.dtype, shape: tuple[int, ...]) -> int:
    return kind.itemsize * math.prod(shape)


def _shapes_in(told: bytes) -> list[tuple[np.dtype, tuple[int, ...]]] | None:
    """Types and shapes as a record's JSON tells them; None for anything else."""
    try:
        shapes = [(np.dtype(str(kind)), tuple(map(int, shape))) for kind, shape in json.loads(told)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    good = all(kind.kind in _KINDS and all(side >= 0 for side in shape) for kind, shape in shapes)
    return shapes if good else None
