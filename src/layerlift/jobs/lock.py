"""Who works in a folder: one process at a time, and one that is gone is told from one that runs."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from layerlift.locks import locked
from layerlift.names import naming
from layerlift.processes import State, owner, state_of
from layerlift.temporary import NO_LINK

# Seconds until the lock of a process that was killed is free: the system lets go of it when its memory is freed.
PATIENCE = 2.0
# Bytes of a lock's file that are read: more than it has.
_LONG = 200
# A file that is a link, or waits for a writer, is none of ours.
_CAREFUL = NO_LINK | getattr(os, "O_NONBLOCK", 0)


class Lock:
    """A file that names the process that holds it, and when that process began: numbers of processes are used again.

    Where the system can, the file is locked as well, so that of two processes only one gets it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process that runs has it. Raises OSError where it cannot be written."""
        end = time.monotonic() + PATIENCE
        while not self._tried():
            if self.is_held() or time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def leave(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether a process that runs has it; one of which nothing is known may run."""
        return self.holder() != "gone"

    def holder(self) -> State:
        """What has become of the process that has it; gone is none, too."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _CAREFUL)
            try:
                return state_of(_told(descriptor))
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return "gone"
        except OSError:  # it may be anybody's: not ours to take
            return "unknown"

    def forget_elsewhere(self) -> None:
        """Free the lock if a process of another machine has it: whoever calls this knows that it is gone."""
        with suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | _CAREFUL)
            try:
                if state_of(_told(descriptor)) == "unknown":
                    self.path.unlink()
            finally:
                os.close(descriptor)

    def _tried(self) -> bool:
        with naming(self.path):
            return self._taken()

    def _taken(self) -> bool:
        """Take the lock, unless it is another's, or the file is no longer the one of that name."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _CAREFUL, 0o644)
        told = _told(descriptor) if locked(descriptor, exclusive=True) else None
        if told is None or (told != owner() and state_of(told) != "gone") or not _is(descriptor, self.path):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, owner().encode(), 0)
        return True


def _told(descriptor: int) -> str:
    """What a lock's file says: the process that holds it, or nothing."""
    return os.pread(descriptor, _LONG, 0).decode("ascii", "replace")


def _is(descriptor: int, path: Path) -> bool:
    """Whether an open file still has a name: whoever had the lock before may have removed it with its folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
