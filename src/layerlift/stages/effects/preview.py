"""Pictures of what was found: objects, effects and scores over the frames."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.stages.effects import FrameEffects

# An object's colour and its effects': a saturated and a light one of the same hue, another pair for every object.
COLOURS = (
    ((255, 64, 64), (255, 190, 60)),
    ((64, 128, 255), (90, 235, 235)),
    ((200, 70, 255), (255, 150, 220)),
    ((60, 190, 90), (200, 240, 90)),
)
TINT = 0.55
GREY = 0.6  # how bright the frame stays beneath the score map
THUMBNAIL = 480  # pixels of width at most of a picture in a sheet


def preview_pair(frame: np.ndarray, found: FrameEffects, side: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures (H, W, 3) uint8 of a frame: objects and effects in colour over it, and the score map over it.

    `side` is the width and height of a score's cell in pixels of the frame.
    """
    masks = frame.astype(np.float32)
    for index, (own, total) in enumerate(zip(found.objects, found.totals, strict=True)):
        strong, light = COLOURS[index % len(COLOURS)]
        for where, colour in ((total & ~found.objects.any(0), light), (own, strong)):
            masks[where] = (1 - TINT) * masks[where] + TINT * np.asarray(colour, np.float32)
    return np.rint(masks).astype(np.uint8), heat(frame, found.scores.max(0), side)


def heat(frame: np.ndarray, scores: np.ndarray, side: tuple[float, float]) -> np.ndarray:
    """The greyed frame (H, W, 3) uint8 under its scores (h, w) in [0, 1], from transparent to glowing."""
    height, width = frame.shape[:2]
    # Cells may reach beyond the picture: to the picture's scale first, then cut.
    reach = (round(scores.shape[1] * side[0]), round(scores.shape[0] * side[1]))
    spread = cv2.resize(scores.astype(np.float32), reach, interpolation=cv2.INTER_LINEAR)[:height, :width, None]
    glow = cv2.applyColorMap((spread * 255).clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = np.repeat(frame.mean(-1, keepdims=True), 3, -1) * GREY
    return np.rint(grey * (1 - spread) + glow * spread).clip(0, 255).astype(np.uint8)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8, scaled down to a sheet's column if it is wider."""
    height, width = picture.shape[:2]
    if width <= THUMBNAIL:
        return picture
    size = (THUMBNAIL, max(1, round(height * THUMBNAIL / width)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
