"""Who works in a folder: one process at a time, and one that is gone is told from one that runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Lock:
    """A file that names the process that holds it, and when that process began: numbers of processes are used again.

    Where the system can, the file is locked as well, which ends with the process whatever happens.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process that runs has it. Raises OSError where it cannot be written."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        if not _locked(descriptor) or _holder_runs(self.path):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        told = {"pid": os.getpid(), "began": process_began(os.getpid()), "host": platform.node()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(told).encode(), 0)
        return True

    def leave(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether a process that runs has it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return False
        except OSError:  # it may be anybody's: not ours to take
            return True
        try:
            return not _locked(descriptor) or _holder_runs(self.path)
        finally:
            os.close(descriptor)


def process_began(pid: int) -> str | None:
    """When a process began, in words that are the same as long as it runs; None when there is no such process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name, in parentheses, may hold anything; ticks since the boot are the 20th word after it.
            ticks = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[19]
            boot = Path("/proc/sys/kernel/random/boot_id")
            return f"{boot.read_text().strip() if boot.exists() else ''} {ticks}"
        except (OSError, IndexError):
            return None
    try:
        found = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def _locked(descriptor: int) -> bool:
    """Lock an open file for this process, where the system can."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems cannot: the process that the file names is asked
        return True
    return True


def _holder_runs(path: Path) -> bool:
    """Whether the process that a lock's file names runs. One of another machine cannot be asked: it may."""
    try:
        told = json.loads(path.read_text("utf-8"))
        pid, began, host = int(told["pid"]), told["began"], told["host"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # nobody's, or torn
    if host != platform.node():
        return True
    return pid != os.getpid() and pid > 0 and process_began(pid) == began
