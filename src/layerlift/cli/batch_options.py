"""The options of `layerlift run` as those of a line of a batch: what a manifest may say, and what was typed."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, Literal, get_args

from layerlift.batch.line import Option, Options, Words

# Flags of `run` that are none of a line's: a batch has its own, or says them itself.
ASIDE = ("clip", "output", "report", "overwrite", "verbose", "resume", "device", "devices")
# Of `run`, what may be a path, and what is one with more.
_MAYBE, _MORE = ("model",), ("reference",)


def with_options_of(
    command: Callable[..., None], *without: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of another one, after its own; its function gets what was typed by name."""

    def made(function: Callable[..., None]) -> Callable[..., None]:
        own = [given for given in signature(function).parameters.values() if given.kind is not Parameter.VAR_KEYWORD]
        more = [given for name, given in signature(command).parameters.items() if name not in without]
        function.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
        function.__annotations__ = {given.name: given.annotation for given in (*own, *more)}
        return function

    return made


def options_of_run() -> Options:
    """What a line may say: the options of `run`."""

    def place(parameter: Any) -> Literal["no", "path", "maybe"]:
        kind = parameter.type_descriptor.annotation
        if kind is Path or Path in get_args(kind) or parameter.name in _MORE:
            return "path"
        return "maybe" if parameter.name in _MAYBE else "no"

    return Options(
        Option(
            parameter.name,
            parameter.opts[-1],
            next(iter(parameter.secondary_opts), None),
            parameter.is_flag,
            parameter.multiple,
            place(parameter),
        )
        for parameter in _parameters()
    )


def words_of(typed: dict[str, Any]) -> Words:
    """The words of the options that were typed, with paths as absolute ones."""
    known = options_of_run()
    found: Words = {}
    for parameter in _parameters():
        value = typed[parameter.name]
        if value in (None, [], (), parameter.default):
            continue
        several = [str(one) for one in value] if parameter.multiple else value if parameter.is_flag else str(value)
        found |= known.words({parameter.opts[-1]: several}, Path.cwd())
    return found


def _parameters() -> list[Any]:
    """The options of `run` that are a line's, as typer has them."""
    from typer.main import get_command

    from layerlift.cli.app import app

    command = get_command(app).commands["run"]  # type: ignore[attr-defined]
    return [parameter for parameter in command.params if parameter.name not in ASIDE]


def flat_words(words: Words) -> list[str]:
    """Words one after the other, as they are typed."""
    return [word for several in words.values() for word in several]
