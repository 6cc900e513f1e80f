"""What looking only around the mask does to the result: small holes in clean plates, filled with and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from layerlift.bench.table import Table, scene_columns
from layerlift.metrics import psnr
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.scenes import make_scene
from layerlift.stages.removal import RemovalOptions, remove_frames

if TYPE_CHECKING:
    from layerlift.device import Policy
    from layerlift.model import Model

# The hole's area as a share of the picture's, and the way that it goes during the clip, as a share of its width.
HOLE_SHARE = 0.01
HOLE_WAY = 0.1


def crop_tables(
    seeds: Sequence[int],
    model: Model,
    policy: Policy,
    *,
    size: tuple[int, int] = (576, 384),
    frames: int = 17,
    options: RemovalOptions | None = None,
    progress: Progress = QUIET,
) -> list[Table]:
    """Fill a hole in the clean plate of each scene; what lies under it is known.

    Returns two tables: PSNR in decibels inside the hole, and tokens of the model over those without a crop.
    """
    options = replace(options or RemovalOptions(), evidence="off")
    columns = scene_columns(seeds)
    inside, tokens = Table("PSNR inside the hole", columns), Table("tokens, over all without a crop", columns, digits=2)
    with progress.stage("scenes", len(seeds)) as bar:
        for seed in seeds:
            plate = make_scene(seed, *size, frames).background
            mask = moving_hole(seed, *size, frames)
            given = np.where(mask[..., None], np.uint8(0), plate)
            counts = {}
            for name, crop in (("whole picture", False), ("around the mask", True)):
                report = Report()
                chosen = replace(options, crop=crop)
                made = np.stack(list(remove_frames(given, mask, chosen, model=model, policy=policy, report=report)))
                inside.add(name, seed, psnr(made, plate, mask))
                counts[name] = report.results["tokens"]["all"]
            tokens.add("around the mask", seed, counts["around the mask"] / counts["whole picture"])
            bar.advance()
    return [inside, tokens]


def moving_hole(seed: int, width: int, height: int, frames: int) -> np.ndarray:
    """An ellipse somewhere in the picture that moves a little, (F, H, W) bool."""
    rng = np.random.default_rng(seed)
    radius = (HOLE_SHARE * width * height / np.pi) ** 0.5
    start = rng.uniform((radius, radius), (width - radius - HOLE_WAY * width, height - radius))
    y, x = np.mgrid[:height, :width]
    places = start[0] + HOLE_WAY * width * np.linspace(0, 1, frames)
    return np.stack([(x - place) ** 2 + (y - start[1]) ** 2 <= radius**2 for place in places])
