"""Samples to train on: composites with the plates that evidence gathers of them, as the finder sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

from finder_training import rendered
from finder_training.composites import EVEN, KINDS, SIZE, Chances, Composite, Rng, composite, filmed
from layerlift.finder.inputs import Looked, averages_of, channels
from layerlift.finder.plate import first_look, gather_plate, joined, second_look
from layerlift.finder.stir import stir_of
from layerlift.finder.travel import places
from layerlift.scenes import make_scene

FRAMES = (14, 28)  # of a clip, from and to
SAMPLES = 7  # frames of it that are kept
IGNORED = 255
# What a rendered clip shows farther from its object than so many of its units, or in fewer pixels, is not judged.
FAR, FEW = 0.8, 40
DRAWN, DRAWN_FRAMES = 0.1, (14, 22)  # the share of procedural scenes, and their frames


# Input (C, H, W), kinds (H, W) and strength (H, W), uint8 each.
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Plates:
    """What evidence gathered of a composite: plates (F, H, W, 3) uint8, and where they are known, (F, H, W) bool."""

    plate: np.ndarray
    known: np.ndarray


def gathered(clip: Composite, rng: Rng) -> Plates:
    """Plates as the finder sees them.

    Two in five clips are looked at once, the others twice, the second time around what a finder that errs would have
    found.
    """
    objects = clip.objects
    looked = first_look(objects, rng.uniform(0.45, 0.85))
    plate, known = gather_plate(clip.video, looked)
    known &= looked
    if rng.random() < 0.6:
        again = second_look(objects, guessed((clip.kinds > 0) & (clip.kinds != IGNORED), rng) & ~objects.any(0))
        second = gather_plate(clip.video, again)
        plate, known = joined((plate, known), (second[0], second[1] & again), again)
    return Plates(plate, known)


def samples_of(clip: Composite, plates: Plates, rng: Rng, most: int = SAMPLES) -> list[Sample]:
    """(input (C, H, W) uint8, kinds (H, W) uint8, strength (H, W) uint8) of a few frames for each object.

    Inputs of [-1, 1] are kept as 1 to 255.
    """
    objects, count = clip.objects, clip.objects.shape[1]
    looked = Looked(clip.video, objects, plates.plate, plates.known, stir_of(clip.video, np.asarray(objects.any(0))))
    chosen = sorted(rng.choice(count, min(most, count), replace=False).tolist())
    out = []
    for number in range(len(objects)):
        if not objects[number].any():
            continue
        inputs = channels(looked, number, chosen, averages_of(looked, number))
        for given, index in zip(inputs, chosen, strict=True):
            if not objects[number, index].any():
                continue
            near = cv2.dilate(objects[:, index].any(0).view(np.uint8), np.ones((3, 3), np.uint8)) > 0
            kinds = np.where(near, np.uint8(IGNORED), clip.kinds[number, index])
            out.append(
                (
                    np.ascontiguousarray((128 + 127 * given).round().astype(np.uint8).transpose(2, 0, 1)),
                    kinds,
                    np.where(clip.kinds[number, index] > 0, clip.strength[number, index], 0).astype(np.uint8),
                )
            )
    return out


def guessed(truth: np.ndarray, rng: Rng) -> np.ndarray:
    """What a finder that errs would have found of effects (n, F, H, W) bool: parts of them, or too much."""
    out = truth.copy()
    way = rng.random()
    for own in out:
        for index, mask in enumerate(own):
            size = int(rng.integers(1, 7)) if way < 0.8 else 3
            square = np.ones((size, size), np.uint8)
            if way < 0.35:
                own[index] = cv2.dilate(mask.view(np.uint8), square) > 0
            elif way < 0.65:
                own[index] = cv2.erode(mask.view(np.uint8), square) > 0
            elif way < 0.8:
                holes = cv2.resize(rng.random((6, 10)).astype(np.float32), mask.shape[::-1]) > 0.55
                own[index] = mask & ~holes
            elif way < 0.9:
                own[index] = False
    return out


def drawn(seed: int, frames: int) -> Composite:
    """A procedural scene, whose effects are shadows on the ground or reflections in water."""
    scene = make_scene(seed, *SIZE, frames)
    kinds = np.zeros(scene.effect_masks.shape, np.uint8)
    for own, mask, effects in zip(kinds, scene.effect_masks, scene.spec.effects, strict=True):
        if effects:
            own[mask] = KINDS.index(str(effects[0]))
    strength = np.where(scene.effect_masks, scene.effect_alphas, 0)
    return Composite(scene.video, scene.object_masks, kinds, (255 * np.clip(strength, 0, 1)).astype(np.uint8))


def traced(path: Path, rng: Rng) -> Composite:
    """A clip rendered in 3-D, as a camera takes it; what few samples leave of noise does not count."""
    video, objects, kinds, strength = rendered.read(path)
    for own, masks in zip(kinds, objects, strict=True):
        where = places(masks)
        for labels, mask, place in zip(own, masks, where, strict=True):
            pieces, count = ndimage.label(labels > 0)
            far = ndimage.distance_transform_edt(~mask) if place is not None else np.full(mask.shape, np.inf)
            for number in range(1, count + 1):
                piece = pieces == number
                if place is None or far[piece].min() > FAR * place.unit or piece.sum() < FEW:
                    labels[piece] = IGNORED
    return Composite(filmed(rng, video.astype(np.float32)), objects, kinds, strength)


def clip_of(
    seed: int,
    photos: Sequence[np.ndarray],
    cutouts: Sequence[np.ndarray],
    frames: int | None = None,
    *,
    folder: Path | None = None,
    chances: Chances = EVEN,
) -> tuple[Composite, Rng]:
    """The clip of a seed, and the generator to go on with; as long as it wants to be, or of so many frames.

    Rendered ones lie in `folder`.
    """
    rng = np.random.default_rng(seed)
    if folder is not None and rendered.is_rendered(seed):
        return traced(folder / f"{rendered.first_take(seed)}.npz", rng), rng
    if rng.random() < DRAWN:
        return drawn(seed, frames or int(rng.integers(*DRAWN_FRAMES))), rng
    return composite(rng, photos, cutouts, frames or int(rng.integers(*FRAMES)), chances), rng


def unlooked(clip: Composite) -> Plates:
    """Plates that know nothing: the clip alone is to be looked at."""
    return Plates(clip.video, np.zeros(clip.video.shape[:3], bool))
