"""Brushes: what the user paints as an effect, or as none. What is painted holds; frames near a painted one follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.finder.small import small_masks
from layerlift.finder.travel import places
from layerlift.masks import Mask
from layerlift.stages.inputs import GivenMask, as_mask

# A painted frame counts for one so many frames away by 1/e.
FADES = 6.0
FARTHEST = 18

# A mask for every frame, or a mask and the number of the only frame it is for; in the whole clip if it was cut.
GivenBrush = GivenMask | tuple[GivenMask, int | None]


@dataclass(frozen=True, slots=True)
class Brush:
    """What was painted.

    Attributes:
        mask: where, in every frame.
        frame: the number of the only frame it is for; None where it is for all.
        adds: whether it is an effect there, or none.
    """

    mask: Mask
    frame: int | None
    adds: bool

    def painted(self, index: int, painted: np.ndarray) -> np.ndarray:
        """What of a frame is painted: the mask's (H, W) bool there, or nothing."""
        return painted if self.frame in (None, index) else np.zeros_like(painted)


def open_brushes(clip: Clip, more: Sequence[GivenBrush], less: Sequence[GivenBrush]) -> tuple[Brush, ...]:
    """Brushes that add effects and brushes that take them away. Raises InputError for what cannot be used."""
    brushes = []
    for flag, given, adds in (("--effects", more, True), ("--not-effects", less, False)):
        for one in given:
            mask, number = one if isinstance(one, tuple) else (one, None)
            frame = None if number is None else clip.index_of(number)
            if frame is not None and not 0 <= frame < clip.frame_count:
                first, last = clip.number_of(0), clip.number_of(clip.frame_count - 1)
                raise InputError(
                    f"{flag} is for frame {number}, but {clip.name} has frames {first} to {last}: give one of them."
                )
            brushes.append(Brush(as_mask(mask, clip), frame, adds))
    return tuple(brushes)


def brushed(likely: np.ndarray, objects: np.ndarray, brushes: Sequence[Brush], first: int) -> np.ndarray:
    """How likely effects are once the user has said so, (n, F, h, w) float32, on the small picture.

    Objects are (n, F, h, w) bool, and `first` is the number of the first frame.
    """
    if not brushes:
        return likely
    out = likely.copy()
    frames, size = likely.shape[1], likely.shape[:1:-1]
    where = [places(own) for own in objects]
    for brush in brushes:
        if brush.frame is None:
            for index, mask in enumerate(small_masks(brush.mask, first, first + frames, size)):
                lay(out, objects, mask, 1.0, index, index, where, adds=brush.adds)
            continue
        mask = small_masks(brush.mask, brush.frame, brush.frame + 1, size)[0]
        painted = brush.frame - first
        for index in range(max(0, painted - FARTHEST), min(frames, painted + FARTHEST + 1)):
            # A painted frame beyond the window is followed as well, but not along the object.
            at = painted if 0 <= painted < frames else index
            lay(out, objects, mask, exp(-abs(index - painted) / FADES), at, index, where, adds=brush.adds)
    return out


def lay(
    likely: np.ndarray,
    objects: np.ndarray,
    mask: np.ndarray,
    weight: float,
    painted: int,
    index: int,
    where: list,
    *,
    adds: bool,
) -> None:
    """Lay a mask (h, w) bool that was `painted` in one frame onto another one, `index`, moved as each object moved."""
    if not mask.any():
        return
    numbers = range(len(likely))
    if adds:  # an effect is that of the object nearest to it
        away = [
            cv2.distanceTransform((~own[painted]).astype(np.uint8), cv2.DIST_L2, 3)[mask].min()
            if own[painted].any()
            else np.inf
            for own in objects
        ]
        numbers = range(int(np.argmin(away)), int(np.argmin(away)) + 1)
    for number in numbers:
        here, there = where[number][painted], where[number][index]
        moved = mask.astype(np.float32)
        if here is not None and there is not None and painted != index:
            shift = np.array([[1, 0, there.x - here.x], [0, 1, there.y - here.y]])
            moved = cv2.warpAffine(moved, shift, mask.shape[::-1])
        share = moved * weight
        likely[number, index] = likely[number, index] * (1 - share) + (share if adds else 0)
