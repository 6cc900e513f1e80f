"""How well objects are found in every frame from one box or one click, on clips and scenes whose masks are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from layerlift.bench.table import CaseTable, Source
from layerlift.clip import Clip, layout_masks, open_clip
from layerlift.errors import InputError
from layerlift.masks import Mask, open_object_masks
from layerlift.options import SegmentationOptions
from layerlift.pixels.arrays import bounds
from layerlift.runtime import Runtime
from layerlift.scenes import Scene
from layerlift.stages.segment import Prompts, Target, plan_segmentation, run_segmentation

# What a segmenter is told of an object, in the first frame that shows it.
ASKED = ("box", "click")
GOOD = 0.7  # an IoU above this is counted as found
LEAST_AREA = 20  # pixels: a frame that shows less of an object says nothing of it


@dataclass(frozen=True, slots=True)
class ObjectCase:
    """A clip, and the true masks of its objects by their names."""

    name: str
    clip: Clip
    truths: dict[str, Mask]


def open_object_cases(paths: Sequence[Path]) -> list[ObjectCase]:
    """Folders of a clip and its object masks. Raises InputError for one without masks."""
    cases = []
    for path in paths:
        layout = layout_masks(path)
        found = layout.object_masks
        if not found:
            raise InputError(f"{path} has no object masks: give a folder with object_mask beside its video.")
        clip = open_clip(path)
        masks = [mask for file in found for mask in open_object_masks(file, clip)]
        names = [""] if len(masks) == 1 else [f" {number}" for number in range(len(masks))]
        truths = dict(zip(names, masks, strict=True))
        cases.append(ObjectCase(path.resolve().name, clip, truths))
    return cases


def scene_cases(seeds: Sequence[int], size: tuple[int, int], frames: int, source: Source) -> Iterator[ObjectCase]:
    """The scenes of `seeds` as cases; objects that no frame shows are left out."""
    for seed in seeds:
        scene: Scene = source.scene(seed, *size, frames)
        truths = {
            f" {number}": Mask.from_array(mask)
            for number, mask in enumerate(scene.object_masks)
            if mask.sum((1, 2)).max() >= LEAST_AREA
        }
        yield ObjectCase(f"scene {seed}", Clip.from_array(scene.video), truths)


def object_tables(
    cases: Iterable[ObjectCase], options: SegmentationOptions, runtime: Runtime, asked: Sequence[str] = ASKED
) -> list[CaseTable]:
    """Find the objects of every case, all in one pass, from a box and from a click each.

    Returns two tables: the mean IoU over all frames, and the share of frames whose IoU is above 0.7. A frame in which
    an object is neither to be seen nor found counts as 1. Where nothing is found under what is said, all count as 0.
    """
    means = CaseTable("mean IoU over all frames", digits=3)
    shares = CaseTable(f"share of frames above {GOOD:g}", digits=2)
    for case in cases:
        for way in asked:
            try:
                found = measured(case, way, options, runtime)
            except InputError as error:  # a segmenter that finds nothing is what is measured here
                runtime.report.note(f"{case.name}, {way}: {error}")
                found = {name: [0.0] for name in case.truths}
            for name, values in found.items():
                means.add(way, f"{case.name}{name}", float(np.mean(values)))
                shares.add(way, f"{case.name}{name}", float(np.mean(np.array(values) > GOOD)))
    return [means, shares]


def measured(case: ObjectCase, way: str, options: SegmentationOptions, runtime: Runtime) -> dict[str, list[float]]:
    """Every frame's IoU by the objects' names."""
    targets = [Target(name or "object", first_words(truth, way)) for name, truth in case.truths.items()]
    runtime = replace(runtime, report=runtime.quiet().report)
    found = run_segmentation(plan_segmentation(case.clip, targets, options, runtime))
    values: dict[str, list[float]] = {name: [] for name in case.truths}
    truths = zip(*(truth.frames() for truth in case.truths.values()), strict=True)
    for labels, masks in zip(found, truths, strict=True):
        for number, (name, mask) in enumerate(zip(case.truths, masks, strict=True), 1):
            values[name].append(intersection_over_union(labels == number, mask))
    return values


def first_words(truth: Mask, way: str) -> dict[int, Prompts]:
    """What is said of an object: a box around it, or a click on its pixel farthest from the edge, in the first frame
    that shows it."""
    for index, mask in enumerate(truth.frames()):
        if mask.sum() >= LEAST_AREA:
            return {index: box_of(mask) if way == "box" else click_of(mask)}
    raise InputError(f"{truth.name} shows no object: give a clip whose object can be seen.")


def box_of(mask: np.ndarray) -> Prompts:
    """The box around a mask (H, W) bool."""
    box = bounds(mask)
    assert box is not None
    left, top, right, bottom = map(float, box)
    return Prompts(box=(left, top, right, bottom))


def click_of(mask: np.ndarray) -> Prompts:
    """A click on the pixel of a mask (H, W) bool that is farthest from its edge."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return Prompts(np.array([(x, y)], np.float32), np.ones(1, np.bool_))


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """The IoU of two masks (H, W) bool; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0
