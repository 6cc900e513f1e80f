"""Which frames a user had best clean by hand, ready for an image editor. Read `suggest_references` first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.evidence import State, gather_evidence
from layerlift.evidence.coverage import choose_references
from layerlift.evidence.reference import MARK
from layerlift.masks import Mask
from layerlift.pixels import grow
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.stages.inputs import as_clip, as_mask
from layerlift.stages.removal import RemovalOptions, choose_margin

# As many frames as anyone would clean.
COUNT = 8
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
    clip: Clip | np.ndarray | str | Path,
    mask: Mask | np.ndarray | str | Path,
    *,
    count: int = COUNT,
    dilate: int | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
) -> Iterator[Suggestion]:
    """The fewest frames that, once cleaned, cover what no frame shows: at most `count`, in the clip's order.

    Args:
        clip, mask: as `remove` takes them.
        count: of frames, at most.
        dilate: pixels by which the mask grows, as for `remove`; None is what suits the clip.
        progress: told how far each stage is.
        report: filled with seconds and memory, and the shares of hidden pixels that were gathered or are unknown.

    Raises:
        InputError: anything given cannot be used; raised by the call, not by the first frame that is asked for.
    """
    # 1. Open and check.
    clip = as_clip(clip)
    mask = as_mask(mask, clip)
    report = report or Report()
    margin = choose_margin(RemovalOptions(dilate=dilate), clip)
    if count < 1:
        raise InputError(f"{count} frames were asked for: give at least 1.")

    def run() -> Iterator[Suggestion]:
        # 2. Gather what other frames show.
        with report.stage("evidence"):
            found = gather_evidence(clip, mask, dilate=margin.dilate, progress=progress)
        report.results["evidence"] = found.shares
        with found:
            # 3. Choose the frames that cover most of the rest, and mark it in them.
            with report.stage("choose"):
                chosen = choose_references(found, clip.rate, count)
            for index, covers in _first_fields(clip, chosen):
                frame, state = next(found.frames(index, index + 1))
                marked = grow(state == State.UNKNOWN, OVERLAP) & (state != State.ORIGINAL)
                picture = np.where(marked[..., None], np.array(MARK, np.uint8), frame)
                yield Suggestion(clip.number_of(index), covers, picture, marked)

    return run()


def _first_fields(clip: Clip, chosen: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of an interlaced clip the first field of every frame that has a chosen one, with the larger share."""
    best: dict[int, float] = {}
    for index, covers in chosen:
        first = max(clip.index_of(clip.number_of(index)), 0)
        best[first] = max(covers, best.get(first, 0.0))
    return sorted(best.items())
