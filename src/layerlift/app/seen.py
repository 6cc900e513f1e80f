"""What was seen of a clip's effects, kept by `layerlift mask --seen`, as one picture for each frame and object.

A page draws any threshold from it at once. One window of frames is in memory at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from layerlift.app.projects import OpenProject
from layerlift.jobs.shelf import Shelf

# What a kind of effect is called, in the order in which it is kept: the first is none.
KINDS = ("none", "shadow", "reflection", "light", "smoke")
MARGIN = 24  # frames on either side of a window that are looked at, too; see `layerlift.finder.find`


class Seen:
    """What was seen, of the project that was asked for last. May be asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window: tuple[tuple[str, float, tuple[str, ...]], np.ndarray] | None = None

    def sure_at(self, project: OpenProject, index: int, number: int | None, kinds: Sequence[str]) -> np.ndarray | None:
        """How likely each place of a frame is an effect of some kinds, (h, w) uint8; none of them are all.

        `number` is that of the object that causes it, None any of them. None where that was not kept.
        """
        found = _window_of(project.folder / "results" / "seen", index, project.opened.facts.frames)
        if found is None:
            return None
        path, first = found
        key = str(path), path.stat().st_mtime, tuple(kinds)
        with self._lock:
            if self._window is None or self._window[0] != key:
                self._window = None
                self._window = key, _read(path, kinds)
            sure = self._window[1]
        if not 0 <= index - first < sure.shape[1] or (number or 0) >= len(sure):
            return None
        return sure[:, index - first].max(0) if number is None else sure[number, index - first]


def _read(path: Path, kinds: Sequence[str]) -> np.ndarray:
    """(n, F, h, w) uint8 of a window and its objects; no kinds are all of them. As `layerlift.finder.decide.wanted`."""
    with Shelf(path) as shelf:
        _, likely, *_ = shelf.get(0)  # (n, F, 5, h, w) float16
    asked = [number for number, kind in enumerate(KINDS) if number and (not kinds or kind in kinds)]
    other = [number for number in range(1, len(KINDS)) if number not in asked]
    out = np.empty((len(likely), *likely.shape[1:2], *likely.shape[3:]), np.uint8)
    for frame in range(likely.shape[1]):
        mine, others = (likely[:, frame, which].astype(np.float32).sum(1) for which in (asked, other))
        out[:, frame] = np.rint(255 * np.clip(np.where(mine >= others, mine + others, 0), 0, 1))
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
