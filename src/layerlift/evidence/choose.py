"""Which frames to look at for what is hidden in one: few, near in time, and showing all of it if any do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.evidence.reach import COARSE, Reach
from layerlift.evidence.register import project

# What a pixel's next sample is worth, by how many it has.
WORTH = np.array([1.0, 0.6, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01, 0.01])
# Points by which frames are chosen, at most.
POINTS = 1500
# A frame this many frames away is worth half as much as a neighbour.
HALF_WORTH = 12.0
# Every frame this near is a candidate; farther ones at every so many frames, so that choosing stays cheap.
DENSE = 16
STEP = 4
# Of references so many, the nearest, are always looked at.
REFERENCES = 2
# A lag serves on while it shows this share of what the best one would.
LAG_SERVES = 0.9


@dataclass(slots=True)
class Lag:
    """How far behind and ahead of the present frame others are looked at, for as long as that serves.

    A sample from always the same distance moves as the clip moves; the nearest frame that shows a pixel is one and the
    same for a long time, and stands still.
    """

    frames: int = 0
    shot: int = -1


def choose_frames(
    motion: Motion, held: Reach, present: int, box: tuple[int, int, int, int], *, count: int, lag: Lag
) -> tuple[list[int], list[int]]:
    """At most `count` frames of the same shot that show something of what is hidden in a box, nearest first.

    The second list are those of them that lie at the lag, which is kept up to date.
    """
    x, y = _hidden_points(held, present, box)
    candidates, shown = [], []
    for index in motion.shot_of(present, held.reach):
        if index not in held:
            continue
        seen = _seen(motion, held, present, index, x=x, y=y)
        if seen.any():
            candidates.append(index)
            shown.append(seen)
    if not candidates:
        return [], []
    table = np.stack(shown).astype(np.float32)  # (candidates, points)
    away = np.array(candidates) - present

    # The lag: as short as shows nearly all that any does.
    lags = np.arange(1, max(2, held.near + 1))
    either = np.array(
        [table[np.abs(away) == frames].any(0).mean() if (np.abs(away) == frames).any() else 0 for frames in lags]
    )
    current = lag.frames - 1
    if lag.shot != motion.shots[present] or not 0 <= current < len(lags) or either[current] < LAG_SERVES * either.max():
        lag.frames = int(lags[int(np.argmax(either >= (1 + LAG_SERVES) / 2 * either.max()))])
        lag.shot = motion.shots[present]
    carriers = [i for i in range(len(candidates)) if abs(away[i]) == lag.frames]

    nearness = HALF_WORTH / (HALF_WORTH + np.abs(away))
    given = np.isin(candidates, sorted(held.references))
    allowed = (np.abs(away) <= DENSE) | (np.array(candidates) % STEP == 0) | given
    have = np.zeros(table.shape[1], np.int64)
    chosen: list[int] = []

    def take(best: int) -> None:
        allowed[best] = False
        chosen.append(best)
        have[table[best] > 0] += 1

    # Then the nearest references.
    nearest = sorted(np.flatnonzero(given), key=lambda i: abs(int(away[i])))[:REFERENCES]
    for best in dict.fromkeys([*carriers, *(int(i) for i in nearest)]):
        take(best)
    while len(chosen) < count and allowed.any():
        worth = table @ WORTH[np.minimum(have, len(WORTH) - 1)].astype(np.float32)
        gain = np.where(allowed, worth * nearness, -1)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        take(best)
    chosen.sort(key=lambda i: (abs(away[i]), candidates[i]))
    return [candidates[i] for i in chosen], [candidates[i] for i in carriers]


def _hidden_points(held: Reach, present: int, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Hidden pixels of a box, one of every coarse cell, as x and y; all of them when no cell's middle is hidden."""
    left, top, right, bottom = box
    hidden = held[present].hidden[top:bottom, left:right]
    half = COARSE // 2
    rows, columns = np.nonzero(hidden[half::COARSE, half::COARSE])
    rows, columns = rows * COARSE + half, columns * COARSE + half
    if not len(rows):
        rows, columns = np.nonzero(hidden)
    step = -(-len(rows) // POINTS)
    return columns[::step] + left, rows[::step] + top


def _seen(motion: Motion, held: Reach, present: int, index: int, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of the present frame another frame shows, (N,) bool."""
    matrix = motion.between(present, index)
    if matrix is None:
        return np.zeros(len(x), bool)
    to_x, to_y = project(matrix, x, y)
    height, width = held[present].hidden.shape
    seen = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    coarse = held[index].coarse
    seen[seen] = ~coarse[(to_y[seen] / COARSE).astype(int), (to_x[seen] / COARSE).astype(int)]
    return seen
