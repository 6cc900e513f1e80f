"""What the server refuses, as a status and a sentence."""

from __future__ import annotations

from layerlift.errors import InputError, LayerliftError


class RefusalError(InputError):
    """A request that is not granted: the status of its answer, and a sentence that says what to do instead."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def status_of(error: LayerliftError) -> int:
    """The status that an error is answered with: its own, 400 for what was given, 500 for what cannot be done."""
    if isinstance(error, RefusalError):
        return error.status
    return 400 if isinstance(error, InputError) else 500
