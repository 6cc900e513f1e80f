"""A batch in parts, each a command line of its own: jobs of a cluster whose machines have devices of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from layerlift.batch.executors.base import Executor
from layerlift.batch.ledger import Ledger, Record
from layerlift.batch.queue import work_off
from layerlift.batch.tasks import Event, Task
from layerlift.batch.work import Clip, record_of

PART = "layerlift.workers.commands:part"


def run_shards(
    clips: Sequence[Clip],
    argv: Sequence[str],
    count: int,
    executor: Executor,
    ledger: Ledger,
    *,
    told: Callable[[Event], None] = lambda event: None,
) -> Iterator[Record]:
    """Have every clip done by `count` command lines, each a part of the batch; yields what becomes of each clip.

    `argv`: their words after `layerlift`, without ``--shard I/count``. Every part tries its clips again by itself; a
    part whose machine is gone is tried again here, and goes on.

    Raises LayerliftError when no worker can be had, and when nothing can be written.
    """
    tasks = [
        Task(
            f"shard {number + 1}/{count}",
            PART,
            {"argv": [*argv, "--shard", f"{number + 1}/{count}"], "log": str(ledger.logs / f"shard-{number + 1}.log")},
        )
        for number in range(count)
    ]
    by_name = {task.name: clips[number::count] for number, task in enumerate(tasks)}
    for outcome in work_off(tasks, executor, retries=2, told=told):
        records = ledger.records()
        for clip in by_name[outcome.task.name]:
            record = records.get(clip.name)
            if record is None or (record == clip.record and record.state == "failed"):
                # Its part ended before it was its turn.
                why = outcome.message or f"{outcome.task.name} ended before it: see {outcome.task.given['log']}"
                record = replace(record_of(clip), message=why, device=executor.places[outcome.place])
                ledger.write(record)
            yield record
