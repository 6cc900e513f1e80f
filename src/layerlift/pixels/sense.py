"""Whether what a model made is a picture at all: numbers that are finite can be nonsense, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Levels of 255 from which a sample counts as black or white.
DARKEST, BRIGHTEST = 1, 254
# Share of black and white samples that a result may have beyond the clip's own.
MORE_EXTREMES = 0.5
# A clip whose levels spread less than this (standard deviation) may well become a flat picture.
LIVELY = 8.0
# A picture of which the levels spread less than this is of one colour, but for rounding.
FLAT = 0.5
# How much more neighbouring pixels may differ than in the clip: so many times, and levels. Independent noise of the
# full range differs by 85 levels, footage by 2 to 15.
NOISIER, NOISE_LEVELS = 3.0, 24.0
# Of so many frames one is looked at: numbers that overflow do so in whole windows, and looking at each frame of a clip
# takes more time than encoding it does on a fast card.
LOOKED_AT_EVERY = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is like, in levels of 255.

    Attributes:
        spread: standard deviation of its samples.
        detail: mean difference of neighbouring pixels.
        extremes: share of samples that are black or white.
    """

    spread: float
    detail: float
    extremes: float


def look(picture: Any, known: Any = None) -> Look:
    """What a picture (H, W, 3) in 0 … 255 is like: floating-point numbers, an array or a tensor.

    `known` (H, W) bool: where alone its spread counts, since what stood out may be what was removed; None: everywhere.
    """
    # A part of the pixels tells as much: neighbours along every fourth row and column, and every fourth pixel.
    rows, columns, some = picture[::4], picture[:, ::4], picture[::2, ::2]
    counted = some if known is None else some[known[::2, ::2]]
    steps = [abs(columns[1:] - columns[:-1]), abs(rows[:, 1:] - rows[:, :-1])]
    differences = [float(step.mean()) for step in steps if 0 not in step.shape]
    extremes = (some <= DARKEST) | (some >= BRIGHTEST)
    return Look(
        spread=float(counted.std()) if 0 not in counted.shape else 0.0,
        detail=sum(differences) / max(len(differences), 1),
        extremes=float((extremes * 1.0).mean()),
    )


def liveliest(looks: Sequence[Look]) -> Look:
    """The most of each that any of some pictures has."""
    return Look(*(max(getattr(each, name) for each in looks) for name in ("spread", "detail", "extremes")))


def nonsense(made: Look, own: Look) -> str | None:
    """What is wrong with a picture that a model made of a clip that looks like `own`, as a phrase; None where nothing
    tells."""
    if made.spread < FLAT and own.spread > LIVELY:
        return "of a single colour, which the clip is not"
    if made.extremes > own.extremes + MORE_EXTREMES:
        return f"black and white in {made.extremes:.0%} of its pixels, and the clip in {own.extremes:.0%}"
    if made.detail > NOISIER * own.detail + NOISE_LEVELS:
        return f"noise: its neighbouring pixels differ by {made.detail:.0f} levels, and the clip's by {own.detail:.0f}"
    return None
