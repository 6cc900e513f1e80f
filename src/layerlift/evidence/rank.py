"""Reference frames outrank other frames: near one, what contradicts it is not listened to.

Where traces lead to what a user painted, and are sure, other frames that show something else there are wrong to the
user's eyes: a shadow that the mask left out, somebody who stood there. Where they agree, or the way to the reference
is long, everything weighs as it does without.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from layerlift.evidence.fuse import SURE, Side

# Two sources contradict each other where they differ, after a blur, by more levels of 255 than this and this many times
# the error that the reference's colours are expected to have. On real clips that leaves out next to nothing that is
# right.
APART, APART_OF_ERROR = 5.0, 1.5
# The blur, in pixels of the reduced clip: what lies a little aside differs to and fro, and contradicts nothing.
BLUR = 2.0
LEAST_SHARE = 0.05


def outrank(
    sides: Sequence[Side], painted: Sequence[Side], rows: np.ndarray, columns: np.ndarray, scale: int
) -> list[Side]:
    """The `sides` on N hidden pixels without a word where they contradict what is `painted` and surely belongs there.

    `rows` and `columns` (N,) are the pixels' places, blurred `scale` times as wide as on the reduced clip.
    """
    if not painted:
        return list(sides)
    weights = [1 / np.square(side.error) for side in painted]
    total = np.sum(weights, 0)
    with np.errstate(divide="ignore"):
        error = 1 / np.sqrt(total)
    sure = error <= SURE
    if not sure.any():
        return list(sides)
    colours = sum(weight[:, None] * side.colours for weight, side in zip(weights, painted, strict=True))
    colours = colours / np.maximum(total, 1e-12)[:, None]
    out = []
    for side in sides:
        both = sure & np.isfinite(side.error)
        apart = _blurred(side.colours - colours, both, rows, columns, BLUR * scale)
        out.append(side.unless(both & (np.abs(apart).mean(1) > APART + APART_OF_ERROR * error)))
    return out


def _blurred(values: np.ndarray, where: np.ndarray, rows: np.ndarray, columns: np.ndarray, blur: float) -> np.ndarray:
    """Values (N, 3) float32 of pixels, each a mean of those around it `where` (N,) bool they count: (N, 3) float32."""
    top, left = rows.min(), columns.min()
    rows, columns = rows - top, columns - left
    picture = np.zeros((rows.max() + 1, columns.max() + 1, 4), np.float32)
    picture[rows[where], columns[where], :3], picture[rows[where], columns[where], 3] = values[where], 1
    mixed = cv2.GaussianBlur(picture, (0, 0), blur, borderType=cv2.BORDER_CONSTANT)[rows, columns]
    return np.asarray(mixed[:, :3] / np.maximum(mixed[:, 3:], LEAST_SHARE))
