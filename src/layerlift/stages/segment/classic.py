"""A segmenter without any weights: GrabCut, which tells an object from what surrounds it by their colours.

After Rother, Kolmogorov & Blake, *GrabCut* (2004): two mixtures of colours, and a cut where neighbours differ most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.motion import WORKING_SIDE
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.pixels.arrays import grow
from layerlift.progress import QUIET, Cancellation, Progress
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target, onto_grid
from layerlift.stages.segment.track import track

ROUNDS = 5  # of GrabCut
# Shares of the picture's longer side: what is surely the object around a click, and where an expected edge may lie.
CLICKED, UNSURE = 0.012, 0.03
# Deviations of colour, as seen around a click, within which what is connected to it may be the object.
ALIKE = 3.0
# Levels of 255 by which any surface varies.
UNEVEN = 8.0
# Colour models need so many pixels on either side.
LEAST = 16
LOGIT = 6.0  # of what GrabCut decided, which has no degrees: 0.25% of a doubt


class ClassicSegmenter:
    """Asks GrabCut about single frames, and follows objects between them along dense flow."""

    name = "classic"

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding:
        """See `Segmenter`. What is kept is the frame at the working size, (h, w, 3) uint8."""
        if cancellation is not None:
            cancellation.check()
        height, width = frame.shape[:2]
        scale = min(1.0, WORKING_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return self.restored(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), (width, height))

    def restored(self, content: np.ndarray, size: tuple[int, int]) -> Embedding:
        """See `PerImage`."""
        return Embedding(content, size)

    def predict(self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None) -> Prediction:
        """See `Segmenter`. There is one mask."""
        if cancellation is not None:
            cancellation.check()
        picture = embedding.content
        scale = max(picture.shape[:2]) / max(embedding.size)
        kinds = first_guess(picture, prompts, scale)
        for (x, y), inside in zip(prompts.points, prompts.inside, strict=True):
            place = (round(float(x) * scale), round(float(y) * scale))
            radius = max(1, round(CLICKED * max(picture.shape[:2])))
            cv2.circle(kinds, place, radius, cv2.GC_FGD if inside else cv2.GC_BGD, -1)
        return answer(grabbed(picture, kinds, prompts, scale), embedding.size)

    def again(
        self, embedding: Embedding, expected: np.ndarray, others: np.ndarray, said: Prompts | None = None
    ) -> Prediction:
        """See `PerImage`."""
        shape = embedding.content.shape[:2]
        prompts = said or Prompts()
        hidden = onto_grid(others.astype(np.float32), shape) > 0.5
        share = np.where(hidden, 0, onto_grid(expected, shape)).astype(np.float32)
        logits = np.log(share.clip(1e-4, 1 - 1e-4) / (1 - share.clip(1e-4, 1 - 1e-4)))
        return self.predict(embedding, Prompts(prompts.points, prompts.inside, None, logits))

    def track(
        self,
        clip: Clip,
        targets: Sequence[Target],
        progress: Progress = QUIET,
        keeper: Keeper = TEMPORARY,
        start: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Segmenter`."""
        return track(self, clip, targets, progress, keeper, start)


def first_guess(picture: np.ndarray, prompts: Prompts, scale: float) -> np.ndarray:
    """What each pixel (h, w) is for GrabCut before it looks: surely or probably the object, or not."""
    height, width = picture.shape[:2]
    if prompts.logits is not None:
        mask = onto_grid(prompts.logits, (height, width)) > 0
        reach = max(2.0, UNSURE * max(height, width))
        kinds = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        kinds[~grow(mask, reach)] = cv2.GC_BGD
        kinds[~grow(~mask, reach)] = cv2.GC_FGD
        return kinds
    if prompts.box is not None:
        left, top, right, bottom = (round(side * scale) for side in prompts.box)
        kinds = np.full((height, width), cv2.GC_BGD, np.uint8)
        kinds[max(0, top) : max(top + 1, bottom), max(0, left) : max(left + 1, right)] = cv2.GC_PR_FGD
        return kinds
    return np.where(like_clicked(picture, prompts, scale), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)


def like_clicked(picture: np.ndarray, prompts: Prompts, scale: float) -> np.ndarray:
    """What is connected to the clicks inside and has the colours around them, (h, w) bool."""
    height, width = picture.shape[:2]
    seeds = np.zeros((height, width), np.uint8)
    radius = max(2, round(CLICKED * max(height, width)))
    for x, y in prompts.points[prompts.inside]:
        cv2.circle(seeds, (round(float(x) * scale), round(float(y) * scale)), radius, 1, -1)
    colours = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = colours[seeds > 0]
    alike = (np.abs(colours - inside.mean(0)) < ALIKE * inside.std(0) + UNEVEN).all(-1)
    _, parts = cv2.connectedComponents((alike | (seeds > 0)).astype(np.uint8))
    return np.isin(parts, np.unique(parts[seeds > 0]))


def grabbed(picture: np.ndarray, kinds: np.ndarray, prompts: Prompts, scale: float) -> np.ndarray:
    """The mask (h, w) bool that GrabCut makes of its first guess, without what is not connected to a click."""
    inside = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if inside.sum() >= LEAST and (~inside).sum() >= LEAST:
        cv2.setRNGSeed(0)  # its mixtures begin at random
        models = np.zeros((1, 65)), np.zeros((1, 65))
        kinds, *_ = cv2.grabCut(picture, kinds.copy(), None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        inside = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if prompts.inside.any() and prompts.logits is None:
        _, parts = cv2.connectedComponents(inside.astype(np.uint8))
        places = np.rint(prompts.points[prompts.inside] * scale).astype(int)
        height, width = inside.shape
        hit = {parts[min(y, height - 1), min(x, width - 1)] for x, y in places} - {0}
        inside = np.isin(parts, list(hit))
    return inside


def answer(mask: np.ndarray, size: tuple[int, int]) -> Prediction:
    """A mask (h, w) bool as a prediction."""
    logits = np.where(mask, np.float32(LOGIT), np.float32(-LOGIT))
    return Prediction(logits[None], np.ones(1, np.float32), 0, size)
