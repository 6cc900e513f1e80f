"""Progress for a program that started this one: lines of JSON into a pipe, instead of bars.

`layerlift app` starts commands, and `layerlift batch` workers (`layerlift.workers`), which have a pipe of their own.

LAYERLIFT_PROGRESS holds the number of an open file, the pipe. Lines are ``{"stage": name, "total": steps or null}``,
``{"done": steps}`` and ``{"ended": name}``. When standard input ends, as it does when the other program is gone, the
command ends as after SIGTERM.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from layerlift.parse import whole_number
from layerlift.progress import CancelledError, StageProgress

PIPE = "LAYERLIFT_PROGRESS"
EVERY = 0.1  # seconds between two lines of a stage


def piped() -> "PipedProgress | None":
    """The progress of a command whose starter listens; None where nobody does."""
    number = os.environ.pop(PIPE, "")  # commands that this one starts have their own
    if whole_number(number) is None:
        return None
    threading.Thread(target=_end_with_starter, name="starter", daemon=True).start()
    return PipedProgress(int(number))


class PipedProgress:
    """Tells a pipe of every stage, and may be told from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = threading.Lock()

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        """See `Progress`."""
        self.tell(stage=name, total=total)
        bar = _Stage(self)
        yield bar
        bar.flush()
        self.tell(ended=name)

    def tell(self, **what: Any) -> None:
        """A line. Raises CancelledError where nobody listens any more."""
        left = json.dumps(what).encode() + b"\n"
        try:
            with self._turn:
                while left:
                    left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            raise CancelledError("the work was cancelled: the program that started it is gone.") from error


class _Stage:
    def __init__(self, progress: PipedProgress) -> None:
        self._progress = progress
        self._turn = threading.Lock()
        self._done, self._said, self._when = 0, 0, 0.0

    def advance(self, steps: int = 1) -> None:
        with self._turn:
            self._done += steps
            due = time.monotonic() - self._when >= EVERY
        if due:
            self.flush()

    def flush(self) -> None:
        """Say what is done, unless that was said."""
        with self._turn:
            done, self._when = self._done, time.monotonic()
            news, self._said = done != self._said, done
        if news:
            self._progress.tell(done=done)


def _end_with_starter() -> None:
    """Wait for the end of standard input, then end the work."""
    try:
        while os.read(0, 1):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
