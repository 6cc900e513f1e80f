"""What extraction and composition are given, opened and checked: plates, object masks, total masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.masks import Mask
from layerlift.pixels.arrays import grow
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_mask, as_objects

# Of an object's pixels so many may lie outside the total mask: edges move when masks are scaled or compressed.
STRAY_SHARE = 0.02


def open_objects(objects: Sequence[GivenMask] | GivenMask, clip: Clip) -> list[Mask]:
    """The object masks for a clip, from one or several of anything `as_objects` takes."""
    masks = as_objects(objects, clip)
    if not masks:
        raise InputError("no object mask was given: give one for each layer you want")
    return masks


def open_totals(total: Sequence[GivenMask] | GivenMask | None, masks: Sequence[Mask], clip: Clip) -> list[Mask]:
    """The total masks for a clip: none, one for all of its objects, or one for each.

    Raises InputError for any other number of them.
    """
    if total is None:
        return []
    several = [total] if isinstance(total, Mask | np.ndarray | str | Path) else list(total)
    if len(several) not in (1, len(masks)):
        raise InputError(
            f"{len(several)} total masks were given for {len(masks)} object masks: give one for all, or one for each "
            "in the same order"
        )
    return [as_mask(mask, clip) for mask in several]


def open_plate(background: GivenClip, clip: Clip) -> Clip:
    """The clean plate of a clip, of its size and length or a single picture.

    Raises InputError for any other.
    """
    plate = as_clip(background)
    name = str(background) if isinstance(background, str | Path) else plate.name
    if (plate.width, plate.height) != (clip.width, clip.height):
        raise InputError(
            f"the background {name} is {plate.width}x{plate.height}, but the clip {clip.name} is "
            f"{clip.width}x{clip.height}; give the clean plate of this clip"
        )
    whole = clip.source_frame_count
    if plate.frame_count == whole and plate.frame_count != clip.frame_count:
        return plate.cut(clip.first, clip.first + clip.frame_count)
    if plate.frame_count not in (1, clip.frame_count):
        raise InputError(
            f"the background {name} has {plate.frame_count} frames, but the clip {clip.name} has {clip.frame_count}; "
            "give the clean plate of this clip, or a single picture for all frames"
        )
    return plate


def plate_frames(plate: Clip, start: int, stop: int) -> Iterator[np.ndarray]:
    """Frames of a plate, (H, W, 3) uint8; a single picture as often as wanted."""
    if plate.frame_count > 1 or stop <= 1:
        yield from plate.frames(start, stop)
        return
    picture = next(plate.frames())
    for _ in range(start, stop):
        yield picture


def check_totals(masks: Sequence[Mask], totals: Sequence[Mask], edge: int) -> None:
    """Raises InputError when an object lies outside its total mask, or outside the one for all."""
    if len(totals) == len(masks):
        for mask, total in zip(masks, totals, strict=True):
            check_inside([mask], total, edge)
    elif totals:
        check_inside(masks, totals[0], edge)


def check_inside(masks: Sequence[Mask], total: Mask, edge: int) -> None:
    """Raises InputError when an object lies outside the total mask; reads all masks once."""
    inside, stray = np.zeros(len(masks)), np.zeros(len(masks))
    for reach, *objects in zip(total.frames(), *(mask.frames() for mask in masks), strict=True):
        allowed = grow(reach, edge)
        for index, mask in enumerate(objects):
            inside[index] += (mask & allowed).sum()
            stray[index] += (mask & ~allowed).sum()
    for index, mask in enumerate(masks):
        share = stray[index] / (inside[index] + stray[index])
        if share > STRAY_SHARE:
            raise InputError(
                f"{share:.0%} of the object mask {mask.name} lies outside the total mask {total.name}, which must "
                "cover the object and its effects; give the total mask of this object"
            )
