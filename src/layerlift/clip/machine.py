"""What the machine does not do, reading a file to its end or giving memory, is told from a file that is damaged."""

from __future__ import annotations

from pathlib import Path

from layerlift.errors import LayerliftError
from layerlift.exhausted import is_the_machine, no_thread, ran_out

_STEP = 1 << 20  # bytes


def check_machine(path: Path, error: Exception | None = None) -> None:
    """Asked where a file seems damaged, by an `error` or without: whatever reads it says the same of a disk that fails.

    Raises OSError, which names the file, unless the system opens it and reads it to its end, and LayerliftError where
    memory or threads ran out.
    """
    if error is not None and (ran_out(error) or no_thread(error)):
        what = "memory ran out" if ran_out(error) else "the system gives no further thread"
        raise LayerliftError(
            f"{path} cannot be read, because {what}: close other programs, or, if the file asks for that much, "
            "save it again."
        ) from error
    if isinstance(error, OSError) and is_the_machine(error):
        raise OSError(error.errno, error.strerror, str(path)) from error
    with path.open("rb", buffering=0) as file:
        try:
            while file.read(_STEP):
                pass
        except OSError as failed:
            failed.filename = str(path)
            raise
