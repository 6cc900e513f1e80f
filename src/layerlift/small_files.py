"""Small files that lie where anybody may have put something else: read within bounds, and never waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

# Far more than any of them has.
MOST = 8 * 2**20
# A pipe that nobody writes to is opened at once, and told by what it is.
_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_small(path: Path, most: int = MOST) -> bytes:
    """What a file holds. Raises OSError where it cannot be read, is no file, or has more than `most` bytes."""
    descriptor = os.open(path, _AT_ONCE)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        held = file.read(most + 1)
    if len(held) > most:
        raise OSError(errno.EFBIG, "it is too large", str(path))
    return held


def read_record(path: Path, kind: type[T], most: int = MOST) -> T:
    """What a file of JSON holds, as a `kind`. Raises OSError as `read_small`, ValueError for anything else."""
    return as_record(read_small(path, most), kind)


def as_record(text: bytes | bytearray, kind: type[T]) -> T:
    """What JSON says, as a `kind`. Raises ValueError, which says what is wrong, for anything else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
