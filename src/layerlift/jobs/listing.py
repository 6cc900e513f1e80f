"""What waits in a folder: jobs that run or were interrupted, and what killed runs left beside their results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from layerlift.hidden import OLD, maker_of
from layerlift.jobs.job import LOCK, MANIFEST, is_ours, take_away, usage
from layerlift.jobs.lock import Lock
from layerlift.jobs.manifest import Manifest
from layerlift.names import JOB
from layerlift.processes import State
from layerlift.whole import erase

_FOLDER = re.compile(rf"(\..+)?{re.escape(JOB)}", re.DOTALL)

Kind = Literal["running", "interrupted", "left over", "replaced", "unknown"]


@dataclass(frozen=True, slots=True)
class Found:
    """A job's folder, or what a killed run left.

    Attributes:
        path: where.
        target: what it makes; where it does not say, the path.
        command: of layerlift; empty where it does not say.
        size: bytes on the disk.
        changed: seconds since 1970 when it was written to last.
        state: a job is running or interrupted; half a result is left over; what a killed run was about to replace with
            its result is "replaced", and may be the only copy; what another machine may be working on is unknown.
    """

    path: Path
    target: str
    command: str
    size: int
    changed: float
    state: Kind

    @property
    def useless(self) -> bool:
        """Whether nobody works on it, and nothing is lost with it but work."""
        return self.state in ("interrupted", "left over")


def find_jobs(folder: Path) -> list[Found]:
    """The jobs and leftovers in a folder and in those just below it, by their places and names.

    Raises OSError where the folder cannot be read.
    """
    places = [folder]
    for path in sorted(folder.iterdir()):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                places.append(path)
    return [found for place in places for found in _in(place)]


def _in(place: Path) -> Iterator[Found]:
    paths = list[Path]()
    with suppress(OSError):
        paths = sorted(place.iterdir())
    for path in paths:
        found = None
        with suppress(OSError):  # it may end, and go, while it is looked at
            found = _job(path) if _FOLDER.fullmatch(path.name) else _leftover(path)
        if found is not None:
            yield found


def _job(folder: Path) -> Found | None:
    """A job's folder; None for a folder that holds anything else."""
    if not is_ours(folder):
        return None
    manifest = Manifest.read(folder / MANIFEST)
    target, command = (str(folder), "") if manifest is None else (manifest.target, manifest.command)
    used = usage(folder)
    states: dict[State, Kind] = {"running": "running", "gone": "interrupted", "unknown": "unknown"}
    return Found(folder, target, command, used.size, used.changed, states[Lock(folder / LOCK).holder()])


def _leftover(path: Path) -> Found | None:
    """What a killed run left; None for anything else, and for what a run is making."""
    maker = maker_of(path.name)
    if maker is None or maker == "running":
        return None
    used = usage(path)
    state: Kind = "unknown" if maker == "unknown" else "replaced" if path.name.endswith(OLD) else "left over"
    return Found(path, str(path), "", used.size, used.changed, state)


def remove(found: Found) -> bool:
    """Remove what is `useless`; False where a process works on it by now. Raises OSError where the system refuses."""
    if not os.path.lexists(found.path):  # resumed and finished by now
        return True
    if found.state != "interrupted":
        erase(found.path)
        return True
    lock = Lock(found.path / LOCK)
    if not lock.take():
        return False
    try:
        take_away(found.path, lock.leave)
    finally:
        lock.leave()
    return True
