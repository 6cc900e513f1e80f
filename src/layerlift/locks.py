"""Locks on open files, where the system has them."""

from __future__ import annotations

import sys


def locked(descriptor: int, *, exclusive: bool) -> bool:
    """Lock an open file; False when whoever else opened it has a lock that does not go with this one.

    One that is not exclusive goes with others of its kind, and is waited for. The system lets go of it when the file is
    closed. True, too, where the system or its disk has no locks.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
