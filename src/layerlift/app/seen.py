"""What was seen of a clip's effects, kept by `layerlift mask --seen`, as one picture for each frame.

A page draws any threshold from it at once. One window of frames is in memory at a time.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from layerlift.app.projects import OpenProject
from layerlift.jobs.shelf import Shelf

# What a kind of effect is called, in the order in which it is kept: the first is none.
KINDS = ("none", "shadow", "reflection", "light", "smoke")
_lock = threading.Lock()
_window: tuple[tuple[str, float, tuple[str, ...]], int, np.ndarray] | None = None


def sure_at(project: OpenProject, index: int) -> np.ndarray | None:
    """How likely each place of a frame is an effect of the kinds that are wanted, (h, w) uint8; None where not kept."""
    found = _window_of(project.folder / "results" / "seen", index, project.opened.facts.frames)
    if found is None:
        return None
    path, first = found
    kinds = tuple(project.saved.doc.effects.kinds) or KINDS[1:]
    global _window  # noqa: PLW0603 - one window for the whole server
    with _lock:
        key = str(path), path.stat().st_mtime, kinds
        if _window is None or _window[0] != key:
            _window = None
            _window = key, first, _read(path, kinds)
        frames = _window[2]
    return frames[index - first] if 0 <= index - first < len(frames) else None


def _read(path: Path, kinds: tuple[str, ...]) -> np.ndarray:
    """(F, h, w) uint8 of a window: the likeliest of the objects."""
    with Shelf(path) as shelf:
        _, likely, *_ = shelf.get(0)  # (n, F, 5, h, w) float16
    wanted = [KINDS.index(kind) for kind in kinds]
    out = np.empty((likely.shape[1], *likely.shape[3:]), np.uint8)
    for frame in range(likely.shape[1]):
        sure = likely[:, frame, wanted].astype(np.float32).sum(1).max(0)
        out[frame] = np.rint(255 * np.clip(sure, 0, 1)).astype(np.uint8)
    return out


def _window_of(folder: Path, index: int, count: int) -> tuple[Path, int] | None:
    """The file of the window that a frame is in, and the number of its first frame."""
    files = sorted(folder.glob("*/seen-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not files:
        return None
    parts = len(files)
    edges = [round(part * count / parts) for part in range(parts + 1)]
    number = next((n for n in range(parts) if edges[n] <= index < edges[n + 1]), None)
    if number is None:
        return None
    return files[number], max(0, edges[number] - MARGIN)


MARGIN = 24  # frames on either side of a window that are looked at, too; see `layerlift.finder.find`
