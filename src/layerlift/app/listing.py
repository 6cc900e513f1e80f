"""The clips in a folder, by their names alone: nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path

from layerlift.app.projects import ENDING
from layerlift.clip.layout import VIDEO_ENDINGS

DEPTH, MOST = 2, 500  # folders below, and clips


def clips_in(root: Path) -> list[dict]:
    """Videos in a folder and just below it, as `{path, bytes}`."""
    found: list[dict] = []
    _look(root, root, DEPTH, found)
    return found


def _look(root: Path, folder: Path, depth: int, found: list[dict]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name.lower())
    except OSError:
        return
    for entry in entries:
        if len(found) >= MOST or entry.name.startswith(".") or entry.is_symlink() or not entry.name.isprintable():
            continue
        path = Path(entry.path)
        if entry.is_file() and path.suffix.lower() in VIDEO_ENDINGS:
            found.append({"path": path.relative_to(root).as_posix(), "bytes": entry.stat().st_size})
        elif entry.is_dir() and depth > 0 and not entry.name.endswith(ENDING):
            _look(root, path, depth - 1, found)
