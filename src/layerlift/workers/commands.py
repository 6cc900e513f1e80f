"""What a worker does for `layerlift batch`: check a command line of `layerlift run`, and run it."""

import gc
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from layerlift.batch.remote import fetch
from layerlift.cli.ends import FAILED, run_to_its_end, told_of
from layerlift.cli.run_check import check_run
from layerlift.cli.terminal import LISTENER
from layerlift.jobs.job import LOCK, job_folder
from layerlift.jobs.lock import Lock
from layerlift.stages.choose_model import OPEN
from layerlift.workers.kept import Models
from layerlift.workers.told import Told


def check(told: Told, argv: Sequence[str], key: bool, copies: Mapping[str, str]) -> dict[str, Any]:
    """What a run's command line would do (see `check_run`), or ``{"code": 2, "message": …}`` why it cannot be run."""
    try:
        fetch(copies)
        return {"code": 0, **check_run(argv, key=key)}
    except Exception as error:
        found = told_of(error)
        if found is None:
            raise
        return {"code": found[0], "message": found[1]}


def run(
    told: Told, argv: Sequence[str], log: str, copies: Mapping[str, str] | None = None, again: str | None = None
) -> dict[str, Any]:
    """Run a command line as `layerlift` does, with what it prints in a file: its exit code, and why it failed.

    `copies`: see `remote.fetch`. `again`: the result of a job whose process is gone, on whatever machine it was.
    """
    if again is not None:
        Lock(job_folder(Path(again)) / LOCK).forget_elsewhere()
    try:
        return _run(told, argv, Path(log), copies or {})
    except OSError as error:  # its log cannot be written
        code, message = told_of(error) or (FAILED, str(error))
        return {"code": code, "message": message}


def _run(told: Told, argv: Sequence[str], log: Path, copies: Mapping[str, str]) -> dict[str, Any]:
    with logged(log) as begin:
        listening, opening = LISTENER.set(told), OPEN.set(told.kept.setdefault("models", Models()).open)
        try:
            fetch(copies)
            code = run_to_its_end(argv, told.interrupts)
        except Exception as error:  # noqa: BLE001 - a bug takes its clip down and no other
            if (found := told_of(error)) is not None:
                return {"code": found[0], "message": found[1]}
            traceback.print_exc()
            return {"code": FAILED, "message": f"a bug in layerlift: {type(error).__name__}: {error}"}
        finally:
            OPEN.reset(opening)
            LISTENER.reset(listening)
            gc.collect()
    return {"code": code, "message": last_said(log, begin) if code else ""}


def part(told: Told, argv: Sequence[str], log: str) -> dict[str, Any]:
    """Run a command line of `layerlift batch` that does a part of a whole; clips that failed are in its records."""
    answer = run(told, argv, log)
    return {**answer, "code": 0} if answer["code"] == FAILED else answer


@contextmanager
def logged(path: Path) -> Iterator[int]:
    """Everything that is printed goes to the end of a file while the block runs; yields where in the file that is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        begin = file.tell()
        sys.stdout.flush()
        sys.stderr.flush()
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield begin
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # of a full disk
                    stream.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def last_said(log: Path, begin: int) -> str:
    """The last sentence that `layerlift` said in a log from a place on."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.removeprefix("layerlift: ") for line in lines if line.startswith("layerlift: ")]
    return said[-1] if said else next((line for line in reversed(lines) if line.strip()), "nothing was said")
