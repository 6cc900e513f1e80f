"""Masks in: a video, a folder of images or one still; white = masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.layout import Layout, layout_masks
from layerlift.clip.reader import open_clip
from layerlift.errors import InputError

__all__ = ["Layout", "Mask", "layout_masks", "match_mask", "open_mask", "union_masks"]

HALF = 127  # values above are masked

# Pixels by which a scaled mask's side may miss the clip's shape: scaling rounds, and to even numbers.
ASPECT_SLACK = 2

MaskReader = Callable[[int, int], Iterator[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Mask:
    """Which pixels of a clip are masked, readable in order as often as wanted.

    A still mask holds one picture for all frames; `open_mask` and `match_mask` give it its clip's frame count.
    """

    width: int
    height: int
    frame_count: int
    reader: MaskReader = field(repr=False, compare=False)
    still: bool = False
    name: str = "mask"

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as (H, W) bool, True = masked."""
        stop = self.frame_count if stop is None else stop
        if not 0 <= start <= stop <= self.frame_count:
            raise ValueError(f"frames {start}:{stop} of a mask with {self.frame_count} frames")
        return self.reader(start, stop)

    def numpy(self) -> np.ndarray:
        """All frames at once, (F, H, W) bool."""
        out = np.empty((self.frame_count, self.height, self.width), np.bool_)
        for index, frame in enumerate(self.frames()):
            out[index] = frame
        return out

    def cut(self, start: int, stop: int) -> Mask:
        """Frames start … stop - 1 as a mask of their own."""
        if not 0 <= start < stop <= self.frame_count:
            raise InputError(f"frames {start}:{stop} were asked for, but {self.name} has frames 0:{self.frame_count}.")
        source = self.reader
        return Mask(
            self.width,
            self.height,
            stop - start,
            lambda a, b: source(start + a, start + b),
            still=self.still,
            name=self.name,
        )

    @staticmethod
    def from_array(mask: np.ndarray, name: str = "mask") -> Mask:
        """A mask in memory: (F, H, W), or (H, W) for a still; bool, or uint8 that is masked above 127."""
        if mask.ndim not in (2, 3) or mask.dtype not in (np.bool_, np.uint8) or 0 in mask.shape:
            raise InputError(
                f"a mask of shape {mask.shape} and type {mask.dtype} was given, but a mask is (F, H, W) or (H, W), "
                "bool or uint8; convert it first."
            )
        masked = mask if mask.dtype == np.bool_ else mask > HALF
        if masked.ndim == 2:
            return _still(masked, 1, name)
        return Mask(masked.shape[2], masked.shape[1], masked.shape[0], lambda a, b: iter(masked[a:b]), name=name)


def _still(picture: np.ndarray, frame_count: int, name: str) -> Mask:
    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for _ in range(start, stop):
            yield picture

    return Mask(picture.shape[1], picture.shape[0], frame_count, reader, still=True, name=name)


def open_mask(path: str | Path, clip: Clip) -> Mask:
    """Open a clip's mask: a video, a folder of images, or one still for all frames; white = masked.

    Where the mask has an alpha channel that is not the same everywhere, alpha decides instead of brightness. A mask
    of the clip's shape at another scale is scaled to the clip. A mask as long as the clip that `clip` was cut from is
    cut alike. Reads the mask once, frame by frame.

    Raises InputError, each with its own sentence, for a mask that cannot be read, has another length or aspect ratio
    than the clip, masks nothing, or masks everything.
    """
    path = Path(path)
    source = open_clip(path)
    name = str(path)
    _check_shape(source.width, source.height, clip, name)
    start, stop, still = _span(source.frame_count, clip, name)
    use_alpha = _alpha_varies(source, start, stop) if source.has_alpha else False

    def values(begin: int, end: int) -> Iterator[np.ndarray]:
        frames = source.rgba_frames(begin, end) if use_alpha else source.frames(begin, end)
        return (frame[..., 3] if use_alpha else _brightness(frame) for frame in frames)

    def reader(begin: int, end: int) -> Iterator[np.ndarray]:
        for value in values(start + begin, start + end):
            yield _to_size(value, clip.width, clip.height) > HALF

    if still:
        mask = _still(next(reader(0, 1)), clip.frame_count, name)
    else:
        mask = Mask(clip.width, clip.height, clip.frame_count, reader, name=name)
    _check_content(mask)
    return mask


