"""What callers may give a stage for a clip or a mask, made into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from layerlift.clip import Clip, open_clip
from layerlift.masks import Mask, match_mask, open_mask, open_object_masks

GivenClip = Clip | np.ndarray | str | Path
"""A `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images."""

GivenMask = Mask | np.ndarray | str | Path
"""A `Mask`, bool (F, H, W) or (H, W) for all frames, or the path of a video, a folder of images or a still."""


def as_clip(clip: GivenClip) -> Clip:
    """The clip itself, or one made of frames (F, H, W, 3) uint8, or the one at a path."""
    if isinstance(clip, Clip):
        return clip
    return Clip.from_array(clip) if isinstance(clip, np.ndarray) else open_clip(clip)


def as_mask(mask: GivenMask, clip: Clip) -> Mask:
    """The mask for a clip, from a mask, an array (F, H, W) or (H, W), or a path; raises as `open_mask`."""
    if isinstance(mask, str | Path):
        return open_mask(mask, clip)
    return match_mask(Mask.from_array(mask) if isinstance(mask, np.ndarray) else mask, clip)


def as_objects(objects: Sequence[GivenMask] | GivenMask, clip: Clip) -> list[Mask]:
    """The object masks for a clip, from one or several of anything `as_mask` takes; a label image gives several."""
    several = [objects] if isinstance(objects, Mask | np.ndarray | str | Path) else objects
    masks: list[Mask] = []
    for given in several:
        masks += open_object_masks(given, clip) if isinstance(given, str | Path) else [as_mask(given, clip)]
    return masks
