"""What was found of effects, frame by frame, and drawing it at the clip's own pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.masks import Mask
from layerlift.pixels.arrays import distance_to, grow
from layerlift.pixels.effects import Decision, drawn

# Bytes of frames drawn at a time.
CHUNK_BYTES = 2**27


@dataclass(frozen=True, slots=True)
class FrameEffects:
    """One frame's result.

    Attributes:
        objects: (n, H, W) bool, as given.
        effects: (n, H, W) bool, what each object causes: outside of every object, and of one object each.
        totals: (n, H, W) bool, each object with its effects, grown by what was asked for.
        scores: (n, h, w) float32 in [0, 1]: how likely an effect is, of the model's cells or of the small picture on
            which the clip is looked at.
        attention: (n, h, w) float32 in [0, 1], of the model's cells; None without a model.
        strength: (n, h, w) float16 on the small picture: how opaque an effect is; None where the clip was not asked, as
            those that follow.
        change: (h, w) float16, levels of 255 by which the clip differs from what is gathered of other frames.
        known: (h, w) bool, where that can be trusted.
        kinds: (n, 5) float64, how many pixels of the small picture are effects, and of them shadow and the other kinds.
    """

    objects: np.ndarray
    effects: np.ndarray
    totals: np.ndarray
    scores: np.ndarray
    attention: np.ndarray | None = None
    strength: np.ndarray | None = None
    change: np.ndarray | None = None
    known: np.ndarray | None = None
    kinds: np.ndarray | None = None

    def pack(self) -> list[np.ndarray]:
        """All of it as arrays, one for each attribute; empty where there is none."""
        return [np.empty(0) if (value := getattr(self, at.name)) is None else value for at in fields(self)]

    @staticmethod
    def unpack(arrays: Sequence[np.ndarray]) -> FrameEffects:
        """What `pack` made arrays of."""
        return FrameEffects(*arrays[:4], *(array if array.size else None for array in arrays[4:]))

    def soft(self) -> np.ndarray:
        """How much of each object or its effects there is at a pixel: (n, H, W) float32 in [0, 1].

        1 on objects. What only a model found is 1 as well: it tells no strength.
        """
        totals = self.totals.astype(np.float32)
        if self.strength is None:
            return totals
        size = totals.shape[:0:-1]
        soft = np.stack(
            [cv2.resize(own.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for own in self.strength]
        )
        return np.where(self.objects, 1, totals * np.clip(soft, 1 / 255, 1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Effects:
    """A clip's result in memory; n objects.

    Attributes:
        total: all objects with their effects.
        totals: each object with its effects.
        effects: (n, F, H, W) bool, see `FrameEffects`.
        scores: (n, F, h, w) float32 in [0, 1], see `FrameEffects`.
        kinds: what each object causes most of: "shadow", "reflection", "light", "smoke", "none", or "unknown" for what
            only the user or a model found; empty where only the model was asked.
    """

    total: Mask
    totals: tuple[Mask, ...]
    effects: np.ndarray
    scores: np.ndarray
    kinds: tuple[str, ...]


def with_painted(objects: np.ndarray, effects: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """Effects (n, H, W) bool with those that are painted (H, W) bool; they are those of the nearest object."""
    new = painted & ~objects.any(0) & ~effects.any(0)
    if not new.any():
        return effects
    away = [distance_to(own)[new].min() if own.any() else np.inf for own in objects | effects]
    out = effects.copy()
    out[int(np.argmin(away))] |= new
    return out


def draw_chunks(
    clip: Clip,
    masks: Sequence[Mask],
    scores: np.ndarray,
    start: int,
    decision: Decision,
    *,
    side: tuple[float, float],
    device: str,
    begin: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read frames from `start` on; for every frame objects and effects, (n, H, W) bool each. Draws a few at a time.

    Scores (n, F, h, w) float32 are those of the cells that were kept, whose `side` is (width, height) in pixels. Frames
    before `begin` are left out.
    """
    stop = start + scores.shape[1]
    length = max(1, CHUNK_BYTES // (clip.width * clip.height * (3 + 2 * len(masks))))
    # Whole chunks alone are left out: which frames are drawn together stays the same.
    whole = max(0, begin - start) // length * length
    made = _drawn_from(clip, masks, scores, start + whole, stop, length, decision, side=side, device=device)
    yield from islice(made, max(0, begin - start - whole), None)


def _drawn_from(
    clip: Clip,
    masks: Sequence[Mask],
    scores: np.ndarray,
    start: int,
    stop: int,
    length: int,
    decision: Decision,
    *,
    side: tuple[float, float],
    device: str,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames start … stop - 1, `length` at a time, by the last of the scores."""
    reading = zip(clip.frames(start, stop), *(given.frames(start, stop) for given in masks), strict=True)
    for first in range(scores.shape[1] - (stop - start), scores.shape[1], length):
        items = list(islice(reading, length))
        frames = np.stack([frame for frame, *_ in items])
        objects = np.stack([np.stack(own) for _, *own in items], 1)  # (n, F, H, W)
        effects = drawn(frames, objects, scores[:, first : first + len(items)], decision, side=side, device=device)
        yield from zip(objects.swapaxes(0, 1), effects.swapaxes(0, 1), strict=True)


def with_effects(objects: np.ndarray, effects: np.ndarray, dilate: int) -> np.ndarray:
    """Each object with its effects, grown, but never over another object: (n, H, W) bool."""
    if dilate == 0:
        return objects | effects  # no effect lies on an object
    totals = np.stack([grow(total, dilate) for total in objects | effects])
    others = objects.sum(0, dtype=np.uint8) > objects  # (n, H, W)
    return objects | (totals & ~others)
