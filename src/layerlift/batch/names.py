"""Names of results: the clip's, with a number added where two clash, and the same however often a batch is run."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import PurePath

from layerlift.batch.line import Line

# What lies in the folder of the results beside them.
TAKEN = ("results.jsonl", "index.html")
# Bytes of a name: file systems take 255, and what belongs to a result has a longer name than it.
_LONGEST = 180


def name_lines(lines: Sequence[Line], known: Iterable[Mapping[str, object]]) -> list[str]:
    """A name for each line's result.

    `known` tells of results that were made before, or tried: of each "clip", "turn" (of lines with the same clip, from
    0) and "name". A line that is one of them has its name, wherever it stands now.
    """
    before = {(told["clip"], told["turn"]): str(told["name"]) for told in known}
    turns = turns_of(lines)
    named = [line.name or before.get((line.clip, turn)) for line, turn in zip(lines, turns, strict=True)]
    taken = {_key(name) for name in (*TAKEN, *before.values(), *filter(None, named))}
    tried: dict[str, int] = {}
    made = []
    for line, name in zip(lines, named, strict=True):
        made.append(name or _free(_stem(line.clip), taken, tried))
        taken.add(_key(made[-1]))
    return made


def turns_of(lines: Sequence[Line]) -> list[int]:
    """Of each line, how many before it have the same clip."""
    seen: Counter[str] = Counter()
    turns = []
    for line in lines:
        turns.append(seen[line.clip])
        seen[line.clip] += 1
    return turns


def twice(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """What is wrong with lines that say the same name, a sentence each."""
    first: dict[str, Line] = {}
    return [
        f"{line.where}: name {name!r} is that of {first[_key(name)].where}, too: give each its own."
        for line, name in zip(lines, names, strict=True)
        if first.setdefault(_key(name), line) is not line
    ]


def repeated(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """Of each line whose clip an earlier one has, too, a sentence."""
    first: dict[str, Line] = {}
    return [
        f"{line.where}: {line.clip} is the clip of {first[line.clip].where}, too; this result is {name}."
        for line, name in zip(lines, names, strict=True)
        if first.setdefault(line.clip, line) is not line
    ]


def _free(stem: str, taken: set[str], tried: dict[str, int]) -> str:
    """The stem, or with the first number that makes a name of it that nothing has; `tried` has the last of each stem:
    a thousand lines may have the same clip."""
    for number in count(tried.get(stem, 1)):
        name = f"{stem}_{number}" if number > 1 else stem
        if _key(name) not in taken:
            break
    tried[stem] = number
    return name


def _key(name: str) -> str:
    """Equal for names that are one on some file system."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(clip: str) -> str:
    path = PurePath(clip.rstrip("/"))
    if path.stem == "video" and path.parent.name:  # in a folder with its masks
        path = path.parent
    stem = (path.stem if path.suffix and not path.stem.startswith(".") else path.name).lstrip(".")
    return os.fsencode(stem)[:_LONGEST].decode("utf-8", "ignore").strip() or "clip"
