"""How a segmenter of single frames is asked about a frame in which an object is expected somewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from layerlift.pixels.arrays import bounds
from layerlift.progress import Cancellation
from layerlift.stages.segment.base import Embedding, Prediction, Prompts

# Points inside an object that a segmenter is shown, and points inside other objects in its box.
INSIDE, OUTSIDE = 2, 2
# A point lies so many pixels from the edge, at least: nearer, it might lie on either side.
CLEARANCE = 1.5
# A second answer whose score falls by more than this is worse than the first.
COLLAPSED = 0.1


class Predicts(Protocol):
    """What predicts masks in a frame that was looked at."""

    def predict(
        self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None
    ) -> Prediction: ...


def asked_of_user(
    segmenter: Predicts, embedding: Embedding, said: Prompts, cancellation: Cancellation | None = None
) -> Prediction:
    """The answer to what the user says of a frame; it is asked twice, the second time with the first answer's mask.

    The second is mostly better, but may collapse where a box cuts its object; then the first stands.
    Raises CancelledError as `Segmenter.predict`.
    """
    first = segmenter.predict(embedding, said, cancellation)
    second = segmenter.predict(embedding, replace(said, logits=first.masks[first.best]), cancellation)
    return first if first.scores[first.best] > second.scores[second.best] + COLLAPSED else second


def without(said: Prompts, others: Sequence[np.ndarray]) -> Prompts:
    """What is said of an object, and that points in the middle of others, (H, W) bool each, are not the object's."""
    points = [point for other in others for point in middles(other, OUTSIDE)]
    return replace(
        said,
        points=np.vstack([said.points, np.array(points, np.float32).reshape(-1, 2)]),
        inside=np.concatenate([said.inside, np.zeros(len(points), np.bool_)]),
    )


def asked_again(
    segmenter: Predicts, embedding: Embedding, expected: np.ndarray, others: np.ndarray, said: Prompts | None = None
) -> Prediction:
    """All masks of two questions: the expected mask's box and points; then also the best mask of the first answer.

    `expected` (h, w) float32 in [0, 1] and `others` (h, w) bool, what belongs to other objects, are at the working
    size; `said` is what the user says of this frame.
    """
    prompts = prompts_of(expected, others, embedding.size, said)
    first = segmenter.predict(embedding, prompts)
    second = segmenter.predict(embedding, replace(prompts, logits=first.masks[first.best]))
    masks = np.concatenate([first.masks, second.masks])
    return Prediction(masks, np.concatenate([first.scores, second.scores]), first.best, embedding.size)


def prompts_of(expected: np.ndarray, others: np.ndarray, size: tuple[int, int], said: Prompts | None = None) -> Prompts:
    """The box of an expected mask, points in its middle, and points that belong to `others`, in pixels of the frame.

    What the user said of the frame is added. Raises ValueError for a mask without a pixel.
    """
    mask = expected > 0.5
    box = bounds(mask)
    if box is None:
        raise ValueError("nothing is expected anywhere")
    left, top, right, bottom = box
    near = np.zeros_like(others)
    near[top:bottom, left:right] = others[top:bottom, left:right]
    inner, outer = middles(mask, INSIDE), middles(near & ~mask, OUTSIDE)
    scale = max(size) / max(mask.shape)
    points = (np.array([*inner, *outer], np.float32).reshape(-1, 2) + 0.5) * scale - 0.5
    inside = np.arange(len(points)) < len(inner)
    if said is not None:
        points, inside = np.vstack([said.points, points]), np.concatenate([said.inside, inside])
        scaled = np.array(box) * scale
        for x, y in said.points[said.inside]:  # it is the object's, so the box has to reach there
            scaled[:2], scaled[2:] = np.minimum(scaled[:2], (x, y)), np.maximum(scaled[2:], (x + 1, y + 1))
        return Prompts(points, inside, (scaled[0], scaled[1], scaled[2], scaled[3]))
    return Prompts(points, inside, (left * scale, top * scale, right * scale, bottom * scale))


def middles(mask: np.ndarray, count: int) -> list[tuple[int, int]]:
    """At most `count` pixels (x, y) deep inside a mask (h, w) bool and far from each other, the deepest first."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    found = list[tuple[int, int]]()
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    for _ in range(count):
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        deep = depth[row, column]
        if deep < CLEARANCE:
            break
        found.append((int(column), int(row)))
        depth[(y - row) ** 2 + (x - column) ** 2 < (2 * deep) ** 2] = 0
    return found
