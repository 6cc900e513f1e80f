"""Effects found in the clip itself, without a model. Read `look` from top to bottom.

Everything happens on a small picture and in windows of the clip, so that neither size nor length costs memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import cv2
import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.engine.finder import KINDS, judge
from layerlift.evidence.tracing import STEPS as TRACING
from layerlift.finder.inputs import Looked, averages_of, channels
from layerlift.finder.mirrored import reflection_of
from layerlift.finder.plate import first_look, gather_plate, joined, second_look
from layerlift.finder.small import small_masks, small_size
from layerlift.finder.stir import stir_of
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.masks import Mask
from layerlift.progress import QUIET, Progress, StageProgress

# Frames that are looked at together, and so many more on either side to learn from. With many objects they are fewer:
# what is found of a frame takes 0.5 MB for each object.
WINDOW, LEAST_WINDOW, MARGIN = 192, 48, 24
OBJECT_FRAMES = 3 * WINDOW
# What is this likely to be an effect is looked at around the second time.
LIKELY = 0.35
# Done with every frame, twice: it is followed, traced, gathered and judged.
STEPS = 2 * (2 + TRACING + 1)
BATCH = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of F frames and n objects on the small picture.

    Attributes:
        first: the number of the first frame.
        objects: (n, F, h, w) bool.
        likely: (n, F, 5, h, w) float16, how likely each of `KINDS` is.
        strength: (n, F, h, w) float16 in [0, 1], how opaque an effect would be.
        change: (F, h, w) float16, by how many levels of 255 the clip differs from the plate at most.
        known: (F, h, w) bool, where the plate is known.
    """

    first: int
    objects: np.ndarray
    likely: np.ndarray
    strength: np.ndarray
    change: np.ndarray
    known: np.ndarray


def windows_of(count: int, objects: int = 1) -> list[tuple[int, int, int, int]]:
    """(start, stop, first, end) of every window: its own frames, and those that are looked at, for `count` frames."""
    parts = max(1, -(-count // max(min(WINDOW, OBJECT_FRAMES // objects), LEAST_WINDOW)))
    edges = [round(part * count / parts) for part in range(parts + 1)]
    return [(start, stop, max(0, start - MARGIN), min(count, stop + MARGIN)) for start, stop in pairwise(edges)]


class Steps:
    """Counts the steps of a window, and hands them on to one bar; stages within it open no bars of their own."""

    def __init__(self, bar: StageProgress) -> None:
        self._bar, self._left, self._lock = bar, 0, Lock()

    def window(self, steps: int) -> None:
        """A window begins that may take so many steps; what was left of the one before it is made up for."""
        self._bar.advance(self._left)
        self._left = steps

    def stage(self, name: str, total: int | None) -> AbstractContextManager[StageProgress]:
        """Open a stage of the work on a window; what it is called is not shown."""
        return nullcontext(self)

    def advance(self, steps: int = 1) -> None:
        """Steps are done, or none: the bar is asked whether to go on."""
        with self._lock:
            steps = min(steps, self._left)
            self._left -= steps
        self._bar.advance(steps)


def look(
    clip: Clip, masks: Sequence[Mask], progress: StageProgress, keeper: Keeper = TEMPORARY, begin: int = 0
) -> Iterator[tuple[int, int, Seen]]:
    """Look at a clip window by window: (start, stop, what was seen of these frames and some around them).

    `progress` advances by `STEPS` for every frame. What was seen is kept; windows that end before frame `begin` are
    left out.
    """
    size = small_size(clip)
    steps = Steps(progress)
    for number, (start, stop, first, end) in enumerate(windows_of(clip.frame_count, len(masks))):
        # One shelf for a window: it is large, and gone when the window is done.
        name = f"seen-{number}"
        if stop <= begin:
            keeper.skip(progress, "clip", STEPS * (stop - start))
            keeper.drop(name)
            continue
        with keeper.shelf(name) if keeper.lasts else nullcontext() as shelf:
            if shelf is not None and 0 in shelf:
                keeper.skip(progress, "clip", STEPS * (stop - start))
                seen = Seen(first, *shelf.get(0))
            else:
                steps.window(STEPS * (stop - start))
                frames = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip.frames(first, end)])
                objects = np.stack([small_masks(mask, first, end, size) for mask in masks])  # (n, F, h, w)
                seen = look_at(frames, objects, first, steps) if objects.any() else nothing(first, objects)
                if shelf is not None:
                    shelf.put(0, seen.objects, seen.likely, seen.strength, seen.change, seen.known)
        yield start, stop, seen
        keeper.drop(name)
    steps.window(0)


