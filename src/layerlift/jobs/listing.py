"""The jobs in a folder: those that run, and those that were interrupted."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from layerlift.jobs.job import ENDING, LOCK, MANIFEST, is_ours
from layerlift.jobs.lock import Lock
from layerlift.jobs.manifest import Manifest

_FOLDER = re.compile(rf"\..+{re.escape(ENDING)}")


@dataclass(frozen=True, slots=True)
class Found:
    """A job's folder that was found.

    Attributes:
        folder: where.
        target: what it makes; the folder's own name where it does not say.
        command: of layerlift; empty where it does not say.
        size: bytes on the disk.
        changed: seconds since 1970 when it was written to last.
        runs: whether a process is at work there.
    """

    folder: Path
    target: str
    command: str
    size: int
    changed: float
    runs: bool


def find_jobs(folder: Path) -> list[Found]:
    """The jobs in a folder and in those just below it, by their folders' names.

    Raises OSError where the folder cannot be read.
    """
    places = [folder]
    for path in sorted(folder.iterdir()):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                places.append(path)
    found = []
    for place in places:
        with suppress(PermissionError):
            for path in sorted(place.iterdir()):
                if _FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    found.append(_look(path))
    return [job for job in found if job is not None]


def _look(folder: Path) -> Found | None:
    """A job's folder; None for a folder that holds anything else."""
    if not is_ours(folder):
        return None
    manifest = Manifest.read(folder / MANIFEST)
    stats = []
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # a job that runs removes files
            stats.append(path.lstat())
    size, changed = sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
    target, command = (folder.name, "") if manifest is None else (manifest.target, manifest.command)
    return Found(folder, target, command, size, changed, Lock(folder / LOCK).is_held())


def remove_job(job: Found) -> bool:
    """Remove a job that does not run; False where it does by now."""
    lock = Lock(job.folder / LOCK)
    if not lock.take():
        return False
    try:
        shutil.rmtree(job.folder)
    finally:
        lock.leave()
    return True
