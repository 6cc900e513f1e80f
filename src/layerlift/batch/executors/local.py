"""Workers of this machine, one process a device: what takes one down takes its clip down and no other."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layerlift.batch.devices import Device
from layerlift.batch.executors.base import Dealer
from layerlift.batch.tasks import Event, Task
from layerlift.errors import LayerliftError

# Seconds that workers have to end by themselves.
PATIENCE = 1.0
# Workers of one place that end before they have begun, one after the other: another one would, too.
MOST_FALSE_STARTS = 3
_MODULE = "layerlift.workers"
_KINDS: dict[str, Any] = {"stage": "stage", "done": "step", "answer": "answer", "bug": "bug"}


class LocalExecutor:
    """See `Executor`. A worker begins with the first task of its place, and again after its end."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices
        # What workers print while no task has a log of its own.
        self._logs = TemporaryDirectory(prefix="layerlift-workers-")
        self._dealer = Dealer(len(devices))
        self._workers: dict[int, _Worker] = {}
        self._leaving: list[_Worker] = []  # they were asked to end
        self._false_starts = [0] * len(devices)
        self._news: queue.SimpleQueue[tuple[int, _Worker, Mapping[str, Any] | None]] = queue.SimpleQueue()
        self._said: list[Event] = []

    @property
    def places(self) -> list[str]:
        """The devices."""
        return [device.name for device in self._devices]

    def submit(self, tasks: Sequence[Task]) -> None:
        """See `Executor`."""
        self._dealer.add(tasks)
        self._deal()

    def wait(self, seconds: float) -> list[Event]:
        """See `Executor`."""
        found, self._said = self._said, []
        with suppress(queue.Empty):
            while True:
                place, worker, told = self._news.get(timeout=0 if found else seconds)
                found += self._event(place, worker, told)
        return found

    def close(self) -> None:
        """See `Executor`. A worker that does not end by itself is killed."""
        until = time.monotonic() + PATIENCE
        for worker in self._workers.values():
            worker.end()
        for worker in (*self._workers.values(), *self._leaving):
            worker.gone(max(0.0, until - time.monotonic()))
        self._workers.clear()
        self._leaving.clear()
        self._logs.cleanup()

    def _deal(self) -> None:
        for place, task in self._dealer.deal():
            worker = self._workers.get(place)
            if worker is None:
                log = Path(self._logs.name) / f"{place}.log"
                worker = self._workers[place] = _Worker(place, self._devices[place], log, self._news)
            worker.ask(task)
            self._said.append(Event(task.name, place, "began"))

    def _event(self, place: int, worker: _Worker, told: Mapping[str, Any] | None) -> list[Event]:
        """What a worker's line says; None is the end of the worker."""
        task = self._dealer.at.get(place)
        if worker is not self._workers.get(place):
            return []  # one that was ended
        if told is None:
            self._leaving.append(self._workers.pop(place))
            ended = worker.ended()
            self._false_starts[place] += not worker.began
            if self._false_starts[place] >= MOST_FALSE_STARTS:
                said = f"the worker on {self.places[place]} {ended} before it began"
                raise LayerliftError(f"{said}: {worker.last_words() or 'it said nothing'}")
            lost = {"message": f"its worker {ended}"}
            return [] if task is None else self._ends(Event(task.name, place, "lost", lost))
        if "ready" in told:
            self._false_starts[place], worker.began = 0, True
        if "ready" in told or "ended" in told:  # a stage's end
            return []
        kind = next(kind for key, kind in _KINDS.items() if key in told)
        assert task is not None
        event = Event(task.name, place, kind, {"message": told["bug"]} if kind == "bug" else told)
        return self._ends(event) if event.ends else [event]

    def _ends(self, event: Event) -> list[Event]:
        """The event, after which its place has another task; a worker that did not do well goes."""
        answer = event.told.get("answer")
        # After a mistake of the user's a worker is as good as before.
        well = event.kind == "answer" and (not isinstance(answer, dict) or answer.get("code", 0) in (0, 2))
        if not well and (worker := self._workers.pop(event.place, None)) is not None:
            worker.end()
            self._leaving.append(worker)
        self._dealer.free(event.place)
        self._deal()
        said, self._said = self._said, []
        return [event, *said]


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int

    def __str__(self) -> str:
        """What a user is told of a process's end."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"was killed by signal {-self.code}"


class _Worker:
    """The process of a place. What it says comes through a thread, which ends with it."""

    def __init__(
        self,
        place: int,
        device: Device,
        log: Path,
        news: queue.SimpleQueue[tuple[int, _Worker, Mapping[str, Any] | None]],
    ) -> None:
        self._log, self.began = log, False
        with log.open("ab") as file:
            # A session of its own: Ctrl-C in the terminal is for the batch, which ends its workers.
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                env={**os.environ, **device.environment}, start_new_session=True,
            )  # fmt: skip
        self._thread = threading.Thread(target=self._listen, args=(place, news), name=f"worker {place}", daemon=True)
        self._thread.start()

    def ask(self, task: Task) -> None:
        """Have it do a task; if it has ended meanwhile, that is told in its turn."""
        assert self._process.stdin is not None
        line = json.dumps({"call": task.call, "given": dict(task.given)}) + "\n"
        with suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def end(self) -> None:
        """Ask it to end."""
        assert self._process.stdin is not None
        with suppress(OSError):  # a question that it does not read any more
            self._process.stdin.close()

    def gone(self, seconds: float) -> None:
        """Wait for its end so long, and then kill it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()

    def ended(self) -> _Ended:
        """How it ended."""
        self.end()
        return _Ended(self._process.wait())

    def last_words(self) -> str:
        """The last line that it printed outside of tasks."""
        return next(reversed(self._log.read_text("utf-8", "replace").strip().splitlines()), "")

    def _listen(self, place: int, news: queue.SimpleQueue[tuple[int, _Worker, Mapping[str, Any] | None]]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                with suppress(ValueError):  # torn: it was killed in the middle of it
                    news.put((place, self, json.loads(line)))
        self._process.wait()
        news.put((place, self, None))
