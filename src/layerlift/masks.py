"""Masks in: a video, a folder of images or one still; white = masked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.container import check_file
from layerlift.clip.layout import Layout, is_folder, layout_masks
from layerlift.clip.reader import open_clip
from layerlift.errors import InputError
from layerlift.labels import Label, Reading, read_labels
from layerlift.mask_timing import timed

__all__ = ["Layout", "Mask", "layout_masks", "match_mask", "open_mask", "open_object_masks", "union_masks"]

HALF = 127  # values above are masked
MOSTLY = 0.9  # a mask that covers more of every frame may be meant the other way round
COLOURED = 64  # levels between a pixel's channels from which it is a colour, not compressed grey
COLOURED_SHARE = 0.001  # of a frame: what is smaller is noise

# Pixels by which a scaled mask's side may miss the clip's shape: scaling rounds, and to even numbers.
ASPECT_SLACK = 2

MaskReader = Callable[[int, int], Iterator[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Mask:
    """Which pixels of a clip are masked, readable in order any number of times.

    A still mask holds one picture for all frames; `open_mask` and `match_mask` give it its clip's frame count. `notes`
    are sentences for the user: how its file was read, and what looks like a mistake. A `checked` mask fits its clip and
    masks part of it.
    """

    width: int
    height: int
    frame_count: int
    reader: MaskReader = field(repr=False, compare=False)
    still: bool = False
    name: str = "mask"
    notes: tuple[str, ...] = ()
    checked: bool = False

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
            raise InputError(
                f"{self.name} has frames 0:{self.frame_count}, so frames {start}:{stop} cannot be read; choose a "
                "range within those."
            )
        source = self.reader
        return replace(self, frame_count=stop - start, reader=lambda a, b: source(start + a, start + b), checked=False)

    @staticmethod
    def from_array(mask: np.ndarray, name: str = "mask") -> Mask:
        """A mask in memory: (F, H, W), or (H, W) for a still; bool, or uint8 that is masked above 127."""
        if mask.ndim not in (2, 3) or mask.dtype not in (np.bool_, np.uint8) or 0 in mask.shape:
            raise InputError(
                f"the mask has shape {mask.shape} and type {mask.dtype}, but a mask is (F, H, W) or (H, W), bool or "
                "uint8; convert it first."
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

    If the mask has an alpha channel that varies, alpha decides instead of brightness. A label image (see
    `labels.read_labels`) masks all its objects, or only one with ``:ID`` after the path. A mask with the clip's aspect
    ratio but another size is scaled to the clip. A mask as long as the clip that `clip` was cut from is cut in the same
    way. An animation whose encoder merged identical frames is matched by time (`mask_timing`). The mask is read once,
    frame by frame.

    Raises InputError, each with its own sentence, for a mask that cannot be read, differs from the clip in length or
    aspect ratio, masks nothing, masks everything, or has no object of that ID.
    """
    file, wanted = split_label(path)
    opened = _open_file(file, clip, wanted)
    chosen = opened.reading.labels if wanted is None else [_find_label(opened, wanted)]
    return opened.mask(chosen, str(path))


def open_object_masks(path: str | Path, clip: Clip) -> list[Mask]:
    """Open a mask as `open_mask` does, but each object of a label image as a mask of its own, in order of their IDs.

    Objects that are in none of the clip's frames are left out. Raises InputError as `open_mask` does.
    """
    file, wanted = split_label(path)
    opened = _open_file(file, clip, wanted)
    seen = [label for label in opened.reading.labels if label.seen]
    if wanted is not None or not seen:
        return [opened.mask([] if wanted is None else [_find_label(opened, wanted)], str(path))]
    return [opened.mask((label,), str(path) if len(seen) == 1 else f"{path}:{label.name}") for label in seen]


def split_label(path: str | Path) -> tuple[Path, str | None]:
    """``masks.png:2`` → (masks.png, "2"); a path that is there as a whole, and one without a colon, has no ID."""
    head, colon, name = str(path).rpartition(":")
    # os.path asks without raising for a name that is too long.
    if not (colon and name and head) or os.path.lexists(path) or not os.path.exists(head):  # noqa: PTH110
        return Path(path), None
    return Path(head), name


