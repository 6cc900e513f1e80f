"""A part of a job as a keeper: its shelves in the job's folder, and how far its stages came."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from layerlift.jobs.shelf import Shelf
from layerlift.progress import Progress, StageProgress
from layerlift.small_files import read_small
from layerlift.temporary import NO_LINK, write_at

if TYPE_CHECKING:
    from layerlift.jobs.job import Job

SHELVES, STEPS = "shelves", "steps"
# How far a stage came, and how many of these steps were found.
_STEPS = struct.Struct("<qq")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a job as a keeper."""

    job: Job
    name: str

    lasts = True

    def shelf(self, name: str, *, packed: bool = True) -> Shelf:
        """The shelf of this name, with all that was put there before; `packed`: see `Shelf`."""
        return Shelf(self.job.folder / SHELVES / self.name / name, packed=packed)

    def drop(self, *names: str) -> None:
        """Remove shelves that are needed no more, and are closed; without names, all of this part."""
        folder = self.job.folder / SHELVES / self.name
        if not names:
            shutil.rmtree(folder, ignore_errors=True)
        for name in names:
            (folder / name).unlink(missing_ok=True)

    def part(self, name: str) -> Part:
        """A part of this part."""
        return Part(self.job, f"{self.name}/{name}" if self.name else name)

    def watched(self, progress: Progress) -> Progress:
        """A progress that tells `progress`, and notes how far each stage came."""
        return _Noted(progress.inner if isinstance(progress, _Noted) else progress, self)

    def skip(self, bar: StageProgress, stage: str, steps: int) -> None:
        """So many of a stage's steps need not be made, because what they made was found."""
        stage = self.stage(stage)
        if steps and isinstance(bar, _NotedStage):
            bar.skip(steps)
        elif steps:
            bar.advance(steps)
        if stage in self.job.came:
            found = self.job.found[stage]
            found["found"] += steps
            found["again"] = max(0, self.job.came[stage] - found["found"])

    def settled(self, name: str, now: int) -> int:
        """A number that this job is to have all along: what it was when the job began, or what it is `now`."""
        return self.job.settled(name, now)

    def note(self, path: Path) -> None:
        """A file that was made is finished."""
        self.job.note(path)

    def has(self, path: Path) -> bool:
        """Whether a file is there that was noted, and holds what it did then; what is there else is removed."""
        return self.job.has(path)

    def stage(self, name: str) -> str:
        """A stage's name among those of all parts: of what lies below this part, too."""
        return f"{self.name.split('/')[0]} {name}"


@dataclass(frozen=True, slots=True)
class _Noted:
    inner: Progress
    part: Part

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        own = self.part.stage(name)
        path = self.part.job.folder / STEPS / own
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
        try:
            if own in self.part.job.came:
                self.part.job.found[own] = {"found": 0, "again": self.part.job.came[own]}
            with self.inner.stage(name, total) as bar:
                yield _NotedStage(bar, descriptor, path)
        finally:
            os.close(descriptor)


class _NotedStage:
    def __init__(self, bar: StageProgress, descriptor: int, path: Path) -> None:
        self._bar, self._descriptor, self._path = bar, descriptor, path
        self._steps = self._found = 0
        self._turn = Lock()
        self._note(0)

    def advance(self, steps: int = 1) -> None:
        if steps:
            self._note(steps)
        self._bar.advance(steps)

    def skip(self, steps: int) -> None:
        """Steps that need not be made."""
        self._found += steps
        self.advance(steps)

    def _note(self, steps: int) -> None:
        with self._turn:
            self._steps += steps
            write_at(self._descriptor, 0, _STEPS.pack(self._steps, self._found), self._path)


def read_steps(path: Path) -> tuple[int, int]:
    """How far a stage came, in steps, and how many of these were found; zeros where the file is torn."""
    try:
        told = read_small(path, _STEPS.size)
    except OSError:
        return 0, 0
    return _STEPS.unpack(told) if len(told) == _STEPS.size else (0, 0)
