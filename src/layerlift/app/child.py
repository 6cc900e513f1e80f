"""A command in a process of its own: what it says of its progress, and how it is ended.

The server stays alive when a command runs out of memory or crashes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "layerlift")
PIPE = "LAYERLIFT_PROGRESS"  # see layerlift.cli.piped
NICENESS = 5  # the page answers first
PATIENCE = 6.0  # seconds that a command has to end after SIGTERM; it takes two by itself
MOST_LINES = 200  # of what it says that are kept
BUG = "Traceback (most recent call last):"


class Child:
    """One command. `told` gets what the pipe says, line by line, in a thread."""

    def __init__(self, words: Sequence[str], folder: Path, told: Callable[[dict[str, Any]], None]) -> None:
        read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*PROGRAM, *words],
                cwd=folder,
                env={**os.environ, PIPE: str(write)},
                pass_fds=[write],
                stdin=subprocess.PIPE,  # it ends when this does, and so when the server is gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the server's
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        self.lines: list[str] = []
        self._cancelled = False
        self._threads = [
            threading.Thread(target=self._read_progress, args=(read, told), daemon=True),
            threading.Thread(target=self._read_lines, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Have it end at its next step; it is killed if it does not."""
        self._cancelled = True
        with suppress(ProcessLookupError):
            self._process.terminate()
        timer = threading.Timer(PATIENCE, self._kill)
        timer.daemon = True
        timer.start()

    def wait(self) -> int:
        """Its exit code; a signal's number below 0."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        return code

    def said(self) -> str:
        """The last sentence of its own, which says how it ended; for a bug what was raised."""
        for line in reversed(self.lines):
            if line.startswith("layerlift: "):
                return line.removeprefix("layerlift: ")
        if BUG in self.lines:
            return f"this is a bug in layerlift: {self.lines[-1]}"
        return self.lines[-1] if self.lines else ""

    def notes(self) -> list[str]:
        """What it said beside that."""
        if BUG in self.lines:
            return self.lines[: self.lines.index(BUG)]
        return [line for line in self.lines if not line.startswith(("layerlift: ", "wrote "))]

    def _kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read_progress(self, descriptor: int, told: Callable[[dict[str, Any]], None]) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            for line in pipe:
                with suppress(ValueError):
                    what = json.loads(line)
                    if isinstance(what, dict):
                        told(what)

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            if line:
                self.lines.append(line)
                del self.lines[:-MOST_LINES]
