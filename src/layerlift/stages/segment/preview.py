"""Pictures of the objects that were found, in colour over the frames."""

from __future__ import annotations

import numpy as np

from layerlift.stages.effects.preview import COLOURS, TINT


def labelled(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 with its objects in colour, another one for each; `labels` (H, W) uint8."""
    colours = np.array([(0, 0, 0), *(strong for strong, _ in COLOURS)], np.float32)
    tint = colours[np.where(labels, 1 + (labels.astype(np.intp) - 1) % len(COLOURS), 0)]
    shown = np.where(labels[..., None] > 0, (1 - TINT) * frame + TINT * tint, frame)
    return np.rint(shown).astype(np.uint8)
