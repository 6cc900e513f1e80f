"""What the user sees while a stage works: a bar on a terminal, now and then a plain line everywhere else."""

import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from layerlift.cli.interrupts import interrupted_by_user
from layerlift.cli.piped import piped
from layerlift.progress import Progress, StageProgress
from layerlift.report import Report

# Between two plain lines of one stage, in seconds: a log stays readable, and still shows that something moves.
LINE_EVERY = 15.0
# Who is told instead of the user, in a process that runs commands for another one.
LISTENER: ContextVar[Progress | None] = ContextVar("LISTENER", default=None)


@contextmanager
def show_progress(notes: Sequence[str] = ()) -> Iterator[Progress]:
    """Progress on standard error: bars with stage, step and time left on a terminal, else occasional lines.

    Ctrl-C ends the work at its next step at the latest. `notes` are lines that are said when the first stage begins:
    everything has been checked by then.
    """
    listener = LISTENER.get() or piped()
    if listener is not None:
        _Notes(notes).say()
        yield interrupted_by_user().watched(listener)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield interrupted_by_user().watched(LineProgress(notes))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield interrupted_by_user().watched(BarProgress(bars, notes))


class _Notes:
    """Lines that are said once."""

    def __init__(self, notes: Sequence[str]) -> None:
        self._unsaid = list(notes)

    def say(self) -> None:
        while self._unsaid:
            say(self._unsaid.pop(0))


class BarProgress:
    """One rich bar a stage."""

    def __init__(self, bars: Bars, notes: Sequence[str] = ()) -> None:
        self._bars, self._notes = bars, _Notes(notes)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        self._notes.say()
        task = self._bars.add_task(name, total=total)
        try:
            yield _Bar(self._bars, task)
        finally:
            self._bars.stop_task(task)


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task, steps)


class LineProgress:
    """A line when a stage is done, and one every LINE_EVERY seconds while it is not."""

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self._notes = _Notes(notes)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        self._notes.say()
        began = time.monotonic()
        yield _Lines(name, total, began)
        say(f"{name}: done in {time.monotonic() - began:.1f} s")


class _Lines:
    def __init__(self, name: str, total: int | None, began: float) -> None:
        self._name, self._total, self._began = name, total, began
        self._done, self._said = 0, began

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        if not self._total:
            say(f"{self._name}: {self._done}")
            return
        left = (now - self._began) / self._done * (self._total - self._done)
        say(f"{self._name}: {self._done}/{self._total}, about {left:.0f} s left")


Told = Callable[[str, int, int], None]


@contextmanager
def show_downloads() -> Iterator[Told]:
    """A function to be told (file, bytes done, bytes in all): a bar a file on a terminal, else occasional lines.

    After Ctrl-C it raises CancelledError.
    """
    cancellation = interrupted_by_user()
    with _open_downloads() as show:

        def told(file: str, done: int, total: int) -> None:
            cancellation.check()
            show(file, done, total)

        yield told


@contextmanager
def _open_downloads() -> Iterator[Told]:
    pipe = piped()
    if pipe is not None:
        with pipe.stage("download", None):
            yield lambda file, done, total: pipe.tell(stage=file, total=total, done=done)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield DownloadLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=done, total=total or None)

        yield show


class DownloadLines:
    """A line when a file is whole, and one every LINE_EVERY seconds while it is not."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, file: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done != total and now - self._said < LINE_EVERY:
            return
        self._said = now
        say(f"{file}: {done / 1e9:.2f} of {total / 1e9:.2f} GB")


def print_costs(report: Report) -> None:
    """What every stage took, on standard error (-v)."""
    for name, cost in report.stages.items():
        device = f", device {cost.peak_device_bytes / 2**20:.0f} MiB" if cost.peak_device_bytes else ""
        say(f"{name}: {cost.seconds:.2f} s, host {cost.peak_host_bytes / 2**20:.0f} MiB{device}")


def harmless(text: str) -> str:
    """Text for a terminal that may hold a file's name, in which anything can stand: escape sequences are not obeyed.

    All else stays, also what is no text, so that a command with such a name can be copied.
    """
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def say(line: str) -> None:
    """One line on standard error."""
    print(harmless(line), file=sys.stderr, flush=True)  # noqa: T201 - standard error is what this function is for
