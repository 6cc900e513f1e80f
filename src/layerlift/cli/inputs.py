"""What a command reads, watched: an input that changes while it is read is noticed."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from layerlift.places import Given, flat

# Size, time of the last change in nanoseconds, and number of each file.
_Stamp = dict[str, tuple[int, int, int]]

_watched: dict[Path, _Stamp] = {}


def watch_inputs(read: Mapping[str, Given]) -> None:
    """Keep how the files and folders are now; `read` maps flags to them."""
    for _, path in flat(read):
        _watched.setdefault(path, _stamp(path))


def changed_inputs() -> list[Path]:
    """Those that are no longer as they were: written to, replaced, or gone."""
    return [path for path, stamp in _watched.items() if _stamp(path) != stamp]


def forget_inputs() -> None:
    """Watch nothing any more."""
    _watched.clear()


def _stamp(path: Path) -> _Stamp:
    """Of a file, or of every file in a folder; nothing of what is not there, nor of hidden files, which a system writes
    as it likes."""
    stamps: _Stamp = {}
    files = [path]
    with suppress(OSError):
        files = [path] if not path.is_dir() else [file for file in path.iterdir() if not file.name.startswith(".")]
    for file in files:
        with suppress(OSError):
            found = os.stat(file)  # noqa: PTH116 - links are followed
            stamps[str(file)] = found.st_size, found.st_mtime_ns, found.st_ino
    return stamps
