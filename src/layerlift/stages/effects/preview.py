"""Pictures of what was found: objects, effects and scores over the frames."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.pixels.effects import cell_side
from layerlift.stages.effects.plan import EffectPlan
from layerlift.stages.effects.result import FrameEffects

# An object's colour and its effects': a saturated and a light one of the same hue, another pair for every object.
COLOURS = (
    ((255, 64, 64), (255, 190, 60)),
    ((64, 128, 255), (90, 235, 235)),
    ((200, 70, 255), (255, 150, 220)),
    ((60, 190, 90), (200, 240, 90)),
)
TINT = 0.55
GREY = 0.6  # how bright the frame stays beneath the score map
CHANGE = 48.0  # levels of 255 that glow most
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


def witness_pictures(frame: np.ndarray, found: FrameEffects, plan: EffectPlan) -> dict[str, np.ndarray]:
    """What each witness says of a frame, by its name: pictures (H, W, 3) uint8 over the frame, the decision last."""
    pictures = {"input": frame}
    if found.change is not None and found.known is not None and found.strength is not None:
        side = frame.shape[1] / found.change.shape[1], frame.shape[0] / found.change.shape[0]
        differs = np.where(found.known, np.clip(found.change.astype(np.float32) / CHANGE, 0, 1), 0)
        pictures["seen in other frames"] = heat(frame, 0.5 * found.known.astype(np.float32), side)
        pictures["differs from them"] = heat(frame, differs, side)
        pictures["opaque"] = heat(frame, found.strength.astype(np.float32).max(0), side)
    if plan.attention is not None and found.attention is not None:
        cells = cell_side(plan.attention.fit, plan.attention.model.geometry)
        pictures["the model's scores"] = heat(frame, found.attention.max(0), cells)
    pictures["likely an effect"] = heat(frame, found.scores.max(0), plan.side)
    pictures["decided"] = preview_pair(frame, found, plan.side)[0]
    return pictures


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
