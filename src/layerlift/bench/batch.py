"""How much faster several devices are than one: whole jobs on clips in memory, done by the workers of a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layerlift.batch.devices import Device
from layerlift.batch.executors.local import LocalExecutor
from layerlift.batch.queue import work_off
from layerlift.batch.tasks import Task
from layerlift.errors import LayerliftError
from layerlift.progress import Progress

CALL = "layerlift.bench.batch:one_clip"
HEADER = ("workers", "clips", "s", "clips a minute", "over one", "busy while clips last")


@dataclass(frozen=True, slots=True)
class Timed:
    """All clips, done by some devices.

    Attributes:
        devices: their names.
        clips: how many.
        seconds: from the first one's begin to the last one's end.
        over: how much faster than the first of the devices alone.
        busy: of each device, the share of that time in which it worked on clips while there were any left to begin.
    """

    devices: list[str]
    clips: int
    seconds: float
    over: float
    busy: list[float]

    def cells(self) -> list[str]:
        """A row of the table under `HEADER`."""
        busy = ", ".join(f"{share:.0%}" for share in self.busy)
        rate = 60 * self.clips / self.seconds
        return [
            ", ".join(self.devices),
            str(self.clips),
            f"{self.seconds:.1f}",
            f"{rate:.1f}",
            f"{self.over:.2f}",
            busy,
        ]


def time_batches(devices: Sequence[Device], clips: int, given: Mapping[str, Any]) -> Iterator[Timed]:
    """Have the same clips done by the first device alone, and then by all of them. Every worker does one beforehand,
    which nobody counts.

    `given`: what `one_clip` takes, without its device. Raises LayerliftError where a clip fails.
    """
    alone: float | None = None
    for count in dict.fromkeys((1, len(devices))):
        found = _time_batch(devices[:count], clips, given)
        alone = found.seconds if alone is None else alone
        yield replace(found, over=alone / found.seconds)


def _time_batch(devices: Sequence[Device], clips: int, given: Mapping[str, Any]) -> Timed:
    executor = LocalExecutor(devices)
    try:
        told = {**given, "device": devices[0].argv[-1] if devices[0].argv else None}
        # Each worker has one of these: none is free for a second before all have begun.
        list(_done([Task(f"first {number}", CALL, told) for number in range(len(devices))], executor))
        return _measured([Task(f"clip {number}", CALL, told) for number in range(clips)], executor)
    finally:
        executor.close()


def _measured(tasks: Sequence[Task], executor: LocalExecutor) -> Timed:
    began = time.perf_counter()
    ends: list[tuple[int, float, float]] = []  # place, when, and how long the worker worked
    for place, seconds in _done(tasks, executor):
        ends.append((place, time.perf_counter() - began, seconds))
    whole = max(when for _, when, _ in ends)
    places = range(len(executor.places))
    # While clips last: until the first device finds none to begin.
    last = min(max((when for at, when, _ in ends if at == place), default=0.0) for place in places)
    busy = [
        sum(max(0.0, min(when, last) - (when - seconds)) for at, when, seconds in ends if at == place) / last
        for place in places
    ]
    return Timed(list(executor.places), len(tasks), whole, 1.0, busy)


def _done(tasks: Sequence[Task], executor: LocalExecutor) -> Iterator[tuple[int, float]]:
    """Of each task, where it was done and how long that took there. Raises LayerliftError where one fails."""
    for outcome in work_off(tasks, executor, retries=0):
        if outcome.code:
            raise LayerliftError(f"{outcome.task.name} failed: {outcome.message}")
        yield outcome.place, outcome.seconds


def one_clip(
    told: Any, *, model: str, size: Sequence[int], frames: int, hidden: Sequence[int], device: str | None
) -> dict[str, float]:
    """A removal from a clip in memory, with the model's weights kept on the device: seconds of each stage.

    `told` is what a worker is given; see `made_up_clip` for the rest.
    """
    from layerlift.bench.made_up import made_up_clip
    from layerlift.engine.model import open_model
    from layerlift.options import RemovalOptions, RuntimeOptions
    from layerlift.report import Report
    from layerlift.runtime import open_runtime
    from layerlift.stages.removal import remove_frames

    if "bench" not in told.kept:
        opened = open_runtime(RuntimeOptions(open_model(model), device=device, cache=False))
        frames_and_mask = [made.numpy() for made in made_up_clip(tuple(size), frames, tuple(hidden))]  # type: ignore[arg-type]
        told.kept["bench"] = replace(opened, policy=replace(opened.policy, resident=True)), frames_and_mask
    runtime, (clip, mask) = told.kept["bench"]
    progress: Progress = told
    runtime = replace(runtime, report=Report(device=runtime.policy.device), progress=progress)
    for _ in remove_frames(clip, mask, RemovalOptions(evidence="off", crop=False), runtime):
        pass
    return {name: cost.seconds for name, cost in runtime.report.stages.items()}
