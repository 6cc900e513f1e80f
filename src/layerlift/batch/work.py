"""A whole batch: its lines are named, checked and held against what is done, and the rest become tasks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerlift.batch.estimate import correction, estimate
from layerlift.batch.executors.base import Executor
from layerlift.batch.ledger import Ledger, Record, key_of, unchanged
from layerlift.batch.line import Line
from layerlift.batch.names import name_lines, turns_of, twice
from layerlift.batch.queue import Outcome, work_off
from layerlift.batch.remote import localise
from layerlift.batch.tasks import Event, Task
from layerlift.hidden import OLD, leftovers
from layerlift.jobs.job import job_folder
from layerlift.limits import MOST_MEMORY

CHECK, RUN = "layerlift.workers.commands:check", "layerlift.workers.commands:run"


@dataclass(frozen=True, slots=True)
class Clip:
    """A line with its result.

    Attributes:
        line: of the manifest.
        name: of the result.
        turn: how many lines before it have the same clip.
        order: its place in the manifest.
        result: the folder that the result becomes.
        argv: its words after `layerlift`, with where the result goes.
        copies: of inputs that lie elsewhere; see `remote.fetch`.
        record: of an earlier run of the batch, if there is one.
        facts: what was found when it was checked; empty before that, and where that was not needed.
        done: it has its result, made from the same inputs and options.
    """

    line: Line
    name: str
    turn: int
    order: int
    result: Path
    argv: tuple[str, ...]
    copies: Mapping[str, str]
    record: Record | None = None
    facts: Mapping[str, Any] | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """How a batch runs.

    Attributes:
        retries: tries after the first of a clip that fails.
        resume: clips that were interrupted go on where they ended.
        overwrite: results from other inputs or options are made again.
        device: words that are added to every command line.
    """

    retries: int = 2
    resume: bool = False
    overwrite: bool = False
    device: tuple[str, ...] = ()


def name_clips(lines: Sequence[Line], ledger: Ledger, choices: Choices) -> tuple[list[Clip], list[str]]:
    """The lines with the names of their results, and what is wrong with names, a sentence each."""
    records = ledger.records()
    known = [{"clip": record.clip, "turn": record.turn, "name": record.name} for record in records.values()]
    names = name_lines(lines, known)
    clips = []
    for order, (line, name, turn) in enumerate(zip(lines, names, turns_of(lines), strict=True)):
        result = ledger.folder / name
        words, copies = localise(line.argv(), ledger.inputs)
        argv = ("run", *words, *choices.device, "-o", str(result))
        record = records.get(name)
        # Whether what lies elsewhere has changed shows when it is fetched.
        done = not copies and _is_done(record, result, argv)
        clips.append(Clip(line, name, turn, order, result, argv, copies, record, done=done))
    return clips, twice(lines, names)


def _is_done(record: Record | None, result: Path, argv: tuple[str, ...]) -> bool:
    """Whether a result is known to be that of a line without reading what it was made from."""
    return (
        record is not None
        and record.state == "done"
        and record.argv == argv[1:]
        and unchanged(record.read)
        and key_of(result) == record.key
    )


def check_clips(
    clips: Sequence[Clip],
    executor: Executor,
    choices: Choices,
    told: Callable[[Event], None] = lambda event: None,
    *,
    elsewhere: bool = False,
) -> tuple[list[Clip], list[str]]:
    """Check every clip that is not known to be done, on the devices that will run them.

    `elsewhere`: they run where it is not known from here how much memory there is.

    Returns all clips with what was found, and what is wrong with those that cannot be run, a sentence each.

    Raises LayerliftError when no worker can be had.
    """

    def plenty(clip: Clip) -> list[str]:
        return ["--memory", str(MOST_MEMORY)] if elsewhere and "memory" not in clip.line.words else []

    tasks = {
        clip.name: Task(
            clip.name,
            CHECK,
            {"argv": [*clip.argv[1:], *plenty(clip)], "key": clip.result.exists(), "copies": clip.copies},
        )
        for clip in clips
        if not clip.done
    }
    outcomes = {outcome.task.name: outcome for outcome in work_off([*tasks.values()], executor, retries=1, told=told)}
    checked, wrong = [], []
    for clip in clips:
        outcome = outcomes.get(clip.name)
        if outcome is None:
            checked.append(clip)
        elif outcome.code:
            wrong.append(f"{clip.line.where}: {outcome.message}")
        else:
            found = replace(clip, facts=outcome.answer, done=key_of(clip.result) == outcome.answer.get("key", ""))
            checked.append(found)
            if found.result.exists() and not found.done and not choices.overwrite:
                wrong.append(
                    f"{clip.line.where}: {clip.result} exists, and was made from other inputs or options: add "
                    "--overwrite to make it again, or choose another -o."
                )
    return checked, wrong


def estimates(clips: Sequence[Clip]) -> list[float]:
    """Seconds that each clip takes; 0 for what is done."""
    factor = correction(clip.record for clip in clips if clip.record is not None and clip.record.state == "done")
    return [0.0 if clip.done or clip.facts is None else factor * estimate(clip.facts) for clip in clips]


def run_clips(
    clips: Sequence[Clip],
    executor: Executor,
    ledger: Ledger,
    choices: Choices,
    told: Callable[[Event], None] = lambda event: None,
) -> Iterator[Record]:
    """Have every clip done that is not; yields the record of each, also of those that are, when it is written down.

    Raises LayerliftError when no worker can be had, and when nothing can be written.
    """
    by_name = {clip.name: clip for clip in clips}
    for clip in clips:
        if clip.done:
            record = _record_of(clip)
            if record != clip.record:
                ledger.write(record)
            yield record
    tasks = []
    for clip, seconds in zip(clips, estimates(clips), strict=True):
        if clip.done:
            continue
        again = ["--overwrite"] if clip.result.exists() else []
        first = {"argv": [*clip.argv, *again], "log": str(ledger.log_of(clip.name)), "copies": clip.copies}
        on = {**first, "argv": [*clip.argv, *again, "--resume"]}
        more = {**on, "again": str(clip.result)}
        # Slurm says how often it has begun this before: who did is gone, on whatever machine it was.
        begun = more if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else on if choices.resume else first
        tasks.append(Task(clip.name, RUN, begun, more, seconds))
    before = {task.name: _stamp(by_name[task.name].result) for task in tasks}

    def finished(task: Task) -> bool:
        return _stamp(by_name[task.name].result) not in (None, before[task.name])

    for outcome in work_off(tasks, executor, retries=choices.retries, told=told, finished=finished):
        clip = by_name[outcome.task.name]
        record = _ended(clip, outcome, executor.places[outcome.place])
        _tidy(clip.result, done=record.state == "done")
        ledger.write(record)
        yield record


def _stamp(result: Path) -> tuple[int, int] | None:
    """What tells a finished result from one that takes its place; None where there is none."""
    try:
        told = (result / "report.json").stat()
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns


def _tidy(result: Path, *, done: bool) -> None:
    """Remove what killed workers left beside a result, and of a result that is there the job, too."""
    for left in leftovers(result):
        if OLD in left.name and not result.exists():
            continue  # an older result, whose place the new one did not get to take
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    if done:
        shutil.rmtree(job_folder(result), ignore_errors=True)


def _record_of(clip: Clip) -> Record:
    """The record of a clip whose result is there: the one there is, or one of what was found."""
    if clip.record is not None and clip.record.state == "done" and clip.facts is None:
        return replace(clip.record, order=clip.order, line=clip.line.where)
    before = clip.record if clip.record is not None and clip.record.state == "done" else None
    return replace(
        record_of(clip),
        state="done",
        key=key_of(clip.result) or "",
        seconds=before.seconds if before else 0.0,
        device=before.device if before else "",
        tries=before.tries if before else 1,
    )


def _ended(clip: Clip, outcome: Outcome, device: str) -> Record:
    key = key_of(clip.result) if outcome.code == 0 else None
    message = outcome.message
    if outcome.code == 0 and key is None:
        message = f"{clip.result} is not there, although its run ended well: run this again."
    return replace(
        record_of(clip),
        state="failed" if key is None else "done",
        message=message,
        key=key or "",
        tries=outcome.tries,
        seconds=outcome.seconds,
        device=device,
    )


def record_of(clip: Clip) -> Record:
    """What a clip's record says where nothing is known of its end: that it failed."""
    facts = clip.facts or {}
    return Record(
        clip.name,
        clip.line.clip,
        clip.turn,
        clip.line.where,
        clip.order,
        "failed",
        argv=clip.argv[1:],
        read=facts.get("read"),
        frames=facts.get("frames", 0),
        width=facts.get("width", 0),
        height=facts.get("height", 0),
        estimated=estimate(facts) if facts else 0.0,
    )
