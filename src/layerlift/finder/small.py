"""The small picture on which a clip is looked at."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.masks import Mask

# Its longer side in pixels: what the network was trained on; and its shorter one, at least.
LONGER_SIDE, LEAST_SIDE = 288, 16


def small_size(clip: Clip) -> tuple[int, int]:
    """(width, height) of the small picture."""
    scale = min(1.0, LONGER_SIDE / max(clip.width, clip.height))
    return max(LEAST_SIDE, round(clip.width * scale)), max(LEAST_SIDE, round(clip.height * scale))


def small_masks(mask: Mask, first: int, end: int, size: tuple[int, int]) -> np.ndarray:
    """A mask's frames on the small picture, (F, h, w) bool: what is half covered or more, or at least something."""
    out = []
    for own in mask.frames(first, end):
        share = cv2.resize(own.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
        out.append(share > (127 if share.max(initial=0) > 127 else 0))
    return np.stack(out)
