"""A plate of a small clip: what it would show without an object and what is near it, gathered from other frames."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence import EvidenceOptions, State, gather_evidence
from layerlift.finder.inputs import mirror
from layerlift.finder.travel import places
from layerlift.masks import Mask
from layerlift.progress import QUIET, Progress

# How far around an object effects are looked for at first, in its units; and how far around it and around what was
# found the second time. Pixels, at least and at most.
FIRST, SECOND = 0.6, 0.22
LEAST, MOST = 5, 44


def gather_plate(frames: np.ndarray, hidden: np.ndarray, progress: Progress = QUIET) -> tuple[np.ndarray, np.ndarray]:
    """What other frames show of the pixels that are `hidden`.

    (F, H, W, 3) uint8 and (F, H, W) bool → the plate (F, H, W, 3) uint8, and where it is known, (F, H, W) bool. What is
    not hidden is not looked at, and not known.
    """
    clip, mask = Clip.from_array(frames), Mask.from_array(hidden)
    with gather_evidence(
        clip, mask, dilate=0, options=EvidenceOptions(reach=len(frames), fills=False), progress=progress
    ) as found:
        plates, states = zip(*found.frames(), strict=True)
    return np.stack(plates), np.stack(states) == State.GATHERED


def first_look(objects: np.ndarray, share: float = FIRST) -> np.ndarray:
    """Where effects are looked for: around every object (n, F, H, W) bool, and where it would be mirrored.

    Returns (F, H, W) bool.
    """
    looks = [around(own, share) | around(mirrored(own), 0, own) for own in objects]
    return np.logical_or.reduce(looks)


def mirrored(masks: np.ndarray) -> np.ndarray:
    """An object's masks (F, H, W) bool upside down below the rows that it stands on."""
    where = places(masks)
    return np.stack(
        [
            mask if place is None else mirror(mask[..., None], mask, place)[1]
            for mask, place in zip(masks, where, strict=True)
        ]
    )


def second_look(objects: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Around objects (n, F, H, W) bool and what was found of their effects, the same: (F, H, W) bool."""
    looks = [around(own | effect, SECOND, own) for own, effect in zip(objects, found, strict=True)]
    return np.logical_or.reduce(looks)


def around(masks: np.ndarray, share: float, sized_as: np.ndarray | None = None) -> np.ndarray:
    """Masks (F, H, W) bool grown by a share of their object's unit; `sized_as` (F, H, W) bool is the object."""
    out = np.zeros_like(masks)
    where = places(masks if sized_as is None else sized_as)
    for target, mask, place in zip(out, masks, where, strict=True):
        if not mask.any():
            continue
        reach = LEAST if place is None else int(np.clip(round(share * place.unit), LEAST, MOST))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        target[:] = cv2.dilate(mask.view(np.uint8), disc) > 0
    return out


def joined(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The second plate and what it knows `where` (F, H, W) bool it looked, the first elsewhere."""
    return np.where(where[..., None], second[0], first[0]), np.where(where, second[1], first[1])
