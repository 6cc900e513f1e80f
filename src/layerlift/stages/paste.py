"""Paste-back: generated pixels inside the mask, the clip's own everywhere else, and no seam between them."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.pixels import distance_to, spread

# Colours are compared in a ring around the mask this wide, as a share of the picture's shorter side.
RING_SHARE = 1 / 24
# The comparison is made this many times smaller: a VAE's errors of detail average out, its errors of colour stay.
RING_SCALE = 8
# How much of the colour difference seen so far is kept for the next frame: single frames' errors would flicker.
RING_MEMORY = 0.8
# Beyond this many levels of 255 a difference is content the model got wrong, not colour, and moves nothing further.
RING_LIMIT = 24.0


def feather_alpha(mask: np.ndarray, feather: float) -> np.ndarray:
    """How much of the generated picture is shown: 0 outside `mask`, rising to 1 within `feather` pixels inside it.

    Mask (H, W) bool → (H, W) float32. The picture's own border is no seam, so nothing fades there.
    """
    return np.minimum(distance_to(~mask) / max(feather, 1.0), 1.0)


class ColorMatch:
    """Moves a generated clip's colours to the clip's own, by what differs in a ring around the mask.

    The difference is spread smoothly over the picture and averaged over time, so it takes frames in order; detail is
    not touched. After a frame without a mask it starts afresh.
    """

    def __init__(self) -> None:
        self._difference: np.ndarray | None = None
        self._weight: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the frames seen so far."""
        self._difference = self._weight = None

    def __call__(self, generated: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Generated (H, W, 3) float32, the clip's frame (H, W, 3) uint8, mask (H, W) bool → generated, matched."""
        height, width = mask.shape
        ring = ~mask & (distance_to(mask) <= max(RING_SCALE, RING_SHARE * min(height, width)))
        small = max(1, width // RING_SCALE), max(1, height // RING_SCALE)
        known = np.clip(frame - generated, -RING_LIMIT, RING_LIMIT) * ring[..., None]
        difference = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(ring.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        if self._difference is not None and self._weight is not None:
            difference = difference + RING_MEMORY * self._difference
            weight = weight + RING_MEMORY * self._weight
        self._difference, self._weight = difference, weight

        mean = difference / np.maximum(weight, np.finfo(np.float32).tiny)[..., None]
        smooth = cv2.GaussianBlur(spread(mean, (weight > 0).astype(np.float32)), (0, 0), sigmaX=1.5)
        return generated + cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)


def paste(frame: np.ndarray, generated: np.ndarray, mask: np.ndarray, feather: float) -> np.ndarray:
    """Lay generated pixels over a frame of the clip; beyond `mask` every pixel stays the frame's, bit for bit.

    Frame (H, W, 3) uint8, generated (H, W, 3) float32 in 0 … 255, mask (H, W) bool → (H, W, 3) uint8.
    """
    alpha = feather_alpha(mask, feather)[..., None]
    blended = np.clip(np.rint(alpha * generated + (1 - alpha) * frame), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], blended, frame)
