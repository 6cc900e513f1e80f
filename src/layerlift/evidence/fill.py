"""Without a model: what no frame shows is continued from what surrounds it."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.evidence.state import State

RADIUS = 5  # pixels that Telea's method looks around
CONTEXT = 16  # pixels kept around the unknown ones: more than the radius changes nothing


def inpaint_unknown(frame: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Fill the UNKNOWN pixels of a frame after Telea (2004); frame (H, W, 3) uint8, `State` (H, W) uint8 → as frame."""
    unknown = state == State.UNKNOWN
    if not unknown.any():
        return frame
    rows, columns = np.flatnonzero(unknown.any(1)), np.flatnonzero(unknown.any(0))
    part = np.s_[
        max(0, rows[0] - CONTEXT) : rows[-1] + 1 + CONTEXT, max(0, columns[0] - CONTEXT) : columns[-1] + 1 + CONTEXT
    ]
    filled = frame.copy()
    filled[part] = cv2.inpaint(
        np.ascontiguousarray(frame[part]), unknown[part].astype(np.uint8), RADIUS, cv2.INPAINT_TELEA
    )
    return filled
