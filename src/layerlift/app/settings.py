"""The settings drawer: flags of the command line, read from the option classes, and typed for a command again."""

from __future__ import annotations

from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import OptionEntry, OptionGroup, Setting
from layerlift.engine.segmenters import SEGMENTERS
from layerlift.flags import Flag
from layerlift.options import (
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    RemovalOptions,
    RuntimeOptions,
    SegmentationOptions,
)

# Headings, and which commands take a class's flags.
_CLASSES: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("Objects", SegmentationOptions, ("segment",)),
    ("Effects", EffectOptions, ("mask",)),
    ("Clean plate", RemovalOptions, ("remove", "plan")),
    ("Layers", ExtractionOptions, ("extract",)),
    ("Composite", CompositionOptions, ("compose",)),
    ("Device", RuntimeOptions, ("mask", "remove", "plan")),
)
# Said elsewhere on the page, paths of this machine, or another command's flag of the same name, as for `layerlift run`.
_LEFT_OUT = {
    EffectOptions: {"dilate", "prompt", "seed", "size", "threshold", "kinds"},
    RemovalOptions: {"references"},
    RuntimeOptions: {"model", "text_encoder", "backend"},
}
# Flags that `plan` does not have.
_NOT_PLANNED = {"--steps", "--seed", "--dilate", "--feather", "--evidence", "--crop"}
_SEGMENTERS = ("auto", "mobile-sam", *SEGMENTERS, "classic")


def option_groups() -> list[OptionGroup]:
    """Every flag that can be set, under its headings."""
    return [OptionGroup(title, [_entry(field) for field in _fields(kind)]) for title, kind, _ in _CLASSES]


def words_of(command: str, settings: dict[str, Setting]) -> list[str]:
    """The settings that a command takes, as they are typed.

    Raises RefusalError (400) for a flag that does not exist, and for a value that it does not take.
    """
    known = {entry.flag: (entry, _commands(kind)) for _, kind, _ in _CLASSES for entry in map(_entry, _fields(kind))}
    words = []
    for flag, value in settings.items():
        if flag not in known:
            raise RefusalError(400, f"{flag} is no setting: /api/state lists those that there are.")
        entry, commands = known[flag]
        typed = _typed(entry, value)
        if command in commands and not (command == "plan" and flag in _NOT_PLANNED):
            words += typed
    return words


def _commands(kind: type) -> tuple[str, ...]:
    return next(commands for _, other, commands in _CLASSES if other is kind)


def _fields(kind: Any) -> list[Field[Any]]:
    return [at for at in fields(kind) if "flag" in at.metadata and at.name not in _LEFT_OUT.get(kind, ())]


def _entry(at: Field[Any]) -> OptionEntry:
    flag: Flag = at.metadata["flag"]
    name = (flag.names or (f"--{at.name.replace('_', '-')}",))[-1].split("/")[0]
    kind, choices = _kind(flag.takes or at.type)
    default: Any = at.default
    if name == "--segmenter":
        kind, choices = "choice", list(_SEGMENTERS)
    if kind == "bool" and name.startswith("--no-"):
        default = False  # given, it switches off
    if isinstance(default, list | tuple):
        default = ",".join(map(str, default))
    return OptionEntry(name, flag.help, kind, choices, default, flag.least, flag.most)


def _kind(given: Any) -> tuple[Any, list[str]]:
    if get_origin(given) in (Union, UnionType):
        given = next(part for part in get_args(given) if part is not NoneType)
    if get_origin(given) is Literal:
        return "choice", [str(choice) for choice in get_args(given)]
    return {bool: "bool", int: "int", float: "float"}.get(given, "text"), []


def _typed(entry: OptionEntry, value: Setting) -> list[str]:
    """A flag with its value."""
    right = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "choice": isinstance(value, str) and value in entry.choices,
        "text": isinstance(value, str) and value.isprintable(),
    }[entry.kind]
    if not right:
        kinds = {"bool": "true or false", "int": "a whole number", "float": "a number", "text": "one line of text"}
        wanted = " or ".join(entry.choices) or kinds[entry.kind]
        raise RefusalError(400, f"{entry.flag} is {str(value)[:40]!r}: give {wanted}.")
    if entry.kind != "bool":
        return [f"{entry.flag}={value}"]
    if value:
        return [entry.flag]
    return [f"--no-{entry.flag.removeprefix('--')}"] if entry.default is None else []
