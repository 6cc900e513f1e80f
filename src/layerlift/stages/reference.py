"""Which frames a user had best clean by hand, ready for an image editor. Read `run_references` first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.evidence import State, gather_evidence
from layerlift.evidence.coverage import choose_references
from layerlift.evidence.reference import MARK
from layerlift.flags import check_ranges
from layerlift.masks import Mask
from layerlift.options import ReferenceOptions, RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.runtime import Runtime, chosen
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_mask
from layerlift.stages.removal import Margin, choose_margin

# Marks reach this many pixels into what was gathered, so that what is painted meets it.
OVERLAP = 2


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A frame to be cleaned.

    Attributes:
        frame: its number in the clip, counted from 0, in the whole clip where this one was cut from it.
        covers: which share (0 to 1) of what no frame shows it would cover, cleaned.
        picture: (H, W, 3) uint8, with what other frames show filled in, and the rest of the mask in flat magenta.
        marked: (H, W) bool, where that magenta is.
    """

    frame: int
    covers: float
    picture: np.ndarray
    marked: np.ndarray


def suggest_references(
    clip: GivenClip,
    mask: GivenMask,
    options: ReferenceOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Iterator[Suggestion]:
    """The fewest frames that, once cleaned, cover what no frame shows: at most `count` of them, in order.

    Args:
        clip: as `remove` takes it.
        mask: as `remove` takes it.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `ReferenceOptions`, which override `options`, and, without a
            `runtime`, `progress` and `report`, which gets the shares of hidden pixels that were gathered and that
            are unknown.

    Returns:
        The frames, made as they are requested.

    Raises:
        InputError: anything given cannot be used; raised by the call, not when the first frame is requested.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(ReferenceOptions, options, runtime, choices)
    return run_references(plan_references(clip, mask, options, runtime))


@dataclass(frozen=True, slots=True)
class ReferencePlan:
    """A search for frames to clean that was checked.

    Attributes:
        clip: what is looked at.
        mask: what is to be removed from it.
        count: of frames, at most.
        margin: what the mask grows by.
        runtime: what it runs with.
    """

    clip: Clip
    mask: Mask
    count: int
    margin: Margin
    runtime: Runtime


def plan_references(
    clip: GivenClip,
    mask: GivenMask,
    options: ReferenceOptions | None = None,
    runtime: Runtime | None = None,
) -> ReferencePlan:
    """Open and check everything. Takes the arguments of `suggest_references`.

    Raises InputError for what cannot be used.
    """
    options = options or ReferenceOptions()
    clip = as_clip(clip)
    mask = as_mask(mask, clip)
    margin = choose_margin(RemovalOptions(dilate=options.dilate), clip)
    check_ranges(options)
    if options.count < 1:
        raise InputError(f"--count is {options.count}: give at least 1.")
    return ReferencePlan(clip, mask, options.count, margin, runtime or Runtime())


def run_references(plan: ReferencePlan) -> Iterator[Suggestion]:
    """Yield the frames to clean, in the clip's order."""
    clip, report, progress = plan.clip, plan.runtime.report, plan.runtime.progress
    # 1. Gather what other frames show.
    with report.stage("evidence"):
        found = gather_evidence(clip, plan.mask, dilate=plan.margin.dilate, progress=progress)
    report.results["evidence"] = found.shares
    with found:
        # 2. Choose the frames that cover most of the rest, and mark it in them.
        with report.stage("choose"):
            best = choose_references(found, clip.rate, plan.count)
        for index, covers in _first_fields(clip, best):
            frame, state = next(found.frames(index, index + 1))
            marked = grow(state == State.UNKNOWN, OVERLAP) & (state != State.ORIGINAL)
            picture = np.where(marked[..., None], np.array(MARK, np.uint8), frame)
            yield Suggestion(clip.number_of(index), covers, picture, marked)


def _first_fields(clip: Clip, chosen: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of an interlaced clip the first field of every frame that has a chosen one, with the larger share."""
    best: dict[int, float] = {}
    for index, covers in chosen:
        first = max(clip.index_of(clip.number_of(index)), 0)
        best[first] = max(covers, best.get(first, 0.0))
    return sorted(best.items())
