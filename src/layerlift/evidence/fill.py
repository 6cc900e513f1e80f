"""Without a model: what no frame shows is filled in, once, and then carried along with the camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from layerlift.evidence.join import EDGE, join
from layerlift.evidence.motion import Motion
from layerlift.evidence.state import State
from layerlift.pixels import grow

RADIUS = 5  # pixels that Telea's method looks around
CONTEXT = 16  # pixels kept around the unknown ones: more than the radius changes nothing
# Of larger regions than this (pixels) a smaller picture is filled in: inpainting is smooth anyway, and slow.
LARGEST = 20_000


def inpaint_unknown(frame: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Fill a single frame's UNKNOWN pixels from around them, after Telea (2004).

    Frame (H, W, 3) uint8, state (H, W) uint8 → (H, W, 3) uint8; all other pixels stay. A frame that is unknown
    everywhere stays as it is.
    """
    unknown = state == State.UNKNOWN
    if not unknown.any() or unknown.all():
        return frame
    rows, columns = np.flatnonzero(unknown.any(1)), np.flatnonzero(unknown.any(0))
    top, bottom = max(0, rows[0] - CONTEXT), min(frame.shape[0], rows[-1] + 1 + CONTEXT)
    left, right = max(0, columns[0] - CONTEXT), min(frame.shape[1], columns[-1] + 1 + CONTEXT)
    part, hole = frame[top:bottom, left:right], unknown[top:bottom, left:right]
    shrink = min(1.0, float(np.sqrt(LARGEST / hole.sum())))
    if shrink < 1:
        size = max(1, round(hole.shape[1] * shrink)), max(1, round(hole.shape[0] * shrink))
        small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        small = cv2.inpaint(
            cv2.resize(part, size, interpolation=cv2.INTER_AREA), small_hole.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA
        )
        filled = cv2.resize(small, (hole.shape[1], hole.shape[0]), interpolation=cv2.INTER_LINEAR)
    else:
        filled = cv2.inpaint(np.ascontiguousarray(part), hole.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    out = frame.copy()
    out[top:bottom, left:right][hole] = filled[hole]
    return out


def fill_frames(frames: Iterable[tuple[np.ndarray, np.ndarray]], motion: Motion) -> Iterator[np.ndarray]:
    """Fill the UNKNOWN pixels of frames from the first on, steadily: what was filled in moves with the camera.

    Takes (H, W, 3) uint8 and `State` (H, W) uint8, yields (H, W, 3) uint8.
    """
    before: np.ndarray | None = None
    for index, (frame, state) in enumerate(frames):
        unknown = state == State.UNKNOWN
        matrix = motion.between(index, index - 1) if index and before is not None else None
        if not unknown.any() or matrix is None or before is None:
            out = inpaint_unknown(frame, state)
        else:
            out = _carry(before, matrix, frame, unknown)
        yield out
        before = out


def _carry(before: np.ndarray, matrix: np.ndarray, frame: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Fill a frame from the filled frame before it; what that does not show is inpainted."""
    height, width = unknown.shape
    if np.array_equal(matrix, np.eye(3)):
        moved, seen = before, np.ones_like(unknown)
    else:
        flags = cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(
            before, matrix, (width, height), flags=cv2.INTER_CUBIC | flags, borderMode=cv2.BORDER_REPLICATE
        )
        seen = cv2.warpPerspective(np.ones_like(unknown, np.uint8), matrix, (width, height), flags=flags) > 0
    ring = grow(unknown, EDGE) & ~unknown & seen
    values = join(moved.astype(np.float32), frame, unknown, ring)
    out = frame.copy()
    carried = unknown & seen
    out[carried] = np.clip(np.rint(values[carried]), 0, 255).astype(np.uint8)
    rest = unknown & ~seen
    return inpaint_unknown(out, np.where(rest, np.uint8(State.UNKNOWN), np.uint8(State.ORIGINAL)))
