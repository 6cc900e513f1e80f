"""What a worker says to whoever asked it: lines of JSON, from any thread."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from layerlift.cli.interrupts import Interrupts
from layerlift.progress import CancelledError, StageProgress

EVERY = 0.2  # seconds between two lines of a stage


class Told:
    """Where a worker's lines go; a `Progress`, too, whose stages become lines.

    Attributes:
        interrupts: the signals that end the worker.
        kept: what calls leave for those after them.
    """

    def __init__(self, stream: TextIO, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.kept: dict[str, Any] = {}
        self._stream = stream
        self._turn = threading.Lock()

    def say(self, **what: Any) -> None:
        """One line. Raises CancelledError where nobody listens any more."""
        try:
            with self._turn:
                self._stream.write(json.dumps(what) + "\n")
                self._stream.flush()
        except OSError as error:
            raise CancelledError("the work was cancelled: the program that asked for it is gone.") from error

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        """See `Progress`."""
        self.say(stage=name, total=total)
        bar = _Stage(self)
        yield bar
        bar.flush()


class _Stage:
    """Tells now and then how many steps are done."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._turn = threading.Lock()
        self._done, self._said, self._when = 0, 0, 0.0

    def advance(self, steps: int = 1) -> None:
        with self._turn:
            self._done += steps
            due = time.monotonic() - self._when >= EVERY
        if due:
            self.flush()

    def flush(self) -> None:
        """Say how many steps are done, unless that was said."""
        with self._turn:
            done, self._when = self._done, time.monotonic()
            news = done != self._said
            self._said = done
        if news:
            self._told.say(done=done)
