"""Segmentation: clicks, boxes and known masks on a few frames become a mask of every object in every frame.

Read `plan_segmentation` in `plan`, then `run_segmentation`. `base` is the seam that every segmenter keeps to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from layerlift.options import SegmentationOptions
from layerlift.runtime import Runtime, chosen
from layerlift.stages.inputs import GivenClip
from layerlift.stages.segment.base import Embedding, Embeddings, Prediction, Prompts, Segmenter, Target
from layerlift.stages.segment.choose import open_segmenter
from layerlift.stages.segment.plan import SegmentationPlan, plan_segmentation
from layerlift.stages.spool import resumed_frames

__all__ = [
    "Embedding",
    "Embeddings",
    "Prediction",
    "Prompts",
    "SegmentationPlan",
    "Segmenter",
    "Target",
    "open_segmenter",
    "plan_segmentation",
    "run_segmentation",
    "segment",
]


def segment(
    clip: GivenClip,
    targets: Sequence[Target] | Target,
    options: SegmentationOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Iterator[np.ndarray]:
    """Find objects in every frame, from what is said of them in a few.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        targets: the objects, each with clicks, boxes or masks in one frame or more.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `SegmentationOptions`, which override `options`, and, without a
            `runtime`, fields of `RuntimeOptions`, `progress` and `report`.

    Returns:
        Every frame's labels, (H, W) uint8, made as they are requested: 0 where no object is, 1 for the first target, 2
        for the second, and so on. A target may be in none of a frame's pixels.

    Raises:
        InputError: anything given cannot be used; raised by the call, or with the first frame where nothing is found
            under what was said.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(SegmentationOptions, options, runtime, choices)
    return run_segmentation(plan_segmentation(clip, targets, options, runtime))


def run_segmentation(plan: SegmentationPlan) -> Iterator[np.ndarray]:
    """Every frame's labels, (H, W) uint8, as `segment` returns them.

    Raises InputError where nothing is found under what was said.
    """
    report = plan.runtime.report
    report.results["segmenter"] = plan.segmenter
    report.sizes["clip"] = {"width": plan.clip.width, "height": plan.clip.height, "frames": plan.clip.frame_count}
    shown = [0] * len(plan.targets)
    with report.stage("segment"):
        segmenter = open_segmenter(plan.segmenter, plan.runtime)
        track = partial(segmenter.track, plan.clip, plan.targets, plan.runtime.progress, plan.runtime.keeper)
        for labels in resumed_frames(plan.runtime.keeper, "labels", track):
            areas = np.bincount(labels.ravel(), minlength=len(shown) + 1)[1:]
            shown = [count + (area > 0) for count, area in zip(shown, areas, strict=True)]
            yield labels
    report.results["frames with the object"] = {
        target.name: int(count) for target, count in zip(plan.targets, shown, strict=True)
    }
