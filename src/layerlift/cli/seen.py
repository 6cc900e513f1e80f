"""`layerlift mask --seen DIR`: what was seen in a clip stays there, for another threshold, other kinds or brushes."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.errors import InputError
from layerlift.places import check_writable

if TYPE_CHECKING:
    from layerlift.jobs.folder import InFolder

_OURS = re.compile(r"[0-9a-f]{12}")


def check_seen(folder: Path | None) -> None:
    """Raises InputError where `folder` is no place for what was seen, LayerliftError where it cannot be written to."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--seen {folder} is a file: give a folder.")
    others = [] if not folder.exists() else [path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name)]
    if others:
        raise InputError(f"--seen {folder} contains {others[0]}, which is something else: choose another folder.")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--seen {folder} is in a folder that does not exist: create {folder.parent} first.")
    check_writable(folder, f"--seen {folder}")


def seen_in(folder: Path, files: Sequence[Path], how: Sequence[object]) -> "InFolder":
    """Where what is seen of a clip and its objects is kept, by what their `files` hold and `how` they are read.

    What was kept there of others is removed.
    """
    from layerlift import __version__
    from layerlift.jobs.folder import InFolder
    from layerlift.jobs.manifest import digest_of, digest_of_text

    name = digest_of_text(__version__, digest_of(files), *map(str, how))
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name != name and _OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    return InFolder(folder / name)
