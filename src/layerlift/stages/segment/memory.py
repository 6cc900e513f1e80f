"""What an object looked like: parts of a frame are compared with those of frames in which the object is known.

After the label propagation of self-supervised features (Jabri et al., *Space-Time Correspondence as a Contrastive
Random Walk*, 2020), here with the segmenter's own embeddings. It is coarse, but does not drift as flow does.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

# How fast the weight of another frame's cell falls with unlikeness (a cosine).
UNLIKE = 0.02
# A share of a cell below this is nothing of the object.
FAINT = 0.05
# Frames that were found last, besides those that the user touched.
RECENT = 4
# Cells that things move, at most: since a recent frame, and since a touched one, which may be long ago.
NEAR, FAR = 6, 16


class Memory:
    """Of one object. Cells are (h, w, C) float32 of unit length, shares (h, w) how much of each the object covers."""

    def __init__(self) -> None:
        self._known: list[tuple[np.ndarray, np.ndarray]] = []
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=RECENT)

    def __bool__(self) -> bool:
        return bool(self._known)

    def learn(self, cells: np.ndarray, share: np.ndarray, *, known: bool) -> None:
        """Remember a frame; one that is `known` for good."""
        (self._known if known else self._recent).append((cells, share))

    def look(self, cells: np.ndarray, *, anywhere: bool = False) -> np.ndarray:
        """How likely each cell of a frame is the object's, (h, w) float32 in [0, 1].

        `anywhere`: it may have moved any way, as after a cut.
        """
        height, width, depth = cells.shape
        out = np.zeros(height * width, np.float32)
        frames = [(*frame, FAR) for frame in self._known] + [(*frame, NEAR) for frame in self._recent]
        asked = np.arange(height * width)
        if not anywhere:
            reached = [cv2.dilate(share, np.ones((2 * reach + 1,) * 2)) for _, share, reach in frames]
            asked = np.flatnonzero(np.maximum.reduce(reached) > FAINT)
        if not len(asked):
            return out.reshape(height, width)
        y, x = np.divmod(np.arange(height * width), width)
        away = np.maximum(np.abs(y[asked, None] - y), np.abs(x[asked, None] - x))
        alike, shares = [], []
        for theirs, share, reach in frames:
            likeness = cells.reshape(-1, depth)[asked] @ theirs.reshape(-1, depth).T
            if not anywhere:
                likeness[away > reach] = -1
            alike.append(likeness)
            shares.append(share.ravel())
        weights = np.concatenate(alike, 1)
        weights -= weights.max(1, keepdims=True)
        np.exp(weights / np.float32(UNLIKE), out=weights)
        out[asked] = (weights @ np.concatenate(shares)) / weights.sum(1)
        return out.reshape(height, width)
