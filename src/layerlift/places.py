"""Where a command reads and where it writes: told apart by what the paths are, and found writable, before any work."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from layerlift.errors import InputError, LayerliftError, reason_of
from layerlift.names import check_name

# One path, several or none, under the flag that they were given with.
Given = str | Path | None | Iterable[str | Path]


def check_current_folder() -> None:
    """Raises LayerliftError where the current folder was deleted: paths mean nothing then, and libraries give up."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise LayerliftError("the current folder was deleted: change to one that exists.") from error


def settle_places(outputs: Mapping[str, Given], inputs: Mapping[str, Given]) -> None:
    """Check that no output of a command is another one or an input, nor lies in one, nor is a folder around one.

    Both map flags as they are typed ("-o", "CLIP") to paths. Paths are compared by what they lead to, however they are
    spelled: relative, through links, under a hard link's name, or in another case where the file system does not mind.

    Raises InputError for the first two that collide.
    """
    written, read = flat(outputs), flat(inputs)
    for number, (flag, path) in enumerate(written):
        for other_flag, other in written[:number]:
            _check_outputs(path, f"{flag} {path}", other, f"{other_flag} {other}")
    for flag, path in written:
        for other_flag, other in read:
            _check_input(path, f"{flag} {path}", other, f"{other_flag} {other}")


def check_file(path: str | Path, flag: str, *, overwrite: bool) -> Path:
    """`path` as a Path when a file can be written there; asked before the work, not after it.

    Raises InputError, which names the `flag` it was given with, when the name is too long, when it is a folder or a
    device, lies in no folder that exists, or exists and `overwrite` is not given; LayerliftError as `check_writable`.
    """
    path, said = Path(path), f"{flag} {path}"
    check_name(path, flag)
    if path.is_dir():
        raise InputError(f"{said} is a folder: give a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{said} is in a folder that does not exist: create {path.parent} first.")
    if path.exists() and not path.is_file():
        raise InputError(f"{said} is a device or a pipe: give a file.")
    if os.path.lexists(path) and not overwrite:  # a link that leads nowhere is something, too
        raise InputError(f"{said} already exists: choose another name or add --overwrite.")
    check_writable(path.absolute().parent, said)
    return path


def check_writable(folder: Path, said: str) -> None:
    """Raises LayerliftError, a sentence about what was `said`, unless files can be made in a folder.

    A folder that does not exist yet is asked for through the nearest one above it; InputError where that is a file.
    """
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise InputError(f"{said} is below {place}, which is a file: choose another folder.")
    try:
        # Permissions do not say everything: file systems may be read-only or full, and macOS protects some folders.
        with tempfile.TemporaryFile(dir=place, prefix=".layerlift-"):
            pass
    except OSError as error:
        reason = reason_of(error)
        raise LayerliftError(
            f"{said} cannot be written, because no file can be created in {place}: {reason}."
        ) from error


def flat(given: Mapping[str, Given]) -> list[tuple[str, Path]]:
    """Every path with its flag."""
    found: list[tuple[str, Path]] = []
    for flag, paths in given.items():
        several = [paths] if isinstance(paths, str | Path) else paths or []
        found += [(flag, Path(path)) for path in several]
    return found


def _check_outputs(path: Path, said: str, other: Path, other_said: str) -> None:
    if _same(path, other):
        raise InputError(f"{said} and {other_said} are the same file: give each output its own name.")
    # Where one of them exists, the file system has been asked.
    if _folded(path) == _folded(other) and not (path.exists() or other.exists()):
        raise InputError(
            f"{said} and {other_said} differ only in case, which many file systems do not tell apart: give each output "
            "its own name."
        )
    for inner, inner_said, outer, outer_said in (
        (path, said, other, other_said),
        (other, other_said, path, said),
    ):
        if _lies_in(inner, outer):
            raise InputError(f"{inner_said} is inside {outer_said}: choose a place outside it.")


def _check_input(output: Path, said: str, given: Path, given_said: str) -> None:
    if _same(output, given):
        raise InputError(f"{said} would overwrite the input {given_said}: give the output another name.")
    if _lies_in(given, output):
        raise InputError(f"{said} is a folder that contains the input {given_said}: choose another folder.")
    if _lies_in(output, given):
        raise InputError(f"{said} is inside the input {given_said}: choose a place outside it.")


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - links and a file system's own idea of case included
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def _lies_in(inner: Path, outer: Path) -> bool:
    """Whether `inner` is somewhere below `outer`: by its own place and, where it is a link, by what it leads to."""
    if os.path.isfile(outer):  # noqa: PTH113 - asks without raising for a name that is too long
        return False
    place = Path(os.path.realpath(inner.absolute().parent)) / inner.name
    leads_to = Path(os.path.realpath(inner))
    return any(_same(parent, outer) for parent in dict.fromkeys((*place.parents, *leads_to.parents)))


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
