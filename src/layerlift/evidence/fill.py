"""Without a model: what no frame shows is filled in, once, and then carried along with the camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from layerlift.evidence.join import EDGE, join
from layerlift.evidence.motion import Motion
from layerlift.evidence.state import State
from layerlift.pixels import distance_to, grow, spread

RADIUS = 5  # pixels that Telea's method looks around
CONTEXT = 16  # pixels kept around the unknown ones: more than the radius changes nothing
# Of larger regions than this (pixels) a smaller picture is filled in: inpainting is smooth anyway, and slow.
LARGEST = 20_000
# Telea continues what runs into a hole, which is right near its border and makes streaks deep inside; there a smooth
# continuation takes over. Telea's share falls to a third in this share of the picture's shorter side.
DEPTH_SHARE = 1 / 32


def inpaint_unknown(frame: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Fill a single frame's UNKNOWN pixels from around them, after Telea (2004), and smoothly farther inside.

    Frame (H, W, 3) uint8, state (H, W) uint8 → (H, W, 3) uint8; all other pixels stay. A frame that is unknown
    everywhere stays as it is.
    """
    unknown = state == State.UNKNOWN
    if not unknown.any() or unknown.all():
        return frame
    top, bottom, left, right = _around(unknown)
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
    smooth = spread(part.astype(np.float32), (~hole).astype(np.float32))
    near = np.exp(-distance_to(~hole) / (DEPTH_SHARE * min(frame.shape[:2])))[..., None]
    out = frame.copy()
    out[top:bottom, left:right][hole] = np.rint(near * filled + (1 - near) * smooth).astype(np.uint8)[hole]
    return out


def fill_frames(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], motion: Motion
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fill the UNKNOWN pixels of all frames of a clip, steadily: see `SteadyFill`.

    Takes and yields (H, W, 3) uint8 with `State` (H, W) uint8; what was UNKNOWN is GENERATED then.
    """
    steady = SteadyFill(motion)
    for index, (frame, state) in enumerate(frames):
        filled = steady.fill(index, frame, state)
        yield filled, np.where(state == State.UNKNOWN, np.uint8(State.GENERATED), state)


class SteadyFill:
    """Fills frames one after the other; what is filled in once moves with the camera from then on."""

    def __init__(self, motion: Motion) -> None:
        self._motion = motion
        # Not rounded: small corrections would be lost in every frame anew, and colours would drift apart.
        self._before: tuple[int, np.ndarray] | None = None

    def fill(self, index: int, frame: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Frame `index` (H, W, 3) uint8 with its UNKNOWN pixels filled in; state is (H, W) uint8.

        Where the frame before was filled too, this one is filled from that, and inpainted only where that shows
        nothing.
        """
        unknown = state == State.UNKNOWN
        matrix = before = None
        if self._before is not None and self._before[0] == index - 1:
            before, matrix = self._before[1], self._motion.between(index, index - 1)
        if before is None or matrix is None or not unknown.any():
            filled = inpaint_unknown(frame, state)
            self._before = index, filled.astype(np.float32)
            return filled
        exact = _carry(before, matrix, frame, unknown)
        self._before = index, exact
        return np.where(unknown[..., None], np.clip(np.rint(exact), 0, 255).astype(np.uint8), frame)


def _carry(before: np.ndarray, matrix: np.ndarray, frame: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """A frame filled from the filled frame before it, both (H, W, 3) float32; what that does not show is inpainted."""
    out = frame.astype(np.float32)
    top, bottom, left, right = _around(unknown)
    part = np.s_[top:bottom, left:right]
    hole = unknown[part]
    if np.array_equal(matrix, np.eye(3)):
        moved, seen = before[part], np.ones_like(hole)
    else:
        from_box = matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
        size, flags = (right - left, bottom - top), cv2.WARP_INVERSE_MAP
        moved = _move(before, from_box, size)
        seen = cv2.warpPerspective(np.ones(before.shape[:2], np.uint8), from_box, size, flags=flags) > 0
    near = grow(hole, EDGE) & ~hole & seen
    carried = hole & seen
    out[part][carried] = join(moved, frame[part], hole, near)[carried]
    if not seen[hole].all():
        rest = np.full(unknown.shape, State.ORIGINAL, np.uint8)
        rest[part][hole & ~seen] = State.UNKNOWN
        inpainted = inpaint_unknown(np.clip(np.rint(out), 0, 255).astype(np.uint8), rest)
        out[rest == State.UNKNOWN] = inpainted[rest == State.UNKNOWN]
    return out


def _move(frame: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a frame (H, W, 3) float32 resampled, size (width, height), into the range of the pixels around.

    A cubic kernel overshoots, and what is carried on and on would sharpen itself into grain.
    """
    flags = cv2.WARP_INVERSE_MAP
    square = np.ones((3, 3), np.uint8)
    moved, low, high = (
        cv2.warpPerspective(picture, matrix, size, flags=kernel | flags, borderMode=cv2.BORDER_REPLICATE)
        for picture, kernel in (
            (frame, cv2.INTER_CUBIC),
            (cv2.erode(frame, square), cv2.INTER_NEAREST),
            (cv2.dilate(frame, square), cv2.INTER_NEAREST),
        )
    )
    return np.minimum(np.maximum(moved, low), high)


def _around(where: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the True pixels of (H, W) and some context."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return (
        max(0, int(rows[0]) - CONTEXT),
        min(where.shape[0], int(rows[-1]) + 1 + CONTEXT),
        max(0, int(columns[0]) - CONTEXT),
        min(where.shape[1], int(columns[-1]) + 1 + CONTEXT),
    )
