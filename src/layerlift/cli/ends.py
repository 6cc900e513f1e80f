"""How a command's end becomes an exit code and a sentence."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence

from typer.exceptions import TyperException

from layerlift.cli.inputs import changed_inputs, forget_inputs
from layerlift.cli.interrupts import Interrupts
from layerlift.cli.refusals import refusal
from layerlift.cli.resume import COMMAND_LINE, OUTPUTS
from layerlift.cli.streams import forgiving_streams
from layerlift.cli.terminal import harmless, say
from layerlift.errors import InputError, LayerliftError
from layerlift.progress import CancelledError
from layerlift.whole import KeptAsideError, remove_unfinished

FAILED = 1
INPUT_ERROR = 2
INTERRUPTED = 130  # typer's, for a KeyboardInterrupt inside a command
_UNREADABLE = "is not readable"  # what typer says of a path that the user may not read


def run_to_its_end(arguments: Sequence[str] | None, interrupts: Interrupts) -> int:
    """Run a command, and say in a sentence why it did not do what it was asked for; returns the exit code.

    A bug ends in its own exception.
    """
    if not {"-v", "--verbose"} & set(sys.argv[1:] if arguments is None else arguments):
        _hush_libraries()
    forget_inputs()
    COMMAND_LINE.set(tuple(sys.argv[1:] if arguments is None else arguments))
    OUTPUTS.set(())
    with forgiving_streams() as out:
        code, said = _run(arguments, interrupts)
        if code == INTERRUPTED:
            remove_unfinished()
            code, said = interrupts.code, "interrupted."
        if code == 0 and (changed := changed_inputs()):
            code, said = FAILED, f"{changed[0]} changed while it was read, so the result may mix both: run this again."
        if code == INPUT_ERROR and (changed := changed_inputs()):  # what was typed was right
            code, said = FAILED, f"{changed[0]} was changed, moved or deleted while it was read: put it back."
        out.flush()
        if code == 0 and out.error is not None and not isinstance(out.error, BrokenPipeError):
            code, said = FAILED, f"standard output cannot be written: {os.strerror(out.error.errno or 0).lower()}."
        if said:
            _complain(said)
    return code


def _run(arguments: Sequence[str] | None, interrupts: Interrupts) -> tuple[int, str]:
    """The exit code and the sentence of a command, without what `run_to_its_end` adds."""
    try:
        from layerlift.cli.app import app

        code = app(arguments, prog_name="layerlift", standalone_mode=False)
        return (code if isinstance(code, int) else 0), ""
    except KeyboardInterrupt:
        return INTERRUPTED, ""
    except Exception as error:
        # Ctrl-C inside a library may come out as an error of the library's: safetensors turns it into a ValueError.
        stopped = interrupts.cancelled or isinstance(error, CancelledError)
        if stopped and not isinstance(error, KeptAsideError | TyperException):
            return INTERRUPTED, ""
        told = told_of(error)
        if told is None:
            raise
        return told


def told_of(error: Exception) -> tuple[int, str] | None:
    """The exit code and the sentence of an error that ends a command; None for a bug."""
    if isinstance(error, TyperException):
        # Bare `layerlift` and `layerlift bench` come here too, with their help printed already and nothing to add.
        message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's word for a choice
        if message.endswith(_UNREADABLE):
            return FAILED, f"{message}: check its permissions."
        context = getattr(error, "ctx", None)  # of the command whose flags could not be read
        command = "layerlift" if context is None else context.command_path
        return INPUT_ERROR, f"{_instead(error) or message}: see `{command} --help`." if message else ""
    # One that is raised on purpose need not be the user's doing: a model that returned NaN.
    said = str(error) if isinstance(error, LayerliftError) else refusal(error)
    return None if said is None else (INPUT_ERROR if isinstance(error, InputError) else FAILED, said)


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
        warnings.showwarning = _show_our_own


def _show_our_own(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """In place of `warnings.showwarning`: a sentence where there is one for the user."""
    if category.__module__.startswith("layerlift."):
        say(str(message))


def _complain(sentence: str) -> None:
    line = harmless(" ".join(sentence.split()))
    print(f"layerlift: {line}", file=sys.stderr)  # noqa: T201 - standard error is what this function is for
