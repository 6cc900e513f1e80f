"""How a stage tells whoever called it how far it is; what is done with that is the caller's affair."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class StageProgress(Protocol):
    """One stage under way."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more of the stage's total are done."""
        ...


class Progress(Protocol):
    """Where stages report to: ``with progress.stage("denoise", total) as bar: … bar.advance()``."""

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
