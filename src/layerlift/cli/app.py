"""The `layerlift` command: its subcommands, and how their ends become exit codes and sentences.

Nothing heavy is imported here or at the top of a command's file, so `layerlift --help` answers at once.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from layerlift import __version__
from layerlift.cli import (
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
    scene,
    segment,
)
from layerlift.cli.interrupts import catch_interrupts
from layerlift.cli.refusals import refusal
from layerlift.cli.resume import COMMAND_LINE
from layerlift.errors import InputError, LayerliftError
from layerlift.progress import CancelledError

FAILED = 1
INPUT_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

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
    pass


app.command("segment")(segment.segment)
app.command("mask")(mask.mask)
app.command("remove")(remove.remove)
app.command("reference")(reference.reference)
app.command("extract")(extract.extract)
app.command("compose")(compose.compose)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("jobs")(jobs.jobs)
app.command("scene")(scene.scene)
app.command("demo")(demo.demo)
app.add_typer(bench.app, name="bench")
app.command("download")(download.download)
app.command("doctor")(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 the machine cannot do it, 2 a user's mistake, 130 interrupted.

    A bug ends in a traceback.
    """
    if not {"-v", "--verbose"} & set(sys.argv[1:] if arguments is None else arguments):
        _hush_libraries()
    interrupts = catch_interrupts()
    COMMAND_LINE.set(tuple(sys.argv[1:] if arguments is None else arguments))
    try:
        code = app(arguments, prog_name="layerlift", standalone_mode=False)
    except TyperException as error:
        # Bare `layerlift` and `layerlift bench` come here too, with their help printed already and nothing to add.
        if message := error.format_message().replace("Value error, ", "").rstrip("."):  # pydantic's word for a choice
            context = getattr(error, "ctx", None)  # of the command whose flags could not be read
            command = "layerlift" if context is None else context.command_path
            _complain(f"{_instead(error) or message}: see `{command} --help`.")
        sys.exit(INPUT_ERROR)
    except InputError as error:
        _complain(str(error))
        sys.exit(INPUT_ERROR)
    except (KeyboardInterrupt, CancelledError):
        code = INTERRUPTED
    except LayerliftError as error:  # raised on purpose, but not the user's doing: a model that returned NaN
        _complain(str(error))
        sys.exit(FAILED)
    except Exception as error:
        # Ctrl-C inside a library may come out as an error of the library's: safetensors turns it into a ValueError.
        if interrupts.cancelled:
            code = INTERRUPTED
        elif (said := refusal(error)) is not None:
            _complain(said)
            sys.exit(FAILED)
        else:
            raise
    if code == INTERRUPTED:  # typer turns a KeyboardInterrupt inside a command into this code
        _complain("interrupted.")
    sys.exit(code if isinstance(code, int) else 0)


def _instead(error: TyperException) -> str | None:
    """What is said of --mask where a command tells masks of objects from those of their effects; else None."""
    context = getattr(error, "ctx", None)
    if getattr(error, "option_name", None) != "--mask" or context is None:
        return None
    taken = {name for parameter in context.command.params for name in parameter.opts}
    flags = {"--object": "a mask of one object", "--total": "a mask with its shadow"}
    ways = [f"{flag} for {what}" for flag, what in flags.items() if flag in taken]
    return f"No such option: --mask; use {', and '.join(ways)}" if ways else None


def _hush_libraries() -> None:
    """One sentence of ours instead of pages of theirs. FFmpeg says nothing by itself: PyAV keeps its log."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")  # read when they are imported
    os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")
    # Python itself prints what is logged where nothing listens; a filter that makes warnings errors still does.
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.showwarning = _show_nothing


def _show_nothing(*_: object, **__: object) -> None:
    """In place of `warnings.showwarning`."""


def _complain(sentence: str) -> None:
    line = " ".join(sentence.split())
    print(f"layerlift: {line}", file=sys.stderr)  # noqa: T201 - standard error is what this function is for
