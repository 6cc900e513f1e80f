"""What a segmentation will do, checked before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.options import SegmentationOptions
from layerlift.runtime import Runtime
from layerlift.stages.inputs import GivenClip, as_clip
from layerlift.stages.segment.base import Prompts, Target
from layerlift.stages.segment.choose import choose_segmenter

# Labels are bytes, and label images of more objects are not read as such.
MOST_TARGETS = 32
# A point inside and one outside that are nearer than so many pixels contradict each other.
APART = 2.0


@dataclass(frozen=True, slots=True)
class SegmentationPlan:
    """A segmentation that was checked.

    Attributes:
        clip: what is looked at.
        targets: the objects, with frames as they are numbered in `clip`.
        segmenter: the name of the one that looks, or the path of its weights.
        runtime: what it runs with.
    """

    clip: Clip
    targets: tuple[Target, ...]
    segmenter: str
    runtime: Runtime


def plan_segmentation(
    clip: GivenClip,
    targets: Sequence[Target] | Target,
    options: SegmentationOptions | None = None,
    runtime: Runtime | None = None,
) -> SegmentationPlan:
    """Open and check everything; no weight is read. Takes the arguments of `segment`.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or SegmentationOptions(), runtime or Runtime()
    clip = as_clip(clip)
    several = (targets,) if isinstance(targets, Target) else tuple(targets)
    if not several:
        raise InputError("no object was named: give a --point inside it, or a --box around it.")
    if len(several) > MOST_TARGETS:
        raise InputError(
            f"{len(several)} objects were named, but at most {MOST_TARGETS} are found in one go: give fewer."
        )
    checked = tuple(check_target(target, clip) for target in several)
    return SegmentationPlan(clip, checked, choose_segmenter(options.segmenter, runtime), runtime)


def check_target(target: Target, clip: Clip) -> Target:
    """The target, its boxes cut to the picture. Raises InputError for what is said of it that makes no sense."""
    if not target.touched:
        raise InputError(f"nothing is said of {target.name}: give a --point inside it, or a --box around it.")
    first, last = clip.number_of(0), clip.number_of(clip.frame_count - 1)
    prompts = {}
    for index in target.touched:
        if not 0 <= index < clip.frame_count:
            raise InputError(
                f"{target.name} is said to be in frame {clip.number_of(index)}, but {clip.name} has frames {first} to "
                f"{last}: give one of them."
            )
    for index, said in target.prompts.items():
        prompts[index] = check_prompts(said, target.name, clip, index)
    for index, mask in target.masks.items():
        check_mask(mask, target, clip, index)
    begin = target.touched[0]
    if begin not in target.masks and not prompts[begin].places:
        raise InputError(
            f"only where {target.name} is not is said of frame {clip.number_of(begin)}, the first that is: add a "
            "--point inside it there."
        )
    return replace(target, prompts=prompts)


def check_prompts(said: Prompts, name: str, clip: Clip, index: int) -> Prompts:
    """What is said of one frame, with the box cut to the picture. Raises InputError for what makes no sense."""
    number = clip.number_of(index)
    size = f"{clip.width}x{clip.height}"
    for x, y in said.points:
        if not (0 <= x < clip.width and 0 <= y < clip.height):
            raise InputError(
                f"the point {x:g},{y:g} for {name} is outside the picture, which is {size}: give pixels counted from "
                "the top left corner, from 0."
            )
    for x, y in said.points[said.inside]:
        near = np.hypot(*(said.points[~said.inside] - (x, y)).T) < APART if (~said.inside).any() else np.zeros(1)
        if near.any():
            raise InputError(
                f"the point {x:g},{y:g} in frame {number} is said to be both inside and outside {name}: leave one out."
            )
    if said.box is None:
        return said
    left, top, right, bottom = said.box
    given = f"the box {left:g},{top:g},{right:g},{bottom:g} for {name}"
    if not (left < right and top < bottom):
        raise InputError(f"{given} has no area: give its left, top, right and bottom side, in this order.")
    box = max(0.0, left), max(0.0, top), min(float(clip.width), right), min(float(clip.height), bottom)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"{given} is outside the picture, which is {size}: give pixels of the picture.")
    for x, y in said.points[said.inside]:
        if not (left - APART <= x <= right + APART and top - APART <= y <= bottom + APART):
            raise InputError(
                f"the point {x:g},{y:g} in frame {number} is said to be inside {name}, but lies outside its box: leave "
                "one of them out."
            )
    return replace(said, box=box)


def check_mask(mask: np.ndarray, target: Target, clip: Clip, index: int) -> None:
    """Raises InputError for a known mask that does not fit the clip, or what is said of the same frame."""
    if mask.shape != (clip.height, clip.width) or mask.dtype != np.bool_:
        raise InputError(
            f"the mask of {target.name} has shape {mask.shape} and type {mask.dtype}, but the clip needs "
            f"({clip.height}, {clip.width}) bool; convert it first."
        )
    if index in target.prompts:
        raise InputError(
            f"a mask of {target.name} is given for frame {clip.number_of(index)}, and clicks or a box, too: leave one "
            "of them out."
        )