def look_at(frames: np.ndarray, objects: np.ndarray, first: int, progress: Progress) -> Seen:
    """Look at a window: small pictures (F, h, w, 3) uint8, objects (n, F, h, w) bool, the number of the first frame."""
    # 1. A plate of what is around the objects; where that differs from the clip something may be caused.
    looked = first_look(objects)
    plate, known = gather_plate(frames, looked, progress)
    known &= looked
    stir = stir_of(frames, np.asarray(objects.any(0)))
    likely, strength = judged(Looked(frames, objects, plate, known, stir), progress)
    # 2. Once more without what was found: its own traces are gone from the plate then.
    found = (1 - likely[:, :, 0] > LIKELY) & ~objects.any(0)
    if found.any():
        again = second_look(objects, found)
        second = gather_plate(frames, again, progress)
        plate, known = joined((plate, known), (second[0], second[1] & again), again)
        likely, strength = judged(Looked(frames, objects, plate, known, stir), progress)
    change = np.abs(frames.astype(np.float32) - plate).max(-1).astype(np.float16)
    return Seen(first, objects, likely, strength, change, known)


def nothing(first: int, objects: np.ndarray) -> Seen:
    """What is seen of frames without objects (n, F, h, w)."""
    count, frames, height, width = objects.shape
    likely = np.zeros((count, frames, len(KINDS), height, width), np.float16)
    likely[:, :, 0] = 1
    empty = np.zeros((frames, height, width), np.float16)
    return Seen(first, objects, likely, np.zeros(objects.shape, np.float16), empty, empty > 0)


def judged(looked: Looked, progress: Progress = QUIET) -> tuple[np.ndarray, np.ndarray]:
    """What the network says: how likely each kind is, (n, F, 5, h, w), and its strength, (n, F, h, w), float16."""
    objects = looked.objects
    count, total, height, width = objects.shape
    likely = np.zeros((count, total, len(KINDS), height, width), np.float16)
    likely[:, :, 0] = 1
    strength = np.zeros(objects.shape, np.float16)
    with progress.stage("judge", total) as bar:
        for number in range(count):
            there = np.flatnonzero(objects[number].any((1, 2))).tolist()
            if not there:
                continue
            averages = averages_of(looked, number)
            batches = [there[first : first + BATCH] for first in range(0, len(there), BATCH)]
            prepared = ahead(channels(looked, number, chosen, averages) for chosen in batches)
            for chosen, given in zip(batches, prepared, strict=True):
                likely[number, chosen], strength[number, chosen] = judge(given, moves=averages.moves)
                bar.advance(len(chosen) if number == 0 else 0)
            if not averages.moves:
                seen = reflection_of(looked.frames, objects[number], averages.where)
                if seen is not None:
                    with_reflection(likely[number], strength[number], *seen)
    return likely, strength


def with_reflection(likely: np.ndarray, strength: np.ndarray, mirrored: np.ndarray, seen: np.ndarray) -> None:
    """Add, in place, how likely (F, H, W) an object is mirrored and how strongly, to what the network said."""
    likely *= (1 - mirrored)[:, None]
    likely[:, KINDS.index("reflection")] += mirrored
    np.copyto(strength, np.maximum(strength, seen), where=mirrored > 0, casting="same_kind")
