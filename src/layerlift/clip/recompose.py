"""A clip's own samples with a result put in: beyond what a result changes, nothing is converted at all.

The stages work on the view of a clip (`view.py`), 8 bits of RGB. A writer sees each result beside the picture it was
made from, and leaves every sample alone whose pixels in the result are those of the view. What did change is converted
from the view to the clip's samples; of a clip with more than 8 bits, the half level that 8 bits leave open is filled
with what the neighbourhood says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Picture
from layerlift.clip.samples import Samples, convert, enlarged, from_rgb, reduced, rounded
from layerlift.clip.view import is_hdr, view_to_signal

# Pixels around a value whose mean says where in its level it lies.
_NEIGHBOURHOOD = 9


class Recomposer:
    """Makes the planes of one result after the other, in the clip's order, as samples of one kind.

    `strict` leaves a sample of chroma alone as soon as one of the pixels it covers is as it was. Otherwise it becomes
    the mean of what it covers, which is better where a mask is cut close.
    """

    def __init__(self, like: Clip, target: Samples, tags: ColorTags, *, strict: bool = False) -> None:
        self._target, self._tags, self._strict = target, tags, strict
        self._hdr = is_hdr(like.color)
        self._down = 1 if like.chroma_place is None else like.chroma_place[1]
        self._pictures: Iterator[Picture] = iter(())
        if like.pictures is not None and (like.width, like.height) == like.picture_size:
            self._pictures = like.pictures(0, like.frame_count)

    def planes(self, frame: np.ndarray) -> list[np.ndarray]:
        """A result, (H, W), (H, W, 3) or (H, W, 4) uint8, as planes of the target's samples."""
        picture = next(self._pictures, None)
        if picture is None or (samples := picture.samples) is None:
            return self._converted(frame)
        base = convert(picture.planes(), samples, picture.tags, self._target, self._tags, down=self._down)
        colour = frame[..., :3] if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
        off = picture.array("rgb24") ^ colour
        changed = (off[..., 0] | off[..., 1] | off[..., 2]) != 0  # much faster than numpy's any over the channels
        made = self._with_changes(base, colour, changed) if changed.any() else base
        if frame.ndim == 3 and frame.shape[2] == 4 and self._target.alpha:
            new = picture.array("rgba")[..., 3] != frame[..., 3]
            made[-1] = np.where(new, self._alpha_of(frame), made[-1])
        return made

    def _with_changes(self, base: list[np.ndarray], frame: np.ndarray, changed: np.ndarray) -> list[np.ndarray]:
        """The base with what changed, worked on within the smallest box of whole samples of chroma."""
        target = self._target
        across, down = target.shift
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        top, left = rows[0] >> down << down, columns[0] >> across << across
        bottom = min((rows[-1] >> down) + 1 << down, len(changed))
        right = min((columns[-1] >> across) + 1 << across, changed.shape[1])
        spot = changed[top:bottom, left:right]
        full = self._full_size(frame, (top, bottom, left, right))
        made = [np.array(plane) for plane in base]
        small = (slice(top >> down, -(-bottom >> down)), slice(left >> across, -(-right >> across)))
        for number, plane in enumerate(full):
            if number == 0 or not (across or down):
                inside = made[number][top:bottom, left:right]
                inside[spot] = rounded(plane, target.bits)[spot]
                continue
            inside = made[number][small]
            before = enlarged(inside, target.shift, right - left, bottom - top).astype(np.float32)
            mean = rounded(reduced(np.where(spot, plane, before), target.shift), target.bits)
            new = reduced(spot.astype(np.float32), target.shift) > 0
            if self._strict:
                new &= reduced(_stays(~spot).astype(np.float32), target.shift) == 0
            inside[new] = mean[new]
        return made

    def _full_size(self, frame: np.ndarray, box: tuple[int, int, int, int]) -> list[np.ndarray]:
        """A box of a result, (h, w, 3) uint8, as float32 planes of its size in the target's levels."""
        top, bottom, left, right = box
        if not self._target.deep:
            colour = frame[top:bottom, left:right].astype(np.float32) / 255
        else:
            margin = _NEIGHBOURHOOD
            high, low = max(top - margin, 0), max(left - margin, 0)
            around = refine(frame[high : bottom + margin, low : right + margin])
            colour = around[top - high : bottom - high, left - low : right - low]
            if self._hdr:
                colour = view_to_signal(colour, self._tags.transfer)
        return from_rgb(colour, self._target, self._tags)

    def _converted(self, frame: np.ndarray) -> list[np.ndarray]:
        """A result that has no picture beside it."""
        colour = frame[..., :3] if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
        full = self._full_size(colour, (0, frame.shape[0], 0, frame.shape[1]))
        if self._target.model == "yuv":
            full = [full[0], *(reduced(plane, self._target.shift) for plane in full[1:])]
        made = [rounded(plane, self._target.bits) for plane in full]
        return [*made, self._alpha_of(frame)] if self._target.alpha else made

    def _alpha_of(self, frame: np.ndarray) -> np.ndarray:
        whole = (1 << self._target.bits) - 1
        alpha = frame[..., 3] if frame.ndim == 3 and frame.shape[2] == 4 else np.full(frame.shape[:2], 255, np.uint8)
        return rounded(alpha.astype(np.float32) * np.float32(whole / 255), self._target.bits)


def refine(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → float32 in [0, 1]: each value moved by up to half a level towards the mean around it.

    A ramp that 8 bits cut into steps becomes one again; nothing leaves the level that it was rounded to.
    """
    import cv2

    values = frame.astype(np.float32)
    mean = cv2.blur(values, (_NEIGHBOURHOOD, _NEIGHBOURHOOD), borderType=cv2.BORDER_REFLECT_101)
    return (values + np.clip(mean - values, -0.5, 0.5)) / 255


def _stays(unchanged: np.ndarray) -> np.ndarray:
    """Pixels as they were that are no chance hits inside what changed: those in a 2x2 block of such."""
    padded = np.pad(unchanged, 1, constant_values=True)
    blocks = padded[:-1, :-1] & padded[1:, :-1] & padded[:-1, 1:] & padded[1:, 1:]
    return blocks[:-1, :-1] | blocks[1:, :-1] | blocks[:-1, 1:] | blocks[1:, 1:]
