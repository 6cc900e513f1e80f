"""The `layerlift` command and its subcommands.

Nothing heavy is imported here or at the top of a command's file, so `layerlift --help` answers at once.
"""

from typing import Annotated

import typer

from layerlift import __version__
from layerlift.cli import (
    batch,
    bench,
    compose,
    demo,
    doctor,
    download,
    extract,
    jobs,
    mask,
    plan,
    reference,
    remove,
    run,
    save,
    scene,
    segment,
    web,
)
from layerlift.places import check_current_folder

app = typer.Typer(
    name="layerlift",
    help="Take a video apart: remove objects together with their shadows and reflections. No training needed.",
    epilog="Run `layerlift COMMAND --help` for the options of a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"layerlift {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    check_current_folder()


app.command("segment")(segment.segment)
app.command("mask")(mask.mask)
app.command("remove")(remove.remove)
app.command("reference")(reference.reference)
app.command("extract")(extract.extract)
app.command("compose")(compose.compose)
app.command("run")(run.run)
app.command("save")(save.save)
app.command("app")(web.web)
app.command("batch")(batch.batch)
app.command("plan")(plan.plan)
app.command("jobs")(jobs.jobs)
app.command("scene")(scene.scene)
app.command("demo")(demo.demo)
app.add_typer(bench.app, name="bench")
app.command("download")(download.download)
app.command("doctor")(doctor.doctor)
