"""`layerlift jobs`: interrupted jobs and what killed runs left, and their removal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.terminal import harmless
from layerlift.errors import InputError

# Columns of a line that no path is cut or folded in; a terminal goes on in its next line.
_WIDE = 10_000
# What is said of what --clean leaves where it is.
_SAID = {
    "replaced": "What was to be replaced may be the only copy, so it stays: move it back, or delete it.",
    "unknown": "What another machine may be writing stays: delete it when it is not.",
}


def jobs(
    *,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where to look: in this folder and in those just below it."),
    ] = Path(),
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Remove interrupted jobs, which cannot be resumed after that, and half-written files of killed runs.",
        ),
    ] = False,
) -> None:
    """List interrupted jobs and what killed runs left behind, which take space until they are resumed or removed."""
    from rich.console import Console
    from rich.table import Table

    from layerlift.jobs.job import age
    from layerlift.jobs.listing import find_jobs, remove

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one in which results were to be written.")
    found = find_jobs(folder)
    if not found:
        typer.echo(f"There are no jobs in {folder.absolute()}, nor in the folders just below it.")
        return
    table, refused = Table("target", "command", "size", "age", "state", box=None, pad_edge=False), list[OSError]()
    for job in found:
        state: str = job.state
        if clean and job.useless:
            try:
                state = "removed" if remove(job) else "running"
            except OSError as error:  # another user's, for one: the others are removed all the same
                refused.append(error)
        when = age(time.time() - job.changed)
        table.add_row(_shown(job.target), _shown(job.command), _size(job.size), when, state)
    Console(width=_WIDE).print(table, markup=False)
    for state, said in _SAID.items():
        if any(job.state == state for job in found):
            typer.echo(said)
    if refused:
        raise refused[0]


def _shown(text: str) -> str:
    """A text as one line that a terminal only shows: whoever made the folder may have put anything into it."""
    return harmless(text).replace("\n", "\ufffd")


def _size(count: int) -> str:
    for length, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} bytes"
