"""How a field of an options class becomes a flag of the command line: it is said where the field is.

`layerlift.cli.flags` reads this; nothing else need know that there is a command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from layerlift.errors import InputError


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


def check_ranges(options: Any) -> None:
    """Raises InputError where a field of an options class is more than its flag's `most`, or no finite number.

    Lower bounds are checked by whoever uses the number, who can say what it is for.
    """
    for at in fields(options):
        most: float | None = at.metadata["flag"].most if "flag" in at.metadata else None
        value = getattr(options, at.name)
        if most is None or isinstance(value, str):
            continue
        for number in value if isinstance(value, tuple | list) else () if value is None else (value,):
            if not (isfinite(number) and number <= most):
                name = (at.metadata["flag"].names or (f"--{at.name.replace('_', '-')}",))[-1]
                raise InputError(f"{name} is {number}: give {most:.15g} or less.")
