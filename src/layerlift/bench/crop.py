"""What looking only around the mask does to the result: small holes in clean plates, filled with and without.

The holes stay on one spot of the background, so that no frame shows what lies under them: with evidence that is what a
model is asked for. What another frame shows may lie far from the mask, and is not the crop's to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from layerlift.bench.table import Table, scene_columns
from layerlift.metrics import psnr
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.scenes import Scene, make_scene
from layerlift.stages.removal import RemovalOptions, remove_frames

if TYPE_CHECKING:
    from layerlift.device import Policy
    from layerlift.model import Model

# The hole's area as a share of the picture's.
HOLE_SHARE = 0.01


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
            scene = make_scene(seed, *size, frames)
            plate, mask = scene.background, fixed_hole(scene)
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


def fixed_hole(scene: Scene) -> np.ndarray:
    """A disc on one spot of the scene's background, (F, H, W) bool; it goes where the camera makes that spot go."""
    frames, height, width = scene.background.shape[:3]
    radius = (HOLE_SHARE * width * height / np.pi) ** 0.5
    pan, zoom = scene.spec.numbers["pan"], float(scene.spec.numbers["zoom"])
    # As the renderer has it: (x, v) in [-1, 1] show the world at (x, v)·(1 + zoom·u) + pan·u, u from -0.5 to 0.5.
    u = np.linspace(-0.5, 0.5, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    spot = np.random.default_rng(scene.spec.seed).uniform(-0.5, 0.5, 2)
    places = (spot - pan * u) / (1 + zoom * u)  # (F, 2)
    centres = (places + 1) / 2 * (width, height)
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([(x - across) ** 2 + (y - down) ** 2 <= radius**2 for across, down in centres])
