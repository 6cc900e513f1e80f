"""Paths that a request names: they lie below one folder, under plain names, and no link leads out of it."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from layerlift.app.refusal import RefusalError

# What is left of an uploaded file's name: letters and digits of any script, and these.
_OTHER = re.compile(r"[^\w .()+,-]+")
MOST_NAME = 120  # characters of an uploaded file's name
MOST_BYTES = 200  # of any name that others are made of: disks take 255


def inside(folder: Path, given: str) -> Path:
    """The path below `folder` that a request names with forward slashes; it need not exist.

    Raises RefusalError (400) for an empty path, an absolute one, one with `..`, a backslash, a colon of a drive or a
    control character, for hidden names, and for a link that leads out of the folder.
    """
    parts = given.split("/")
    if not given or any(not _is_plain(part) for part in parts):
        raise RefusalError(400, f"{shown(given)} is not a path below the folder: give one such as clips/dog.mp4.")
    root = Path(os.path.realpath(folder))
    path = root.joinpath(*parts)
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise RefusalError(400, f"{shown(given)} leads out of the folder: give a path that stays below it.")
    return path


def existing(folder: Path, given: str, what: str = "file") -> Path:
    """`inside`, for a path that must exist. Raises RefusalError (404) where it does not."""
    path = inside(folder, given)
    try:
        path.stat()
    except OSError as error:
        raise RefusalError(404, f"there is no {what} {shown(given)}.") from error
    return path


def clean_name(given: str) -> str:
    """A file's name as it may be written: without folders, control characters, or a dot or dash at its beginning.

    Raises RefusalError (400) where nothing is left of it.
    """
    name = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    name = _OTHER.sub("_", name).strip().lstrip(".-_ ")
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem or not ending.strip():
        raise RefusalError(400, f"{shown(given)} is no name of a clip: give one with an ending, such as dog.mp4.")
    return f"{shortened(stem[: MOST_NAME - len(ending) - 1]).rstrip()}.{ending[:8]}"


def shortened(name: str) -> str:
    """A name that leaves room for what is added to it."""
    return name.encode()[:MOST_BYTES].decode(errors="ignore")


def free_name(folder: Path, name: str) -> Path:
    """A path in a folder that nothing has: the name, or with a number added."""
    stem, _, ending = name.rpartition(".")
    path, number = folder / name, 2
    while os.path.lexists(path):
        path, number = folder / f"{stem}_{number}.{ending}", number + 1
    return path


def shown(given: str) -> str:
    """What a request said, for a sentence: without control characters, and not too much of it."""
    text = "".join(c if c.isprintable() else "?" for c in given[:100])
    return repr(text) if text else "an empty name"


def _is_plain(part: str) -> bool:
    return (
        bool(part.strip())
        and not part.startswith(".")
        and len(os.fsencode(part)) <= 255
        and all(c.isprintable() and c not in "\\:" for c in part)
    )
