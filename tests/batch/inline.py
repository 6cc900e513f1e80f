"""An executor without processes, for tests of what is around one."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from layerlift.batch.tasks import Event, Task
from layerlift.cli.interrupts import Interrupts
from layerlift.progress import StageProgress
from layerlift.workers.__main__ import function_of


class Inline:
    """Does every task where it is waited for, in this process."""

    places = ("cpu",)

    def __init__(self) -> None:
        self.interrupts = Interrupts()
        self.kept: dict[str, Any] = {}
        self._tasks: list[Task] = []

    def submit(self, tasks: Sequence[Task]) -> None:
        self._tasks += tasks

    def wait(self, seconds: float) -> list[Event]:
        task = self._tasks.pop(0)
        answer = function_of(task.call)(self, **task.given)
        return [Event(task.name, 0, "began"), Event(task.name, 0, "answer", {"answer": answer, "seconds": 1.0})]

    def close(self) -> None:
        assert self._tasks == []

    def stage(self, name: str, total: int | None) -> Any:
        return nullcontext(self)

    def advance(self, steps: int = 1) -> None:
        pass


_: StageProgress = Inline()
