"""What a window is shown of the rest of the clip: known tokens from before and after it, at their own places in time.

A window that ends before an object has moved away cannot know what is behind it. Attention does not need frames to be
neighbours: a few latent frames from other windows, as known tokens with their own coordinates, tell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from layerlift.engine.base import Context
from layerlift.geometry.fit import Geometry, token_places
from layerlift.geometry.focus import offsets

if TYPE_CHECKING:
    from layerlift.stages.encoding import Section

# They lie within so many window lengths before its start and after its end.
CONTEXT_REACH = 3


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Latent frame `index` of section number `section`, which begins with frame `frame` of the clip."""

    frame: int
    section: int
    index: int


def gather_context(
    sections: Sequence[Section | None],
    number: int,
    *,
    geometry: Geometry,
    rate: Fraction | float,
    count: int,
) -> Context | None:
    """What section `number` is shown of the others: at most `count` latent frames, evenly spread over those in reach;
    None where there is nothing to show.

    Sections before it have been generated, so all their tokens are known; of those after it only what the clip shows.
    """
    ours = sections[number]
    assert ours is not None
    candidates = _in_reach(sections, number, geometry.time)
    if len(candidates) > count:
        step = (len(candidates) - 1) / max(1, count - 1)
        candidates = [candidates[round(i * step)] for i in range(count)]
    latents, there = [], []
    for candidate in candidates:
        theirs = sections[candidate.section]
        assert theirs is not None
        rows = columns = our_rows = our_columns = slice(None)
        if ours.box is not None and theirs.box is not None:
            found = offsets(theirs.box, ours.box, geometry.space)
            if found is None:
                continue
            (rows, columns), (our_rows, our_columns) = found
        frame = theirs.latents[:, :, candidate.index, rows, columns]  # (1, C, h', w')
        known = ~theirs.unknown[candidate.index, rows, columns] | (candidate.section < number)
        if not known.any():
            continue
        # Where the tokens lie in this window's picture, and when.
        shape = (1, *ours.latents.shape[3:])
        places = token_places(shape, geometry, rate)[None, :, 0, our_rows, our_columns].copy()  # (1, 3, h', w')
        places[:, 0] = (candidate.frame - ours.window.start) / float(rate)
        latents.append(frame[:, :, known])
        there.append(places[:, :, known])
    if not latents:
        return None
    return Context(np.concatenate(latents, 2), np.concatenate(there, 2))


def _in_reach(sections: Sequence[Section | None], number: int, time: int) -> list[_Candidate]:
    """Latent frames of other sections, each frame of the clip once, in order, that do not lie in the window."""
    ours = sections[number]
    assert ours is not None
    window = ours.window
    reach = CONTEXT_REACH * window.frame_count
    found = []
    for at, theirs in enumerate(sections):
        if theirs is None or at == number:
            continue
        for index in range(1, theirs.latents.shape[2]):
            frame = theirs.window.start + (index - 1) * time + 1
            kept = theirs.window.keep_start <= frame < theirs.window.keep_stop
            near = window.start - reach <= frame < window.stop + reach
            if kept and near and not window.start < frame < window.stop:
                found.append(_Candidate(frame, at, index))
    return found
