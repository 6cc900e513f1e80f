"""Masks at keyframes become masks of every frame, with the edges of the full picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np

from layerlift.pixels.edges import with_edges
from layerlift.stages.segment.base import Target
from layerlift.stages.segment.flow import carried, flow_between

# The filter that finds edges reaches so many cells of the segmenter's masks (256 across the longer side).
EDGE_REACH = 2 / 256


def between(
    keys: Sequence[int], settled: Iterable[np.ndarray], grey: Callable[[int], np.ndarray], start: int = 0
) -> Iterator[np.ndarray]:
    """The masks, (n, h, w) float32 in [0, 1], of every frame from `start` on, from those `settled` at keyframes; `grey`
    gives frames.

    No cut lies between two keyframes: a shot's first and last frames are some.
    """
    settled = iter(settled)
    now = next(settled)
    if keys[0] >= start:
        yield now
    for (first, last), later in zip(pairwise(keys), settled, strict=True):
        for index in range(max(first + 1, start), last):
            weight = (index - first) / (last - first)
            frames = [
                np.stack([carried(mask, flow) for mask in masks])
                for key, masks in ((first, now), (last, later))
                for flow in [flow_between(grey, index, key)]
            ]
            yield np.stack([blended(pair[0], pair[1], weight) for pair in zip(*frames, strict=True)])
        now = later
        if last >= start:
            yield now


def at_key(targets: Sequence[Target], key: int, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """A keyframe's masks, (n, h, w) float32 in [0, 1], from those found forward and backward, (n, h, w) uint8.

    Between two frames in which something was said of a target, each counts by how near its own is.
    """
    out = np.empty(forward.shape, np.float32)
    for number, target in enumerate(targets):
        earlier = [index for index in target.touched if index <= key]
        later = [index for index in target.touched if index >= key]
        weight = 0.0 if earlier else 1.0
        if earlier and later and earlier[-1] != later[0]:
            weight = (key - earlier[-1]) / (later[0] - earlier[-1])
        ways = forward[number].astype(np.float32) / 255, backward[number].astype(np.float32) / 255
        out[number] = blended(*ways, weight)
    return out


def blended(earlier: np.ndarray, later: np.ndarray, weight: float) -> np.ndarray:
    """A mask between two, each (h, w) float32 in [0, 1]; one that is empty in either is that of the nearer."""
    if weight in (0, 1) or (earlier > 0.5).any() != (later > 0.5).any():
        return later if weight > 0.5 else earlier
    return (1 - weight) * earlier + np.float32(weight) * later


def labels_of(frame: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The labels (H, W) uint8 of a frame (H, W, 3) uint8 from its masks (n, h, w) float32 at the working size."""
    height, width = frame.shape[:2]
    full = np.stack([cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR) for share in shares])
    full = with_edges(frame, full, EDGE_REACH * max(height, width))
    labels = 1 + full.argmax(0).astype(np.uint8)
    return np.where(full.max(0) > 0.5, labels, np.uint8(0))
