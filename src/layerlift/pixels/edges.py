"""Soft masks from a grid coarser than the picture, whose edges are made to follow the picture's."""

from __future__ import annotations

import numpy as np
import torch

from layerlift.pixels.arrays import bounds
from layerlift.pixels.guided import filter_twice, make_guide

# A share below this is none, so that the filter need not look there.
NONE = 0.02
# Pixels to a cell of the filter's grid.
STEP = 2


def with_edges(picture: np.ndarray, shares: np.ndarray, radius: float) -> np.ndarray:
    """Shares (n, H, W) float32 in [0, 1] with the edges of a picture (H, W, 3) uint8, within `radius` pixels of theirs.

    Far from an edge they stay as they are.
    """
    box = bounds(shares.max(0) > NONE)
    if box is None:
        return shares
    margin = round(2 * radius) + STEP
    height, width = shares.shape[1:]
    left, top = (max(0, side - margin) // STEP * STEP for side in box[:2])
    right, bottom = min(width, box[2] + margin), min(height, box[3] + margin)
    around = (slice(top, bottom), slice(left, right))
    pixels = torch.from_numpy(np.ascontiguousarray(picture[around])).permute(2, 0, 1)[None].float() / 255
    given = torch.from_numpy(np.ascontiguousarray(shares[:, *around]))[None]
    guide = make_guide(pixels, torch.ones_like(pixels[:, :1]), round(radius), STEP)
    cells = torch.nn.functional.avg_pool2d(given, STEP, ceil_mode=True)
    out = shares.copy()
    out[:, *around] = filter_twice(guide, cells, pixels)[0].numpy()
    return out
