"""Standard output and standard error that cannot be written to: a full disk, a closed terminal, a pipe without reader.

The work goes on, and its results are written; what could not be said is told once, at the end.
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast


class Forgiving:
    """A text stream that drops what it cannot write; `error` is why."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # what a stream of text says to bytes, by which typer tells it from one of bytes
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.error is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def forgiving_streams() -> Iterator[Forgiving]:
    """Let standard output and error drop what they cannot write while the block runs; yields standard output.

    One that is closed becomes one that drops everything, so that no file gets its number and what is written to it.
    What a stream's encoding does not have is written in other words, and names of files that are no text as they are.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    before = sys.stdout, sys.stderr
    strict = [(stream, _write_anything(stream)) for stream in before]
    out, err = (Forgiving(stream or Path(os.devnull).open("w", encoding="utf-8")) for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        for stream in (out, err):
            stream.flush()
            if stream.error is not None:
                _close_for_good(stream)
        sys.stdout, sys.stderr = before
        for written, errors in strict:
            if errors is not None:
                cast("TextIOWrapper", written).reconfigure(errors=errors)


def _write_anything(stream: Any) -> str | None:
    """Let a stream take every text; returns how it was with what it cannot encode, None where it stays so."""
    errors: str | None = getattr(stream, "errors", None)
    if errors not in ("strict", "surrogateescape") or not hasattr(stream, "reconfigure"):
        return None
    by_bytes = codecs.lookup(stream.encoding).name == "utf-8"
    stream.reconfigure(errors="surrogateescape" if by_bytes else "backslashreplace")
    return errors


def _close_for_good(stream: Forgiving) -> None:
    """Python writes what is left in a stream at its end, and would say that it cannot."""
    with suppress(OSError, ValueError), Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), stream.fileno())
