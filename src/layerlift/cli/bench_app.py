"""`layerlift bench app`: how quick the page is, in a real browser."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from layerlift.cli.flags import Only, Typed, with_flags
from layerlift.cli.job import settle, write_report
from layerlift.cli.options import OutputFlags
from layerlift.limits import MOST_FRAMES
from layerlift.parse import parse_size
from layerlift.report import Report


@with_flags
def app(
    *,
    browser: Annotated[
        Path | None,
        typer.Option("--browser", metavar="PATH", help="Chromium to drive (default: the one that is installed)."),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Width and height of the clips in pixels.")
    ] = "1280x720",
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", help="Frames of the clip.", min=30, max=MOST_FRAMES)
    ] = 240,
    long: Annotated[
        int,
        typer.Option(
            "--long",
            metavar="N",
            help="Frames of the clip that is open while memory is measured.",
            min=30,
            max=MOST_FRAMES,
        ),
    ] = 2000,
    writing: Annotated[OutputFlags, Only("report", "overwrite")],
    typed: Typed,
) -> None:
    """Measure how quickly the page of `layerlift app` answers, in Chromium, and the memory of its server."""
    from layerlift.bench.app import find_browser, measure, table

    settle({}, {}, writing)
    record = Report("bench app", typed)
    with TemporaryDirectory(prefix="layerlift-bench-") as folder:
        found = measure(Path(folder), find_browser(browser), parse_size(size), frames, long)
    record.results["app"] = [asdict(one) for one in found]
    typer.echo(table(found))
    write_report(record, writing)
