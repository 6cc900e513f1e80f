"""Dense flow between frames of the working size, followed over several of them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from layerlift.evidence.links import dense_flow, places


def flow_between(grey: Callable[[int], np.ndarray], target: int, source: int) -> np.ndarray:
    """The flow (h, w, 2) float32 that leads from pixels of frame `target` to the same things in frame `source`.

    `grey` gives a frame's picture (h, w) uint8. Steps from frame to frame are joined, so that what is taken along the
    whole way is sampled only once.
    """
    step = 1 if source > target else -1
    whole: np.ndarray | None = None
    ours = grey(target)
    for index in range(target + step, source + step, step):
        theirs = grey(index)
        part = dense_flow(ours, theirs)
        whole = part if whole is None else whole + cv2.remap(part, places(whole), None, cv2.INTER_LINEAR,
                                                             borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
        ours = theirs
    return np.zeros((*ours.shape, 2), np.float32) if whole is None else whole


def carried(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What lies where flow leads, (h, w) float32; nothing comes from beyond the frame."""
    return cv2.remap(values, places(flow), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