@dataclass(frozen=True, slots=True)
class _MaskFile:
    """A mask that was opened and understood."""

    path: Path
    source: Clip
    clip: Clip
    reading: Reading
    start: int
    still: bool
    wanted: str | None  # the object that was asked for by its ID
    timing: str  # how its pictures were matched to the clip's frames, where not one by one

    def mask(self, labels: Sequence[Label], name: str) -> Mask:
        """The mask of some of a label image's objects, or of a matte."""
        clip, start = self.clip, self.start

        def reader(begin: int, end: int) -> Iterator[np.ndarray]:
            for value in self._values(start + begin, start + end, labels):
                yield _to_size(value, clip.width, clip.height) > HALF

        made = Mask(clip.width, clip.height, clip.frame_count, reader, name=name)
        if self.still:
            made = _still(next(reader(0, 1)), clip.frame_count, name)
        notes = _check_content(made, None if labels else self._brightest)
        if self.reading.kind == "brightness" and self._has_dark_colours():
            notes.append(
                f"{self.path} has colours darker than half brightness, which do not count as masked: make the objects "
                "white, or use flat colours in a lossless file."
            )
        told = (self._understood(), *([self.timing] if self.timing else []), *notes)
        return replace(made, checked=True, notes=told)

    def _understood(self) -> str:
        """What the file was taken for, one sentence."""
        seen = [label.name for label in self.reading.labels if label.seen]
        if not seen:
            return f"1 object in {self.path}: {_MATTES[self.reading.kind]}."
        objects = f"{len(seen)} object{'s' if len(seen) > 1 else ''} in {self.path}: {', '.join(seen)}"
        return f"{objects}; using {self.wanted}." if self.wanted is not None else f"{objects}."

    def _values(self, begin: int, end: int, labels: Sequence[Label]) -> Iterator[np.ndarray]:
        """(H, W) uint8, masked above HALF."""
        if labels:
            codes = np.array([label.code for label in labels], np.int32)
            for stored in self.source.reader(begin, end, "stored"):
                yield np.isin(self.reading.codes(stored), codes) * np.uint8(255)
        elif self.reading.kind == "alpha":
            yield from (frame[..., 3] for frame in self.source.rgba_frames(begin, end))
        else:
            yield from (_brightness(frame) for frame in self.source.frames(begin, end))

    def _has_dark_colours(self) -> bool:
        """Whether the first, middle or last frame of a matte seems to hold objects in red or blue."""
        last = self.start + (0 if self.still else self.clip.frame_count - 1)
        for index in sorted({self.start, (self.start + last) // 2, last}):
            frame = next(self.source.frames(index, index + 1))
            coloured = np.ptp(frame, axis=2) > COLOURED
            if (coloured & (_brightness(frame) <= HALF)).mean() > COLOURED_SHARE:
                return True
        return False

    def _brightest(self) -> int:
        count = 1 if self.still else self.clip.frame_count
        return max(int(value.max()) for value in self._values(self.start, self.start + count, ()))


_MATTES = {"brightness": "everything brighter than half", "alpha": "everything opaque"}


def _open_file(path: Path, clip: Clip, wanted: str | None) -> _MaskFile:
    if not is_folder(path):
        check_file(path, "a mask")
    pictures = fitted_fields(open_clip(path), path, clip)
    _check_shape(pictures.width, pictures.height, clip, str(path))
    source = timed(pictures, path, clip)
    start, stop, still = _span(source.frame_count, clip, str(path))
    timing = ""
    if source.frame_count != pictures.frame_count:
        timing = (
            f"The {pictures.frame_count} pictures of {path} are held for their display times, which makes "
            f"{source.frame_count} frames."
        )
    return _MaskFile(path, source, clip, read_labels(path, source, start, stop), start, still, wanted, timing)


def fitted_fields(source: Clip, path: Path, clip: Clip) -> Clip:
    """A mask for the fields of an interlaced clip where it is one for its frames, and the other way round."""
    if source.field_order is not None and clip.field_order is None:
        return open_clip(path, deinterlace=True)
    fields = (clip.frame_count, clip.source_frame_count)
    return source.doubled() if clip.field_order is not None and 2 * source.frame_count in fields else source


def _find_label(opened: _MaskFile, name: str) -> Label:
    labels = opened.reading.labels
    if not labels:
        raise InputError(
            f"{opened.path} is one object ({_MATTES[opened.reading.kind]}) without IDs, so it has no object {name}; "
            f"leave :{name} out."
        )
    found = next((label for label in labels if label.is_called(name)), None)
    known = ", ".join(label.name for label in labels)
    if found is None:
        raise InputError(f"{opened.path} has no object {name}; choose from {known}.")
    if not found.seen:
        raise InputError(
            f"object {name} of {opened.path} is in none of the selected frames; choose from {known}, or other frames."
        )
    return found


def match_mask(mask: Mask, clip: Clip) -> Mask:
    """Check and fit a mask from memory to a clip as `open_mask` does for files; raises the same errors."""
    if mask.checked and (mask.width, mask.height, mask.frame_count) == (clip.width, clip.height, clip.frame_count):
        return mask
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
    return replace(matched, checked=True, notes=tuple(dict.fromkeys([*mask.notes, *_check_content(matched)])))


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
    return Mask(first.width, first.height, first.frame_count, reader, all(mask.still for mask in parts), name)


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
        expected = f"{clip.source_frame_count}, of which {clip.frame_count} are selected"
    raise InputError(
        f"the mask {name} has {count} frames, but the clip {clip.name} has {expected}; give a mask of the clip's "
        "length, or a single still."
    )


def _check_shape(width: int, height: int, clip: Clip, name: str) -> None:
    if (
        min(abs(width - clip.width * height / clip.height), abs(height - clip.height * width / clip.width))
        > ASPECT_SLACK
    ):
        raise InputError(
            f"the mask {name} is {width}x{height}, which does not match the shape of the clip, "
            f"{clip.width}x{clip.height}; give a mask of the clip's aspect ratio."
        )


def _check_content(mask: Mask, brightest: Callable[[], int] | None = None) -> list[str]:
    """What a user should know of a mask's content, a sentence each. Raises InputError for one without any use."""
    anything, everything, mostly = False, True, True
    for frame in mask.frames(0, 1 if mask.still else None):
        anything = anything or bool(frame.any())
        everything = everything and bool(frame.all())
        mostly = mostly and float(frame.mean()) > MOSTLY
        if anything and not mostly:
            return []
    if not anything:
        level = brightest() if brightest is not None else 0
        found = f"no pixel is brighter than half (the brightest is {level} of 255)" if level else "no pixel is white"
        raise InputError(f"the mask {mask.name} is empty: {found}; give a mask with the object in white.")
    if everything:
        raise InputError(
            f"the mask {mask.name} is white everywhere, which leaves nothing of the clip; give a mask with only the "
            "object in white."
        )
    return [
        f"The mask {mask.name} is white over more than {MOSTLY:.0%} of every frame: if the object is the black part, "
        "invert the mask."
    ]


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
