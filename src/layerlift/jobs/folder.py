"""A keeper whose folder outlives the job: what was made is there for the next one, which differs in what follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerlift.jobs.shelf import Shelf
from layerlift.progress import Progress, StageProgress


@dataclass(frozen=True, slots=True)
class InFolder:
    """Keeps shelves in a folder, which nobody removes."""

    folder: Path

    lasts = True

    def shelf(self, name: str, *, packed: bool = True) -> Shelf:
        """See `Keeper`. Raises OSError where the folder cannot be written to."""
        return Shelf(self.folder / name, packed=packed)

    def drop(self, *names: str) -> None:
        """What is here stays."""

    def part(self, name: str) -> InFolder:
        """See `Keeper`."""
        return InFolder(self.folder / name)

    def watched(self, progress: Progress) -> Progress:
        """The progress itself."""
        return progress

    def skip(self, bar: StageProgress, stage: str, steps: int) -> None:
        """See `Keeper`."""
        bar.advance(steps)

    def settled(self, name: str, now: int) -> int:
        """What it is now."""
        return now

    def note(self, path: Path) -> None:
        """Only shelves are kept here."""

    def has(self, path: Path) -> bool:
        """What is there was made just now."""
        return path.exists()
