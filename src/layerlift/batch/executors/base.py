"""What every executor does: take tasks, have them done where there is room, and tell what happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from layerlift.batch.tasks import Event, Task


class Executor(Protocol):
    """Has tasks done by workers in places: devices of this machine or of others, or jobs of a cluster."""

    @property
    def places(self) -> Sequence[str]:
        """What the places are called."""
        ...

    def submit(self, tasks: Sequence[Task]) -> None:
        """Have tasks done, in this order where there are more than places."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What has happened since the last call, in order; it waits for something so long at most.

        Raises LayerliftError when no worker can be had.
        """
        ...

    def close(self) -> None:
        """End all workers, with what they are at."""
        ...


class Dealer:
    """Deals tasks out to places, one at a time to each."""

    def __init__(self, places: int) -> None:
        self._waiting: deque[Task] = deque()
        self.at: dict[int, Task] = {}
        self._free = deque(range(places))

    def add(self, tasks: Iterable[Task]) -> None:
        """More tasks, after those that wait."""
        self._waiting.extend(tasks)

    def deal(self) -> list[tuple[int, Task]]:
        """The tasks that begin now, each with its place."""
        dealt = []
        while self._waiting and self._free:
            place, task = self._free.popleft(), self._waiting.popleft()
            self.at[place] = task
            dealt.append((place, task))
        return dealt

    def open(self, place: int) -> None:
        """A place may be dealt tasks from now on."""
        self._free.append(place)

    def close(self, place: int) -> Task:
        """A place is dealt none any more; returns the task that it was at."""
        return self.at.pop(place)

    def free(self, place: int) -> None:
        """The place's task is at its end."""
        del self.at[place]
        self.open(place)
