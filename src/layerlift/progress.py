"""How a stage tells whoever called it how far it is, and how the caller stops it; the rest is the caller's affair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Event
from typing import Protocol

from layerlift.errors import LayerliftError


class CancelledError(LayerliftError):
    """The work was stopped by whoever asked for it."""


class StageProgress(Protocol):
    """One stage under way."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more of the stage's total are done, from any thread; 0 of them only asks whether to go on.

        It may raise `CancelledError`, which ends the work.
        """
        ...


class Progress(Protocol):
    """Where stages report their progress: ``with progress.stage("denoise", total) as bar: … bar.advance()``."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[StageProgress]:
        """Open the stage `name` of `total` steps (None: unknown). Stages do not nest."""
        ...


class _Quiet:
    def stage(self, name: str, total: int | None) -> AbstractContextManager[StageProgress]:
        return nullcontext(self)

    def advance(self, steps: int = 1) -> None:
        pass


QUIET = _Quiet()
"""Says nothing: the default wherever a `Progress` or a `StageProgress` is taken."""


class Cancellation:
    """Stops work from the outside, from any thread.

    Once `cancel` has been called, work that was given `watched(progress)` ends with `CancelledError` at its next step,
    and files that were being written are removed.
    """

    def __init__(self) -> None:
        self._asked = Event()

    def cancel(self) -> None:
        """Ask for the work to end."""
        self._asked.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raises CancelledError when `cancel` was called."""
        if self.cancelled:
            raise CancelledError("the work was cancelled.")

    def watched(self, progress: Progress = QUIET) -> Progress:
        """A progress that tells `progress`, and ends the work at the next step when that is asked for."""
        return _Watched(progress, self)


class _Watched:
    def __init__(self, progress: Progress, cancellation: Cancellation) -> None:
        self._progress, self._cancellation = progress, cancellation

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        self._cancellation.check()
        with self._progress.stage(name, total) as bar:
            yield _WatchedStage(bar, self._cancellation)
        self._cancellation.check()


class _WatchedStage:
    def __init__(self, bar: StageProgress, cancellation: Cancellation) -> None:
        self._bar, self._cancellation = bar, cancellation

    def advance(self, steps: int = 1) -> None:
        self._cancellation.check()
        if steps:
            self._bar.advance(steps)
