"""Which frames to look at for what is hidden in one: few, near in time, and showing all of it if any do."""

from __future__ import annotations

import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.evidence.reach import COARSE, Reach
from layerlift.evidence.register import project

# What a pixel's next sample is worth, by how many it has.
WORTH = np.array([1.0, 0.6, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01, 0.01])
# A frame this many frames away is worth half as much as a neighbour.
HALF_WORTH = 12.0
# Frames beyond `NEAR` are candidates at every so many frames, so that choosing stays cheap.
FAR_STEP = 4


def choose_frames(motion: Motion, held: Reach, present: int, box: tuple[int, int, int, int], count: int) -> list[int]:
    """At most `count` frames of the same shot that show something of what is hidden in a box, nearest first."""
    left, top, right, bottom = box
    hidden = held[present].hidden
    # The middles of coarse cells with something hidden in them.
    rows, columns = np.nonzero(hidden[top:bottom, left:right][COARSE // 2 :: COARSE, COARSE // 2 :: COARSE])
    if not len(rows):
        rows, columns = np.nonzero(hidden[top:bottom, left:right])
    x, y = columns * COARSE + COARSE // 2 + left, rows * COARSE + COARSE // 2 + top
    if len(rows) > 1500:
        thin = len(rows) // 1500 + 1
        x, y = x[::thin], y[::thin]
    height, width = hidden.shape

    candidates, shown = [], []
    for index in motion.shot_of(present, held.reach):
        away = abs(index - present)
        if index not in held or (away > held.near and held.stride == 1 and away % FAR_STEP):
            continue
        matrix = motion.between(present, index)
        assert matrix is not None  # of the same shot
        to_x, to_y = project(matrix, x, y)
        inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        seen = inside.copy()
        coarse = held[index].coarse
        seen[inside] = ~coarse[(to_y[inside] / COARSE).astype(int), (to_x[inside] / COARSE).astype(int)]
        if seen.any():
            candidates.append(index)
            shown.append(seen)
    if not candidates:
        return []

    table = np.stack(shown).astype(np.float32)  # (candidates, points)
    away = np.abs(np.array(candidates) - present)
    nearness = HALF_WORTH / (HALF_WORTH + away)
    have = np.zeros(table.shape[1], np.int64)
    chosen: list[int] = []
    free = np.ones(len(candidates), bool)
    while len(chosen) < count and free.any():
        gain = np.where(free, (table @ WORTH[np.minimum(have, len(WORTH) - 1)].astype(np.float32)) * nearness, -1)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        free[best] = False
        chosen.append(best)
        have += table[best] > 0
    return sorted((candidates[i] for i in chosen), key=lambda index: (abs(index - present), index))
