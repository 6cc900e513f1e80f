"""A box of a frame in which something is hidden, and what is known around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.reach import COARSE, Held
from layerlift.pixels.arrays import distance_to

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Region:
    """A box of a frame.

    Attributes:
        box: left, top, right, bottom.
        truth: (h, w, 3) uint8, what the frame shows there; true where nothing is hidden.
        hidden: (h, w) bool.
        away: (h, w) float32, pixels to the nearest hidden one.
        ring: (h, w) bool, what is not hidden, but near: it tells how frames agree.
    """

    box: Box
    truth: np.ndarray
    hidden: np.ndarray
    away: np.ndarray
    ring: np.ndarray


def regions_of(held: Held, width: int) -> list[Region]:
    """The regions of a frame: what is hidden and `width` pixels about it; none overlap."""
    made = []
    for box in boxes_around(held, width):
        left, top, right, bottom = box
        hidden = held.hidden[top:bottom, left:right]
        away = distance_to(hidden)
        made.append(Region(box, held.frame[top:bottom, left:right], hidden, away, ~hidden & (away <= width)))
    return made


def boxes_around(held: Held, width: int) -> list[Box]:
    """Boxes around hidden regions and `width` pixels about them; whatever would overlap shares one."""
    height, full = held.hidden.shape
    # Regions are told apart on the smaller mask, and measured on the full one.
    count, _, stats, _ = cv2.connectedComponentsWithStats(held.coarse.astype(np.uint8))
    boxes: list[Box] = []
    for x, y, w, h, _ in (COARSE * stats[1:count]).tolist():
        part = held.hidden[y : y + h, x : x + w]
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        boxes.append(
            (
                x + int(columns[0]) - width,
                y + int(rows[0]) - width,
                x + int(columns[-1]) + 1 + width,
                y + int(rows[-1]) + 1 + width,
            )
        )
    return [(max(0, x0), max(0, y0), min(full, x1), min(height, y1)) for x0, y0, x1, y1 in _merge(boxes)]


def thin_out(where: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of at most `limit` of the True pixels of (H, W), evenly spread."""
    width = where.shape[1]
    places = np.flatnonzero(where)
    places = places[:: max(1, -(-len(places) // limit))]
    return places // width, places % width


def _merge(boxes: list[Box]) -> list[Box]:
    """Boxes of which none overlaps another, around those given."""
    merged: list[Box] = []
    for box in boxes:
        together, count = box, 0
        while count != len(merged):
            count = len(merged)
            x0, y0, x1, y1 = together
            touching = [b for b in merged if x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1]
            merged = [b for b in merged if b not in touching]
            left, top, right, bottom = zip(together, *touching, strict=True)
            together = min(left), min(top), max(right), max(bottom)
        merged.append(together)
    return sorted(merged, key=lambda b: (b[1], b[0]))
