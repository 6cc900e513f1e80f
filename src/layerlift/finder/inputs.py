"""What the finder's network is given: a frame, its object, and what they differ by from the plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.finder.stir import Stir
from layerlift.finder.travel import Place, Travelling, average, brought, places

# Channels by what they hold; all lie in [-1, 1].
CHANNELS = (
    *("frame",) * 3,
    "object",
    "others",
    *("change",) * 3,
    "known",
    *("travelling",) * 3,
    "travelling size",
    "steady",
    "seen",
    *("stir",) * 2,
    *("travelling stir",) * 2,
    "x",
    "y",
    *("mirror",) * 3,
    "mirrored",
)
# Levels of 255 that stand for 1: of changes, and of how the mirrored object differs from what is there.
CHANGE, MIRROR = 48.0, 128.0
# Pixels around objects that belong to their edges.
EDGE = 1
# What moves by less than so many of its units is never seen without what it causes.
MOVES = 0.35


@dataclass(frozen=True, slots=True)
class Looked:
    """What F frames and n objects are looked at with.

    Attributes:
        frames, plate: (F, H, W, 3) uint8.
        objects: (n, F, H, W) bool.
        known: (F, H, W) bool, where the plate is to be trusted.
        stir: how much the frames stir.
    """

    frames: np.ndarray
    objects: np.ndarray
    plate: np.ndarray
    known: np.ndarray
    stir: Stir


@dataclass(frozen=True, slots=True)
class Averages:
    """What is known of one object from all frames: where it is, what travels with it, and whether it moves."""

    where: list[Place | None]
    travelling: Travelling
    stirring: Travelling
    moves: bool


def averages_of(looked: Looked, number: int) -> Averages:
    """What all frames tell of one object."""
    where = places(looked.objects[number])
    changes = (change_of(frame, clean) for frame, clean in zip(looked.frames, looked.plate, strict=True))
    hidden = np.asarray(looked.objects.any(0))
    weights = (weight_of(sure, there) for sure, there in zip(looked.known, hidden, strict=True))
    moves = way_of(where, looked.stir.motion) >= MOVES
    return Averages(where, average(changes, weights, where), stirring(looked, where), moves)


def way_of(where: list[Place | None], motion: Motion) -> float:
    """How far an object gets over its ground within a shot, in its own units: a camera may go along with it."""
    ways = [0.0]
    for shot in set(motion.shots):
        ground, units = [], []
        for place, pose, own in zip(where, motion.poses, motion.shots, strict=True):
            if own == shot and place is not None:
                x, y, scale = pose @ (place.x, place.y, 1)
                ground.append((x / scale, y / scale))
                units.append(place.unit)
        if ground:
            ways.append(float(np.ptp(ground, 0).max()) / float(np.median(units)))
    return max(ways)


def stirring(looked: Looked, where: list[Place | None]) -> Travelling:
    """How much what travels with an object stirs; the average has a third channel, of nothing."""
    levels = (np.pad(own.astype(np.float32), ((0, 0), (0, 0), (0, 1))) for own in looked.stir.levels)
    return average(levels, (both.all(-1).astype(np.float32) for both in looked.stir.known), where)


def change_of(frame: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """By how much a frame differs from its plate, (H, W, 3) uint8 → float32 levels; extremes are cut."""
    return np.clip(frame.astype(np.float32) - clean, -2 * CHANGE, 2 * CHANGE)


def weight_of(sure: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """1 where the plate is known (H, W) bool and no object is near (H, W) bool: (H, W) float32."""
    square = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    return (sure & ~(cv2.dilate(hidden.astype(np.uint8), square) > 0)).astype(np.float32)


def channels(looked: Looked, number: int, chosen: Sequence[int], averages: Averages) -> np.ndarray:
    """The network's input for object `number`, of the B frames `chosen`: (B, H, W, C) float32."""
    frames, objects = looked.frames, looked.objects
    height, width = objects.shape[2:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    out = np.zeros((len(chosen), height, width, len(CHANNELS)), np.float32)
    for target, index in zip(out, chosen, strict=True):
        frame, mask, hidden = frames[index], objects[number, index], np.asarray(objects[:, index].any(0))
        target[..., :3] = frame / 127.5 - 1
        target[..., 3], target[..., 4] = mask, hidden & ~mask
        target[..., 5:8] = np.where(hidden[..., None], 0, change_of(frame, looked.plate[index]) / CHANGE)
        target[..., 8] = weight_of(looked.known[index], hidden)
        if not averages.moves:
            # The plate is a fill where it is not known, for all of the clip: it would be taken for smoke or shadow.
            target[..., 5:8] *= target[..., 8:9]
        target[..., 15:17] = looked.stir.levels[index] / CHANGE
        place = averages.where[index]
        if place is None:
            continue
        travelling = brought(averages.travelling, place, (width, height))
        target[..., 9:13] = travelling[..., :4] / CHANGE
        target[..., 13:15] = travelling[..., 4:]
        target[..., 17:19] = brought(averages.stirring, place, (width, height))[..., :2] / CHANGE
        target[..., 19] = np.tanh((columns - place.x) / (1.5 * place.unit))
        target[..., 20] = np.tanh((rows - place.y) / (1.5 * place.unit))
        mirrored, shown = mirror(frame, mask, place)
        target[..., 21:24] = np.where(shown[..., None], (mirrored - frame.astype(np.float32)) / MIRROR, 0)
        target[..., 24] = shown
    return np.clip(out, -1, 1)


def mirror(frame: np.ndarray, mask: np.ndarray, place: Place, gap: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """The object upside down, `gap` pixels below the row it stands on: like the frame given, and where, (H, W) bool."""
    height = len(mask)
    source = np.rint(2 * place.foot + gap - np.arange(height)).astype(int)
    inside = (source >= 0) & (source < height) & (source < place.foot)
    taken = np.clip(source, 0, height - 1)
    return frame[taken], mask[taken] & inside[:, None] & ~mask
