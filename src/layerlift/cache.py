"""Where layerlift keeps what it would otherwise make again, and how a folder of large files is kept within bounds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from layerlift.hidden import maker_of
from layerlift.locks import locked
from layerlift.names import at_home

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a folder of the cache may grow to.

    Attributes:
        size: bytes of all files; the one that is used now may have more by itself.
        days: a file that was not used for longer goes, however small they all are.
    """

    size: int
    days: float


# Kinds of files that are large. Weights that MLX has packed: as many as the largest model's take in 8 bits and in 4.
BOUNDS = {"mlx": Bounds(20 * 2**30, days=90)}


def cache_folder(kind: str) -> Path:
    """The folder of one kind of files: in LAYERLIFT_CACHE, or in the platform's cache folder. It may not exist yet.

    Of a user without a home, as a container's may be, it is one that nothing can be read from nor written to.
    """
    if given := os.environ.get("LAYERLIFT_CACHE"):
        return _at_home(given) / kind
    if sys.platform == "darwin":
        base = _at_home("~/Library/Caches")
    elif sys.platform == "win32":
        base = _at_home(os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    else:
        base = _at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base / "layerlift" / kind


def _at_home(path: str) -> Path:
    """A path whose ~ is the user's home; a place that is none where there is no such user."""
    found = at_home(path)
    return Path(os.devnull) if str(found).startswith("~") else found


def kept_sizes() -> dict[str, tuple[int, int]]:
    """How many files of each kind are in the cache, and their bytes."""
    found = {}
    for folder in _listed(cache_folder("")):
        with suppress(OSError):
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            found[folder.name] = len(sizes), sum(sizes)
    return found


@contextmanager
def reading(path: Path) -> Iterator[bool]:
    """While this is open nobody prunes a file, and it counts as used now. False when it is not there."""
    try:
        stream = path.open("rb")
    except OSError:
        yield False
        return
    with stream:
        locked(stream.fileno(), exclusive=False)
        # Whoever pruned it a moment ago had the lock before.
        there = path.is_file()
        with suppress(OSError):  # it may be anybody's, or on a disk that takes no change
            os.utime(path)
        yield there


def prune(using: Path, size: int) -> int:
    """Remove files of a kind until they keep to its `BOUNDS`, those first that were not used for the longest.

    The file `using` stays, which has or will have `size` bytes, and so does what another process reads at this moment.
    What killed runs left unfinished goes, too. Returns how many bytes of finished files went.
    """
    bounds = BOUNDS[using.parent.name]
    files: list[tuple[float, int, Path]] = []
    for path in _listed(using.parent):
        with suppress(OSError):
            if (maker := maker_of(path.name)) == "gone":
                path.unlink(missing_ok=True)
            elif maker is None and path.is_file() and path != using:
                about = path.stat()
                files.append((about.st_mtime, about.st_size, path))
    oldest, removed = time.time() - bounds.days * DAY, 0
    for used, own, path in sorted(files, reverse=True):
        if (size + own > bounds.size or used < oldest) and _remove_unread(path):
            removed += own
        else:
            size += own
    return removed


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # there is none, or it is not ours to look into
        return []


def _remove_unread(path: Path) -> bool:
    """Remove a file unless somebody reads it, or the system refuses."""
    try:
        with path.open("rb") as stream:
            if not locked(stream.fileno(), exclusive=True):
                return False
            path.unlink()
    except OSError:
        return False
    return True
