"""What the user sees of a batch: a line for each device and one for the whole, the plan, and the end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from layerlift.batch.devices import in_words
from layerlift.batch.estimate import share_out
from layerlift.batch.ledger import PAGE, RESULTS, Ledger, Record
from layerlift.batch.tasks import Event
from layerlift.batch.work import Clip, estimates
from layerlift.cli.terminal import LINE_EVERY, say

# Lines of a plan that are shown; all of them are in the manifest.
MOST_ROWS = 400


class Board:
    """Keeps what every place is at, and how far the whole is."""

    def __init__(self, places: Sequence[str], seconds: Mapping[str, float], what: str) -> None:
        """`seconds`: of every task, how long it is estimated to take."""
        self._places, self._seconds, self._what = places, seconds, what
        self._at: dict[int, tuple[str, str]] = {}
        self._began, self._said = time.monotonic(), time.monotonic()
        self._done = self._failed = 0
        self._left = dict(seconds)

    def told(self, event: Event) -> None:
        """Take in what happened."""
        if event.kind == "began":
            self._at[event.place] = event.task, ""
        elif event.kind == "stage":
            total = event.told.get("total")
            self._at[event.place] = event.task, f"{event.told['stage']}" + (f" 0/{total}" if total else "")
        elif event.kind == "step" and event.place in self._at:
            task, stage = self._at[event.place]
            head, between, total = stage.rpartition("/")
            name = head.rpartition(" ")[0] if between else stage.rpartition(" ")[0] or stage
            self._at[event.place] = task, f"{name} {event.told['done']}" + (f"/{total}" if between else "")
        elif event.ends:
            self._at.pop(event.place, None)
            if event.kind != "answer":
                self._note(f"{event.task}: {event.told['message']}")
            elif self._what == "check":
                self._done += 1
                self._left.pop(event.task, None)
        self._show()

    def ended(self, record: Record) -> None:
        """A clip is at its end."""
        self._done += record.state == "done"
        self._failed += record.state == "failed"
        self._left.pop(record.name, None)
        if record.state == "failed":
            self._note(f"{record.name} failed: {record.message}")
        self._show()

    def whole(self) -> str:
        """How far everything is."""
        total = len(self._seconds)
        said = f"{self._what}: {self._done + self._failed}/{total}"
        if self._failed:
            said += f", {self._failed} failed"
        spent, all_of_it = time.monotonic() - self._began, sum(self._seconds.values())
        if 0 < (share := 1 - sum(self._left.values()) / all_of_it if all_of_it else 0) < 1:
            said += f", about {_span(spent / share - spent)} left"
        return said

    def rows(self) -> list[str]:
        """What every place is at."""
        width = max(map(len, self._places), default=0)
        at = (self._at.get(place, ("", "")) for place in range(len(self._places)))
        return [
            f"{name:{width}}  {task}  {stage}".rstrip() for name, (task, stage) in zip(self._places, at, strict=True)
        ]

    def _note(self, line: str) -> None:
        say(line)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._said >= LINE_EVERY:
            self._said = now
            say(self.whole())


class LiveBoard(Board):
    """The same on a terminal: the lines stay where they are and change."""

    def __init__(self, places: Sequence[str], seconds: Mapping[str, float], what: str, live: Live) -> None:
        super().__init__(places, seconds, what)
        self._live = live

    def _note(self, line: str) -> None:
        self._live.console.print(Text(line))

    def _show(self) -> None:
        self._live.update(Text("\n".join([*self.rows(), self.whole()])))


@contextmanager
def board_of(places: Sequence[str], seconds: Mapping[str, float] | Sequence[str], what: str) -> Iterator[Board]:
    """A board for tasks, with their estimated seconds where these are known: "check" counts answers, others records."""
    timed = seconds if isinstance(seconds, Mapping) else dict.fromkeys(seconds, 1.0)
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Board(places, timed, what)
        return
    with Live(console=console, refresh_per_second=8, transient=what == "check") as live:
        yield LiveBoard(places, timed, what, live)


def print_plan(clips: Sequence[Clip], places: Sequence[str]) -> None:
    """Every clip, the longest first: frames, windows, memory, estimated time, and who gets it."""
    seconds = estimates(clips)
    to_do = [(clip, took) for clip, took in zip(clips, seconds, strict=True) if not clip.done]
    given, whole = share_out([took for _, took in to_do], len(places))
    table = Table("clip", "size", "frames", "windows", "memory", "estimated", "device", box=None, pad_edge=False)
    order = sorted(range(len(to_do)), key=lambda number: -to_do[number][1])
    for number in order[:MOST_ROWS]:
        clip, took = to_do[number]
        facts: Mapping[str, Any] = clip.facts or {}
        memory = f"{facts['peak'] / 2**30:.1f} of {facts['memory'] / 2**30:.0f} GiB" if facts["peak"] else "-"
        size, windows = f"{facts['width']}x{facts['height']}", str(facts["windows"] or "-")
        cells = (clip.name, size, str(facts["frames"]), windows, memory, _span(took), places[given[number]])
        table.add_row(*map(Text, cells))
    Console(soft_wrap=True).print(table)
    if len(order) > MOST_ROWS:
        typer.echo(f"… and {len(order) - MOST_ROWS} more")
    frames = sum((clip.facts or {}).get("frames", 0) for clip, _ in to_do)
    done = len(clips) - len(to_do)
    skipped = f"; {done} {'is' if done == 1 else 'are'} done already" if done else ""
    typer.echo(f"{len(to_do)} clips, {frames} frames, about {_span(whole)} on {in_words(places)}{skipped}")


def print_end(ledger: Ledger, clips: Sequence[Clip]) -> None:
    """What became of the clips: each that failed with its message, and how many are done."""
    records = ledger.records()
    mine = [records[clip.name] for clip in clips if clip.name in records]
    failed = [record for record in mine if record.state == "failed"]
    table = Table("clip", "state", "tries", "seconds", "device", box=None, pad_edge=False)
    for record in [*failed, *(record for record in mine if record.state == "done")][:MOST_ROWS]:
        cells = (record.name, record.state, str(record.tries), f"{record.seconds:.1f}", record.device)
        table.add_row(*map(Text, cells))
    Console(soft_wrap=True).print(table)
    if len(mine) > MOST_ROWS:
        typer.echo(f"… and {len(mine) - MOST_ROWS} more")
    for record in failed:
        typer.echo(f"{record.name}: {record.message}")
    said = f"{len(mine) - len(failed)} done" + (f", {len(failed)} failed" if failed else "")
    typer.echo(f"wrote {ledger.folder} ({said}): {RESULTS} has a line for each clip, {PAGE} shows them")


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
