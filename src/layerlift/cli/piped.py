"""Progress for a program that started a command, such as `layerlift app`: lines of JSON into a pipe, instead of bars.

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

from layerlift.progress import CancelledError, StageProgress

PIPE = "LAYERLIFT_PROGRESS"
EVERY = 0.1  # seconds between two lines of a stage


def piped() -> "PipedProgress | None":
    """The progress of a command whose starter listens; None where nobody does."""
    number = os.environ.pop(PIPE, "")  # commands that this one starts have their own
    if not number.isdigit():
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
        try:
            with self._turn:
                os.write(self._descriptor, json.dumps(what).encode() + b"\n")
        except OSError as error:
            raise CancelledError("the work was cancelled: the program that started it is gone.") from error


class _Stage:
    def __init__(self, progress: PipedProgress) -> None:
        self._progress = progress
        self._done, self._said, self._told = 0, 0.0, 0
        self._turn = threading.Lock()

    def advance(self, steps: int = 1) -> None:
        with self._turn:
            self._done += steps
            now = time.monotonic()
            due = now - self._said >= EVERY
            if due:
                self._said = now
        if due:
            self.flush()

    def flush(self) -> None:
        """Say what is done, where that was not said."""
        if self._told != self._done:
            self._told = self._done
            self._progress.tell(done=self._told)


def _end_with_starter() -> None:
    """Wait for the end of standard input, then end the work."""
    try:
        while os.read(0, 1):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
