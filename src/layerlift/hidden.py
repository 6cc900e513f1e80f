"""Hidden names: what lies beside a result until it is finished, whose it is, and what killed runs left of it.

A name says what it belongs to and which process made it, so what a killed run leaves is told from what one that runs is
making.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

from layerlift.names import HIDDEN


def hidden_name(place: Path, ending: str = "") -> Path:
    """A new, hidden name beside `place` for what belongs to it and is made by this process; it fits where names do."""
    place = place.absolute()
    return place.with_name(f"{HIDDEN}{_key(place)}-{owner()}-{secrets.token_hex(8)}{ending}")


def leftovers(place: str | Path) -> list[Path]:
    """Hidden files and folders of an output that were made by processes of this machine that are gone.

    They lie beside it, or in it where it is a folder.
    """
    given, real = Path(place).absolute(), Path(os.path.realpath(place))  # a link to a folder is followed
    found = set()
    for folder, start in ((real, HIDDEN), *((path.parent, f"{HIDDEN}{_key(path)}-") for path in (given, real))):
        with suppress(OSError):
            found |= {entry for entry in folder.iterdir() if entry.name.startswith(start) and _orphaned(entry.name)}
    return sorted(found)


def owner(pid: int | None = None) -> str:
    """A process, this one unless another's number is given, told apart from any later one of that number.

    Raises LookupError when there is no such process.
    """
    return _own(os.getpid()) if pid is None else _owner(pid)


def is_running(owned: str) -> bool:
    """Whether the process that `owner` told of runs, on this machine."""
    try:
        return owner(int(owned.partition("-")[0], 16)) == owned
    except (LookupError, ValueError, OverflowError):
        return False


@cache
def _own(pid: int) -> str:
    return _owner(pid)


def _owner(pid: int) -> str:
    return f"{pid:x}-{hashlib.sha256(f'{platform.node()} {_started(pid)}'.encode()).hexdigest()[:8]}"


def _started(pid: int) -> str:
    """When a process started, the same each time it is asked for."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():  # Linux, where psutil adds the time of the boot, which moves when the clock is set
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError) as error:
            raise LookupError(f"there is no process {pid}") from error
        return f"{boot.read_text().strip()} {status.rpartition(')')[2].split()[19]}"
    import psutil  # type: ignore[import-untyped]

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess as error:
        raise LookupError(f"there is no process {pid}") from error


def _orphaned(name: str) -> bool:
    """Whether a hidden name's process is gone; a name that `hidden_name` did not make is somebody else's."""
    parts = name.removeprefix(HIDDEN).split("-")
    return len(parts) >= 4 and not is_running(f"{parts[1]}-{parts[2]}")


def _key(place: Path) -> str:
    return hashlib.sha256(os.fsencode(place.name)).hexdigest()[:8]
