"""How a field of an options class becomes a flag of the command line: it is said where the field is.

`layerlift.cli.flags` reads this; nothing else need know that there is a command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        help: what it does, and what holds without it.
        names: as typed, "-o" and "--output"; a pair such as "--crop/--no-crop" for yes and no. Empty: from the field's
            name.
        metavar: stands for the value in the help text; None is what suits the type.
        group: the heading it is listed under.
        takes: the type of what is typed, such as list[str]; None is the field's own.
        parse: makes the field's value of that; None where it is the value. Raises InputError.
        least, most: bounds of a number, both allowed.
    """

    help: str
    names: tuple[str, ...] = ()
    metavar: str | None = None
    group: str | None = None
    takes: Any = None
    parse: Callable[[Any], Any] | None = None
    least: float | None = None
    most: float | None = None


def flag(
    default: Any,
    help: str,
    *names: str,
    metavar: str | None = None,
    group: str | None = None,
    takes: Any = None,
    parse: Callable[[Any], Any] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A dataclass field that is a flag, too; see `Flag`."""
    return field(default=default, metadata={"flag": Flag(help, names, metavar, group, takes, parse, least, most)})
