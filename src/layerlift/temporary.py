"""Temporary files: their room is taken before it is needed, and when there is none that is said in a sentence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from layerlift.errors import LayerliftError, reason_of
from layerlift.exhausted import FULL

CHUNK = 1 << 20  # bytes
# A flag for opening a file that somebody else may have put there: a link is not followed, where the system can do that.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def temporary_file(kind: str) -> IO[bytes]:
    """A new, unbuffered file without a name, for reading and writing; `kind` is for who looks at open files.

    Raises LayerliftError, which names the folder of temporary files, when none can be made.
    """
    with _told():
        return tempfile.TemporaryFile(prefix=f"layerlift-{kind}-", buffering=0)


def write_at(descriptor: int, place: int, data: bytes | memoryview, path: Path | None = None) -> None:
    """Write all of `data` at a place of an open file, from any thread: a temporary one, or a job's at `path`.

    Raises LayerliftError, which names the file's folder, when there is no room.
    """
    left = memoryview(data)
    with _told(path):
        while left:
            count = os.pwrite(descriptor, left, place)
            left, place = left[count:], place + count


def read_at(descriptor: int, place: int, size: int, path: Path | None = None) -> bytes:
    """`size` bytes at a place of an open file, fewer at its end; the file: see `write_at`.

    Raises LayerliftError, which names the file's folder, when the disk fails.
    """
    parts = []
    with _told(path, reading=True):
        while size and (part := os.pread(descriptor, size, place)):
            parts.append(part)
            size, place = size - len(part), place + len(part)
    return b"".join(parts)


def cut_at(descriptor: int, size: int, path: Path | None = None) -> None:
    """Let an open file end after `size` bytes; the file: see `write_at`, which raises the same."""
    with _told(path):
        os.ftruncate(descriptor, size)


def reserve(descriptor: int, size: int) -> None:
    """Take `size` bytes of room for a temporary file that will be mapped.

    A file takes its room when it is written, and a mapped one ends the process when there is none left.

    Raises LayerliftError as `write_at`.
    """
    with _told():
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
            return
    for place in range(0, size, CHUNK):  # macOS
        write_at(descriptor, place, bytes(min(CHUNK, size - place)))


def folder() -> str:
    """The folder of temporary files: what TMPDIR says, or another where nothing can be written there."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere
        return os.environ.get("TMPDIR") or os.curdir


@contextmanager
def _told(path: Path | None = None, *, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = reason_of(error)
        if reading:
            where = f"the work kept in {path.parent}" if path is not None else f"a temporary file in {folder()}"
            raise LayerliftError(f"{where} cannot be read: {reason}; choose a place on another disk.") from error
        if path is not None:
            free = "free some space on its disk, or " if error.errno in FULL else ""
            raise LayerliftError(
                f"the work cannot be kept in {path.parent}: {reason}; {free}choose an output on another disk."
            ) from error
        free = "free some space there, or " if error.errno in FULL else ""
        raise LayerliftError(
            f"no temporary file can be written in {folder()}: {reason}; {free}set TMPDIR to a folder on another disk."
        ) from error
