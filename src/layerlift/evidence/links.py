"""Dense motion from a frame to another one of its shot, and how well it explains what both show."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.pixels.arrays import bounds, spread

# Weight of the smoothness term of the variational refinement, as OpenCV has it: its default.
SMOOTHNESS = 20.0
# Flow this near to what is hidden, in pixels, may be that of the inpainting.
MARGIN = 6
# Errors are looked at after this blur, in pixels; a mean over less than this share of it says nothing.
BLUR = 2.0
LEAST_SHARE = 0.2


# Motion is looked for in a box around what is hidden and so many pixels about it.
CONTEXT = 40

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Link:
    """From the box of one frame to another frame.

    Attributes:
        box: left, top, right and bottom of the part of the frame.
        flow: (h, w, 2) float32, by how many pixels (x, y) the other frame shows the same elsewhere.
        error: (h, w) float32, levels of 255: by how much the two differ there, continued under what is hidden.
    """

    box: Box
    flow: np.ndarray
    error: np.ndarray


def box_around(hidden: np.ndarray) -> Box:
    """The part of a frame that motion is looked for in; `hidden` (h, w) bool holds something."""
    spot = bounds(hidden)
    assert spot is not None
    left, top, right, bottom = spot
    height, width = hidden.shape
    return max(0, left - CONTEXT), max(0, top - CONTEXT), min(width, right + CONTEXT), min(height, bottom + CONTEXT)


def cropped(picture: np.ndarray, box: Box, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The box of a picture (h, w) or (h, w, C), moved by x and y; beyond the picture its edge repeats."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(picture[top:bottom, left:right])
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return np.ascontiguousarray(picture[rows[:, None], columns])


def dense_flow(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Optical flow of two grey pictures (h, w) uint8 → (h, w, 2) float32 (DIS: Kroeger et al. 2016)."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setVariationalRefinementAlpha(SMOOTHNESS)
    return search.calc(ours, theirs, None)


def complete_flow(flow: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Flow (h, w, 2) continued smoothly under what is hidden in either frame, (h, w) bool each."""
    square = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    near, far = (cv2.dilate(hidden.view(np.uint8), square) for hidden in (ours, theirs))
    lands = cv2.remap(far, places(flow), None, cv2.INTER_NEAREST, borderValue=0)
    return spread(flow, 1 - np.maximum(near, lands).astype(np.float32))


def places(flow: np.ndarray) -> np.ndarray:
    """Where flow (h, w, 2) leads: (h, w, 2) float32 of x and y."""
    height, width = flow.shape[:2]
    to = flow.copy()
    to[..., 0] += np.arange(width, dtype=np.float32)
    to[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return to


def link_error(
    flow: np.ndarray, ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """By how much two pictures differ along a flow where both are seen, blurred, and spread elsewhere: (h, w) float32.

    `ours` and `theirs` are pictures (h, w, 3) uint8 with what is hidden, (h, w) bool.
    """
    to = places(flow)
    clear = np.where(theirs[1], np.uint8(0), np.uint8(255))
    shown = cv2.remap(clear, to, None, cv2.INTER_LINEAR, borderValue=0) == 255
    shown &= ~ours[1]
    moved = cv2.remap(theirs[0], to, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart = cv2.transform(cv2.absdiff(moved, ours[0]).astype(np.float32), np.full((1, 3), 1 / 3, np.float32))
    weight = shown.astype(np.float32)
    mass = cv2.GaussianBlur(weight, (0, 0), BLUR)
    error = cv2.GaussianBlur(apart * weight, (0, 0), BLUR) / np.maximum(mass, LEAST_SHARE)
    return spread(error[..., None], (mass > LEAST_SHARE).astype(np.float32))[..., 0]
