"""One line of a manifest, and the options that it may have: those of `layerlift run`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import Repr
from typing import Any, Literal

from layerlift.errors import InputError

# The words of options by the names of their flags: {"seed": ("--seed", "3")}.
Words = dict[str, tuple[str, ...]]
# What stands between several values of one cell, in a manifest that is a table.
BETWEEN = "|"
# No option takes a number beyond it.
MOST_NUMBER = 1e300
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `layerlift run`.

    Attributes:
        name: as the command knows it.
        on: the flag, as it is typed.
        off: the flag that says no, of a switch that has one.
        switch: it takes no value.
        many: it may be repeated.
        place: whether its values are paths, or may be.
    """

    name: str
    on: str
    off: str | None = None
    switch: bool = False
    many: bool = False
    place: Literal["no", "path", "maybe"] = "no"

    def words(self, value: Any, base: Path | None) -> tuple[str, ...]:
        """What is typed for a manifest's value; nothing where it says that the option is not given.

        Paths are relative to `base`; None leaves them as they are. Raises InputError for a value that is none.
        """
        if self.switch:
            given = _switched(value, self.on)
            return (self.on,) if given else (self.off,) if self.off else ()
        several = value if isinstance(value, list) else [value]
        if len(several) > 1 and not self.many:
            raise InputError(f"{self.on} takes one value, but there are {len(several)}")
        return tuple(word for one in several for word in (self.on, self._placed(_text(one, self.on), base)))

    def _placed(self, text: str, base: Path | None) -> str:
        if base is None or self.place == "no" or is_remote(text):
            return text
        place = placed(base, text)
        # A model may be a name as well; of "m.png:2" and "m.png@12" the file may be there alone.
        return place if self.place == "path" or (("/" in text or "." in text) and Path(place).exists()) else text


def placed(base: Path, text: str) -> str:
    """Where a path lies, seen from `base`: the same text by whatever way one comes to its folder. What it is called
    there stays, be it a link."""
    path = base / text
    if path.name in ("", ".."):
        return os.path.realpath(path)
    return str(Path(os.path.realpath(path.parent)) / path.name)


def is_remote(text: str) -> bool:
    """Whether a place is no file of this machine: ``s3://…``."""
    scheme, between, _ = text.partition("://")
    return bool(between) and scheme.isalnum()


class Options:
    """All options that a line may have."""

    def __init__(self, options: Iterable[Option]) -> None:
        self._by_name: dict[str, tuple[Option, bool]] = {}
        for option in options:
            for flag, yes in ((option.on, True), (option.off, False)):
                if flag is not None:
                    self._by_name[flag.lstrip("-")] = option, yes
        self._by_name |= {"mask": self._by_name["object"]} if "object" in self._by_name else {}

    def find(self, key: str) -> tuple[Option, bool]:
        """The option of a column, and whether it says yes to it. Raises InputError for what is none."""
        plain = key.strip().lstrip("-").replace("_", "-").lower()
        if plain not in self._by_name:
            raise InputError(
                f"{key!r} is neither clip, name nor an option of `layerlift run` that a line can have: see `layerlift "
                "run --help`"
            )
        return self._by_name[plain]

    def words(self, given: Mapping[str, Any], base: Path | None) -> Words:
        """The words for a line's columns; None is not given. Raises InputError for the first that cannot be used."""
        found: Words = {}
        for key, value in given.items():
            option, yes = self.find(key)
            if value is None:
                continue
            if option.name in found:
                raise InputError(f"{option.on} is given twice")
            found[option.name] = option.words(value if yes else not _switched(value, key), base)
        return found


@dataclass(frozen=True, slots=True)
class Line:
    """One clip.

    Attributes:
        where: which line of which file it is, for the user.
        clip: its path, absolute, or the place of a remote file.
        words: its options.
        name: of its result; None is the clip's.
    """

    where: str
    clip: str
    words: Words = field(default_factory=dict)
    name: str | None = None

    def argv(self) -> list[str]:
        """Its words after `layerlift run`, without where the result goes."""
        return [self.clip, *(word for words in self.words.values() for word in words)]


def is_typeable(text: str) -> bool:
    """Whether a command line can have a text: JSON and YAML can say halves of characters, which no file has."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def shown(value: Any) -> str:
    """A value for a sentence. One of YAML may hold itself, or a thousand million of another."""
    short = Repr()
    short.maxlevel, short.maxlist, short.maxdict, short.maxstring, short.maxother = 2, 3, 3, 60, 60
    try:
        return short.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"


def _switched(value: Any, flag: str) -> bool:
    text = str(value).strip().lower() if isinstance(value, str | bool) or value in (0, 1) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InputError(f"{flag} is {shown(value)}: give true or false")


def _text(value: Any, flag: str) -> str:
    """A value as it is typed. Raises InputError for what cannot be typed."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and -MOST_NUMBER < value < MOST_NUMBER
    if not number and not isinstance(value, str):
        raise InputError(f"{flag} is {shown(value)}: give a text or a number")
    if not is_typeable(str(value)):
        raise InputError(f"{flag} has a null character, or half of another one: leave it out")
    return str(value)
