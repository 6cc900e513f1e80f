"""Room for temporary files: taken before it is needed where it can be, and what is said when there is none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from layerlift.errors import LayerliftError


def write_at(file: IO[bytes], place: int, data: bytes | memoryview, path: Path | None = None) -> None:
    """Write all of `data` at a place of an unbuffered file, from any thread: a temporary one, or a job's at `path`.

    Raises LayerliftError, which names the file's folder, when there is no room.
    """
    left = memoryview(data)
    with _told(path):
        while left:
            count = os.pwrite(file.fileno(), left, place)
            left, place = left[count:], place + count


def reserve(descriptor: int, size: int) -> None:
    """Take `size` bytes of room for a temporary file that will be mapped.

    A file takes its room when it is written, and a mapped one ends the process when there is none left. Without
    `posix_fallocate`, as on macOS, nothing is taken.

    Raises LayerliftError as `write_at`.
    """
    if hasattr(os, "posix_fallocate"):
        with _told():
            os.posix_fallocate(descriptor, 0, size)


@contextmanager
def _told(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if path is not None:
            raise LayerliftError(
                f"the work cannot be kept in {path.parent}: {reason}; free some space on its disk, or choose an output "
                "on another disk."
            ) from error
        raise LayerliftError(
            f"no temporary file can be written in {tempfile.gettempdir()}: {reason}; free some space there, or set "
            "TMPDIR to a folder on another disk."
        ) from error
