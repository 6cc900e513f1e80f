"""What a stage asks for a place to keep what it has made; without a job that is temporary files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from layerlift.jobs.shelf import Shelf
from layerlift.progress import Progress, StageProgress

T = TypeVar("T")


class Keeper(Protocol):
    """Where a part of a job keeps what it has made."""

    @property
    def lasts(self) -> bool:
        """Whether what is kept outlives the process; if not, what nobody reads again need not be kept at all."""
        ...

    def shelf(self, name: str, *, packed: bool = True) -> Shelf:
        """The shelf of this name, with all that was put there before; `packed`: see `Shelf`."""
        ...

    def drop(self, *names: str) -> None:
        """Remove shelves that are needed no more, and are closed; without names, all of this part."""
        ...

    def part(self, name: str) -> Keeper:
        """A keeper whose names are apart from this one's."""
        ...

    def watched(self, progress: Progress) -> Progress:
        """A progress that tells `progress`, and notes how far each stage came."""
        ...

    def skip(self, bar: StageProgress, stage: str, steps: int) -> None:
        """So many of a stage's steps need not be made, because what they made was found."""
        ...

    def settled(self, name: str, now: int) -> int:
        """A number that this job is to have all along: what it was when the job began, or what it is `now`."""
        ...

    def note(self, path: Path) -> None:
        """A file that was made is finished."""
        ...

    def has(self, path: Path) -> bool:
        """Whether a file is there that was noted, and holds what it did then; what is there else is removed."""
        ...


class Temporary:
    """A keeper of temporary files."""

    lasts = False

    def shelf(self, name: str, *, packed: bool = True) -> Shelf:
        """A new temporary shelf."""
        return Shelf()

    def drop(self, *names: str) -> None:
        """They are gone when they are closed."""

    def part(self, name: str) -> Temporary:
        """The same."""
        return self

    def watched(self, progress: Progress) -> Progress:
        """The progress itself."""
        return progress

    def skip(self, bar: StageProgress, stage: str, steps: int) -> None:
        """Nothing was found."""

    def settled(self, name: str, now: int) -> int:
        """What it is now."""
        return now

    def note(self, path: Path) -> None:
        """Nobody will ask."""

    def has(self, path: Path) -> bool:
        """What is there was made just now."""
        return path.exists()


TEMPORARY = Temporary()
"""Keeps nothing beyond the process: what runs without a job runs with this."""


def kept(
    keeper: Keeper,
    name: str,
    make: Callable[[int], Iterable[T]],
    pack: Callable[[T], Sequence[np.ndarray]],
    unpack: Callable[[Sequence[np.ndarray]], T],
) -> Iterator[T]:
    """Yield what lies on the shelf `name`, then the rest, which `make(number of the first)` yields and which is kept.

    `pack` makes arrays of an item, `unpack` the item of them.
    """
    if not keeper.lasts:
        yield from make(0)
        return
    with keeper.shelf(name) as shelf:
        done = len(shelf)
        for index in range(done):
            yield unpack(shelf.get(index))
        for index, item in enumerate(make(done), done):
            shelf.put(index, *pack(item))
            yield item
