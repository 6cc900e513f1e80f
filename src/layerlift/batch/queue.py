"""Tasks until the end of each: done, or set aside after as many tries as it may have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layerlift.batch.executors.base import Executor
from layerlift.batch.tasks import Event, Task

# Exit codes of a command line that another try does not change: what the user gave cannot be used.
FINAL = (0, 2)
# Tries of one task at the very most, whatever ends its workers.
MOST_TRIES = 20
_EVERY = 0.5  # seconds between two looks at what the executor tells, at most


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task at its end.

    Attributes:
        task: the task.
        code: 0 is done; else why it was set aside, as an exit code.
        message: why, for the user; empty when it is done.
        tries: how often it was begun.
        seconds: of the last try.
        place: where it was tried last, a number of the executor's places.
        answer: what its function returned.
    """

    task: Task
    code: int
    message: str
    tries: int
    seconds: float
    place: int
    answer: Any = None


def work_off(
    tasks: Sequence[Task],
    executor: Executor,
    *,
    retries: int,
    told: Callable[[Event], None] = lambda event: None,
    finished: Callable[[Task], bool] = lambda task: False,
) -> Iterator[Outcome]:
    """Have tasks done, the longest first; yields each at its end.

    A task that fails is tried again up to `retries` times, after those that wait. A worker that ends while it gets
    further than any try before does not count: it may have been the machine. `told` is called with everything that
    happens; `finished` says whether a task whose worker is gone had its result all the same.

    Raises LayerliftError when no worker can be had.
    """
    open_tasks = {task.name: _Open(task) for task in tasks}
    executor.submit(sorted(tasks, key=lambda task: task.seconds, reverse=True))
    while open_tasks:
        for event in executor.wait(_EVERY):
            told(event)
            state = open_tasks.get(event.task)
            if state is None:
                continue
            state.note(event)
            if not event.ends:
                continue
            outcome = state.outcome(event)
            if lost(event) and finished(state.task):
                outcome = replace(outcome, code=0, message="")
            if outcome.code in FINAL or state.failed > retries or state.tries >= MOST_TRIES:
                del open_tasks[event.task]
                yield outcome
            else:
                executor.submit([state.again()])


class _Open:
    """A task that is not at its end."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.tries = self.failed = 0
        self._began = 0.0
        self._steps: list[int] = []  # of each stage of this try, how many are done
        self._furthest: list[int] = []  # the same of the try that came furthest

    def note(self, event: Event) -> None:
        """Keep what an event tells of the task."""
        if event.kind == "began":
            self.tries += 1
            self._began = time.monotonic()
            self._steps = []
        elif event.kind == "stage":
            self._steps.append(0)
        elif event.kind == "step" and self._steps:
            self._steps[-1] = event.told["done"]
        elif event.ends:
            self.failed += not lost(event) or self._steps <= self._furthest
            self._furthest = max(self._furthest, self._steps)

    def again(self) -> Task:
        """The task for another try."""
        return self.task if self.task.again is None else replace(self.task, given=self.task.again)

    def outcome(self, event: Event) -> Outcome:
        """The end of the task, if it is one."""
        answer = event.told.get("answer")
        code = answer.get("code", 0) if isinstance(answer, dict) else 0 if event.kind == "answer" else 1
        message = answer.get("message", "") if isinstance(answer, dict) else event.told.get("message", "")
        seconds = event.told.get("seconds", time.monotonic() - self._began)
        return Outcome(self.task, code, message, self.tries, seconds, event.place, answer)


def lost(event: Event) -> bool:
    """Whether a task's end came from outside: its worker is gone, or was told to end."""
    answer = event.told.get("answer")
    return event.kind == "lost" or (isinstance(answer, dict) and answer.get("code", 0) >= 128)
