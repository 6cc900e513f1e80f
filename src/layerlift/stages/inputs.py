"""What callers may give a stage for a clip or a mask, made into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layerlift.clip import Clip, open_clip
from layerlift.masks import Mask, match_mask, open_mask

GivenMask = Mask | np.ndarray | str | Path


def as_clip(clip: Clip | np.ndarray | str | Path) -> Clip:
    """The clip itself, or one made of frames (F, H, W, 3) uint8, or the one at a path."""
    if isinstance(clip, Clip):
        return clip
    return Clip.from_array(clip) if isinstance(clip, np.ndarray) else open_clip(clip)


def as_mask(mask: GivenMask, clip: Clip) -> Mask:
    """The mask for a clip, from a mask, an array (F, H, W) or (H, W), or a path; raises as `open_mask`."""
    if isinstance(mask, str | Path):
        return open_mask(mask, clip)
    return match_mask(Mask.from_array(mask) if isinstance(mask, np.ndarray) else mask, clip)
