"""Provenance as pictures: where every pixel of a clean plate comes from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from layerlift.evidence import State

# Flat colours (red, green, blue), far enough apart to be told again after any encoding.
COLOURS = {
    State.ORIGINAL: (0, 0, 0),
    State.GATHERED: (0, 255, 0),
    State.UNKNOWN: (255, 255, 0),
    State.GENERATED: (255, 0, 255),
}
_TABLE = np.array([COLOURS[state] for state in sorted(State)], np.uint8)


def colour_provenance(state: np.ndarray) -> np.ndarray:
    """`State` (H, W) uint8 → (H, W, 3) uint8: original black, gathered green, generated magenta."""
    return _TABLE[state]


def describe_shares(gathered: float, unknown: float, *, model: bool) -> str:
    """One phrase for the last line, from the shares of hidden pixels in [0, 1]."""
    done = "generated" if model else "filled in"
    return f"{gathered:.0%} of the hidden pixels were seen elsewhere, {unknown:.0%} {done}"


def describe_references(covered: Mapping[int, float]) -> list[str]:
    """One line for each reference, from the share (0 to 1) of what no frame shows that it covers, by frame."""
    return [f"reference frame {frame} covers {share:.0%} of what no frame shows" for frame, share in covered.items()]
