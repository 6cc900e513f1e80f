"""`layerlift jobs`: interrupted jobs, and their removal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from layerlift.errors import InputError


def jobs(
    *,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where to look: in this folder and in those just below it."),
    ] = Path(),
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the jobs that are not running. They cannot be resumed after that.")
    ] = False,
) -> None:
    """List interrupted jobs, which take space until they are resumed or removed."""
    from rich.console import Console
    from rich.table import Table

    from layerlift.jobs.job import age
    from layerlift.jobs.listing import find_jobs, remove_job

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one in which results were to be written.")
    found = find_jobs(folder)
    if not found:
        typer.echo(f"There are no jobs in {folder.absolute()}, nor in the folders just below it.")
        return
    table = Table("target", "command", "size", "age", "state", box=None, pad_edge=False)
    for job in found:
        state = "running" if job.runs else "interrupted"
        if clean and not job.runs:
            state = "removed" if remove_job(job) else "running"
        table.add_row(job.target, job.command, _size(job.size), age(time.time() - job.changed), state)
    Console(soft_wrap=True).print(table, markup=False)


def _size(count: int) -> str:
    for length, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} bytes"
