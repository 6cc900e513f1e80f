"""Processes: one that is gone is told from one that runs, and from a later one of the same number."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Literal

State = Literal["running", "gone", "unknown"]

# The machine, the process's number and when it began.
_OWNER = re.compile(r"([0-9a-f]{8})-([0-9a-f]{1,8})-([0-9a-f]{8})")
# Of a process in Linux: states in which nothing of it runs any more, and the flag of one whose memory is being freed.
_DEAD, _EXITING = "ZX", 0x4


def owner() -> str:
    """This process as a word of letters, digits and "-", unlike that of any other process, on any machine."""
    return _own(os.getpid())


def state_of(owned: str) -> State:
    """What has become of the process that `owner` told of.

    One that was killed is gone, even if nobody has asked for its end yet. Unknown is one of another machine, and one of
    another user whose processes are hidden from this one. A text that `owner` did not make tells of none: gone.
    """
    told = _OWNER.fullmatch(owned)
    if told is None:
        return "gone"
    host, number, began = told.groups()
    if host != _host():
        return "unknown"
    now = _began(int(number, 16))
    if now is None and _is_hidden(int(number, 16)):
        return "unknown"
    return "running" if now == began else "gone"


@cache
def _own(pid: int) -> str:
    return f"{_host()}-{pid:x}-{_began(pid)}"


@cache
def _host() -> str:
    name = platform.node()
    # What follows the name of a Mac is the network's that it is in, and changes with it.
    return _short(name.partition(".")[0] if sys.platform == "darwin" else name)


def _began(pid: int) -> str | None:
    """When a process began, the same each time it is asked for; None when there is none that runs."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():  # Linux, where psutil adds the time of the boot, which moves when the clock is set
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name, in parentheses, may hold anything; see proc_pid_stat(5).
        words = status.rpartition(")")[2].split()
        state, flags, ticks = words[0], int(words[6]), words[19]
        return None if state in _DEAD or flags & _EXITING else _short(f"{boot.read_text().strip()} {ticks}")
    return _began_elsewhere(pid)


def _began_elsewhere(pid: int) -> str | None:
    """The same where the system is not Linux."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # Of its number and when it began, by a clock that nobody sets: `create_time` moves when the system's is set.
        return _short(str(hash(process)))
    except psutil.Error:  # there is none, or nothing is told of it
        return None


def _is_hidden(pid: int) -> bool:
    """Whether there is a process of that number all the same, and it is not this user's."""
    if sys.platform == "win32":  # where this call would end it
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
