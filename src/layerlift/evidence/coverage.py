"""What a cleaned frame would cover of what no frame shows, and which few frames would cover most of it.

Reckoned on a coarse grid along the camera's motion: whoever cleans a frame shows what it hides, and that is what other
frames see at the places the motion takes it to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import cv2
import numpy as np

from layerlift.evidence.gather import REACH_SECONDS
from layerlift.evidence.motion import Motion
from layerlift.evidence.reference import Reference
from layerlift.evidence.register import project
from layerlift.evidence.state import State
from layerlift.evidence.store import Evidence
from layerlift.evidence.unsearched import Unsearched

# Cells along the picture's longer side.
CELLS = 64
# Frames are looked at as references, evenly spread over those in which something is unknown, at most.
CANDIDATES = 240
# Together they look at about so many unknown cells at most: of longer clips at those of every n-th frame.
CELLS_MOST = 200_000
# Nothing more is chosen once this share is covered, or where one more frame would add less than this share of the best.
ENOUGH = 0.99
LEAST_GAIN = 0.02


class Reached:
    """The cells of a clip in which something is hidden, frame by frame."""

    def __init__(self, motion: Motion | None, reach: int) -> None:
        """What a frame shows is carried along `motion` to frames within `reach` of it; without a motion to none."""
        self._motion, self._reach = motion, 0 if motion is None else reach
        self._grids: list[np.ndarray] = []
        self._size = (1, 1)

    def add(self, hidden: np.ndarray) -> None:
        """The next frame; hidden (H, W) bool."""
        self._size = hidden.shape[1], hidden.shape[0]
        self._grids.append(coarse(hidden) > 0)

    def cells_of(self, index: int) -> np.ndarray:
        """The cells of frame `index` in which something is hidden, (h, w) bool."""
        return self._grids[index]

    def in_reach(self, index: int) -> list[int]:
        """The frames that what frame `index` shows is carried to, and the frame itself."""
        if self._motion is None:
            return [index]
        return sorted([index, *self._motion.shot_of(index, self._reach)])

    def covered(self, target: int, cells: np.ndarray, source: int) -> np.ndarray:
        """Which cells (N, 2), rows and columns, of frame `target` frame `source` hides as well, (N,) bool."""
        if target == source:
            return np.ones(len(cells), bool)
        return self._look(target, cells, source) == 1

    def seen(self, target: int, cells: np.ndarray) -> np.ndarray:
        """Which cells (N, 2) of frame `target` any other frame shows, (N,) bool."""
        found = np.zeros(len(cells), bool)
        for source in self.in_reach(target):
            if source != target and not found.all():
                found[~found] = self._look(target, cells[~found], source) == 0
        return found

    def _look(self, target: int, cells: np.ndarray, source: int) -> np.ndarray:
        """Of cells of a frame, (N,) int8: 0 where another frame shows them, 1 where it hides them, -1 beyond it."""
        out = np.full(len(cells), -1, np.int8)
        matrix = None if self._motion is None else self._motion.between(target, source)
        if matrix is None:
            return out
        rows, columns = self._grids[source].shape
        across, down = self._size[0] / columns, self._size[1] / rows
        x, y = project(matrix, (cells[:, 1] + 0.5) * across - 0.5, (cells[:, 0] + 0.5) * down - 0.5)
        column, row = np.floor((x + 0.5) / across), np.floor((y + 0.5) / down)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        out[inside] = self._grids[source][row[inside].astype(np.intp), column[inside].astype(np.intp)]
        return out


def coarse(where: np.ndarray) -> np.ndarray:
    """Which share of every cell is True in (H, W) bool: (h, w) float32."""
    height, width = where.shape
    cell = max(1.0, max(height, width) / CELLS)
    size = max(1, round(width / cell)), max(1, round(height / cell))
    return np.asarray(cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA))


def references_cover(
    references: Sequence[Reference], found: Evidence | Unsearched, rate: Fraction | float
) -> dict[int, float]:
    """Which share of what no frame shows each reference covers, 0 to 1, by its frame's number.

    `found` is what was gathered with the references' help, so what they cover is unknown no more. It is told again:
    hidden where a reference hides it, and seen in no frame of the clip.
    """
    at = {reference.index: reference for reference in references}
    cover = Reached(_motion(found), _reach(rate))
    unknown: list[np.ndarray] = []
    for index, state in enumerate(_states(found)):
        told = state if index not in at else at[index].tell(state)
        cover.add(told != State.ORIGINAL)
        unknown.append(coarse(state == State.UNKNOWN) > 0)

    total, shares = 0, dict.fromkeys(at, 0)
    for target, left in enumerate(unknown):
        reach = set(cover.in_reach(target))
        near = [index for index in at if index in reach]
        cells = np.argwhere(cover.cells_of(target))
        otherwise = left[tuple(cells.T)]
        covers = {index: cover.covered(target, cells, index) for index in near}
        if near and len(cells):
            by_any = np.logical_or.reduce(list(covers.values())) & ~otherwise
            by_any[by_any] = ~cover.seen(target, cells[by_any])
            otherwise |= by_any
        total += int(np.count_nonzero(otherwise))
        for index, its in covers.items():
            shares[index] += int(np.count_nonzero(its & otherwise))
    return {at[index].frame: covered / max(total, 1) for index, covered in shares.items()}


def choose_references(found: Evidence, rate: Fraction | float, count: int) -> list[tuple[int, float]]:
    """The fewest frames that, once cleaned, show what no frame shows, at most `count`, greedily: those that add most.

    Returns their places in the clip, rising, each with the share (0 to 1) of the unknown pixels that it would cover.
    """
    cover = Reached(_motion(found), _reach(rate))
    unknown: list[np.ndarray] = []
    for state in _states(found):
        cover.add(state != State.ORIGINAL)
        unknown.append(coarse(state == State.UNKNOWN))
    cells = [np.argwhere(weights > 0) for weights in unknown]
    every = max(1, round(sum(map(len, cells)) / CELLS_MOST))
    targets = [index for index, of in enumerate(cells) if len(of)][::every]
    if not targets:
        return []
    candidates = [targets[at] for at in np.unique(np.linspace(0, len(targets) - 1, CANDIDATES).round().astype(int))]

    # One row for each candidate: which of all cells it covers. Cells weigh as much as of them is unknown.
    starts = dict(zip(targets, np.cumsum([0, *(len(cells[index]) for index in targets)])[:-1].tolist(), strict=True))
    frames = np.repeat(targets, [len(cells[index]) for index in targets])
    weights = np.concatenate([unknown[index][tuple(cells[index].T)] for index in targets])
    table = np.zeros((len(candidates), len(frames)), bool)
    for row, source in enumerate(candidates):
        for target in cover.in_reach(source):
            if target in starts:
                span = slice(starts[target], starts[target] + len(cells[target]))
                table[row, span] = cover.covered(target, cells[target], source)

    chosen: list[tuple[int, float]] = []
    left, total, most = weights.astype(np.float64), float(weights.sum()), 0.0
    while len(chosen) < count and left.sum() > (1 - ENOUGH) * total:
        gains = table @ left
        best = _middle_of_best(gains, candidates, frames, table, left)
        most = max(most, gains[best])
        if gains[best] < LEAST_GAIN * most:
            break
        chosen.append((candidates[best], float(weights[table[best]].sum()) / total))
        left[table[best]] = 0
    return sorted(chosen)


def _middle_of_best(
    gains: np.ndarray, candidates: Sequence[int], frames: np.ndarray, table: np.ndarray, left: np.ndarray
) -> int:
    """Of the candidates that add most, or hardly less, the one nearest to the middle of the frames it helps."""
    best = np.flatnonzero(gains >= 0.99 * gains.max())
    away = [abs(candidates[row] - np.median(frames[table[row] & (left > 0)])) for row in best.tolist()]
    return int(best[int(np.argmin(away))])


def _states(found: Evidence | Unsearched) -> Iterable[np.ndarray]:
    if isinstance(found, Evidence):
        return found.states()
    return (hidden.view(np.uint8) * np.uint8(State.UNKNOWN) for hidden in found.hidden())


def _motion(found: Evidence | Unsearched) -> Motion | None:
    return found.motion if isinstance(found, Evidence) else None


def _reach(rate: Fraction | float) -> int:
    return round(REACH_SECONDS * rate)