def match_mask(mask: Mask, clip: Clip) -> Mask:
    """Check and fit a mask from memory to a clip as `open_mask` does for files; raises the same errors."""
    _check_shape(mask.width, mask.height, clip, mask.name)
    count = 1 if mask.still else mask.frame_count
    start, _, still = _span(count, clip, mask.name)
    source = mask.reader

    def reader(begin: int, end: int) -> Iterator[np.ndarray]:
        for frame in source(start + begin, start + end):
            if frame.shape == (clip.height, clip.width):
                yield frame
            else:
                yield _to_size(frame.astype(np.uint8) * np.uint8(255), clip.width, clip.height) > HALF

    if still:
        matched = _still(next(reader(0, 1)), clip.frame_count, mask.name)
    else:
        matched = Mask(clip.width, clip.height, clip.frame_count, reader, name=mask.name)
    _check_content(matched)
    return matched


def union_masks(masks: Sequence[Mask]) -> Mask:
    """Pixels that any of the masks has; all must be of one size and length (as after `open_mask` for one clip)."""
    first = masks[0]
    for other in masks[1:]:
        if (other.width, other.height, other.frame_count) != (first.width, first.height, first.frame_count):
            raise ValueError(f"{other.name} and {first.name} differ in size or length")
    if len(masks) == 1:
        return first
    parts = tuple(masks)

    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for frames in zip(*(mask.frames(start, stop) for mask in parts), strict=True):
            yield np.logical_or.reduce(frames)

    name = " + ".join(mask.name for mask in parts)
    return Mask(first.width, first.height, first.frame_count, reader, all(m.still for m in parts), name)


def _span(count: int, clip: Clip, name: str) -> tuple[int, int, bool]:
    """First frame, end and stillness of a mask of `count` frames for a clip."""
    if count == clip.frame_count:
        return 0, count, False
    if count == 1:
        return 0, 1, True
    if count == clip.source_frame_count:
        return clip.first, clip.first + clip.frame_count, False
    expected = str(clip.frame_count)
    if clip.source_frame_count is not None:
        expected = f"{clip.source_frame_count}, of which {clip.frame_count} were asked for"
    raise InputError(
        f"the mask {name} has {count} frames, but the clip {clip.name} has {expected}; give a mask of the clip's "
        "length or a single still."
    )


def _check_shape(width: int, height: int, clip: Clip, name: str) -> None:
    if (
        min(abs(width - clip.width * height / clip.height), abs(height - clip.height * width / clip.width))
        > ASPECT_SLACK
    ):
        raise InputError(
            f"the mask {name} is {width}x{height}, which is another shape than the clip's {clip.width}x{clip.height}; "
            "give a mask of the clip's aspect ratio."
        )


def _check_content(mask: Mask) -> None:
    anything, everything = False, True
    for frame in mask.frames(0, 1 if mask.still else None):
        anything = anything or bool(frame.any())
        everything = everything and bool(frame.all())
        if anything and not everything:
            return
    if not anything:
        raise InputError(f"the mask {mask.name} is empty: no pixel is white; give a mask with the object in white.")
    raise InputError(
        f"the mask {mask.name} is white everywhere, which leaves nothing of the clip; give a mask with the object "
        "alone in white."
    )


def _alpha_varies(source: Clip, start: int, stop: int) -> bool:
    low, high = 255, 0
    for frame in source.rgba_frames(start, stop):
        low, high = min(low, int(frame[..., 3].min())), max(high, int(frame[..., 3].max()))
        if low != high:
            return True
    return False


def _brightness(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB to (H, W) uint8 luma."""
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _to_size(value: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale (H, W) uint8: averaging when it shrinks, linear when it grows, so that half is where the edge was."""
    import cv2

    if value.shape == (height, width):
        return value
    shrinks = value.shape[0] > height
    return cv2.resize(value, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
