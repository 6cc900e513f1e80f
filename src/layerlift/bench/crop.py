"""What looking only around the mask does to the result: small holes in clean plates, filled with and without.

The holes stay on one spot of the background, so that no frame shows what lies under them: with evidence that is what a
model is asked for. What another frame shows may lie far from the mask, and is not the crop's to find.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from layerlift.bench.table import Table, each_scene, scene_columns
from layerlift.metrics import psnr
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.scenes import Scene, SceneSpec
from layerlift.stages.removal import remove_frames

# The hole's area as a share of the picture's.
HOLE_SHARE = 0.01
WHOLE = "whole picture at the clip's size"


def crop_tables(
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    size: tuple[int, int] = (576, 384),
    frames: int = 17,
    options: RemovalOptions | None = None,
) -> list[Table]:
    """Fill a hole in the clean plate of each scene; what lies under it is known.

    Three ways: the model sees the whole picture at its own size, the whole picture at the clip's size, or what lies
    around the mask. Returns three tables: PSNR in decibels inside the hole; tokens, and seconds of the whole removal
    (the second of two, so that nothing is loaded in it), both over those of the whole picture at the clip's size.
    """
    options = replace(options or RemovalOptions(), evidence="off")
    ways = {
        "whole picture": replace(options, crop=False),
        WHOLE: replace(options, crop=False, size=size),
        "around the mask": replace(options, crop=True),
    }
    columns = scene_columns(seeds)
    inside = Table("PSNR inside the hole", columns)
    tokens, seconds = (Table(f"{what}, over {WHOLE}", columns, digits=2) for what in ("tokens", "seconds"))
    for seed, scene in each_scene(seeds, size, frames, runtime.progress):
        plate, mask = scene.background, fixed_hole(scene)
        given = np.where(mask[..., None], np.uint8(0), plate)
        counts, times = {}, {}
        for name, chosen in ways.items():
            for _ in range(2 if seed == seeds[0] else 1):
                quiet, began = runtime.quiet(), time.perf_counter()
                made = np.stack(list(remove_frames(given, mask, chosen, quiet)))
                times[name] = time.perf_counter() - began
            inside.add(name, seed, psnr(made, plate, mask))
            counts[name] = quiet.report.results["tokens"]["all"]
        for name in ways:
            tokens.add(name, seed, counts[name] / counts[WHOLE])
            seconds.add(name, seed, times[name] / times[WHOLE])
    return [inside, tokens, seconds]


def fixed_hole(scene: Scene) -> np.ndarray:
    """A disc on one spot of the scene's background, (F, H, W) bool; it goes where the camera makes that spot go."""
    frames, height, width = scene.background.shape[:3]
    radius = (HOLE_SHARE * width * height / np.pi) ** 0.5
    assert isinstance(scene.spec, SceneSpec)
    pan, zoom = scene.spec.numbers["pan"], float(scene.spec.numbers["zoom"])
    # As the renderer has it: (x, v) in [-1, 1] show the world at (x, v)·(1 + zoom·u) + pan·u, u from -0.5 to 0.5.
    u = np.linspace(-0.5, 0.5, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    spot = np.random.default_rng(scene.spec.seed).uniform(-0.5, 0.5, 2)
    places = (spot - pan * u) / (1 + zoom * u)  # (F, 2)
    centres = (places + 1) / 2 * (width, height)
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([(x - across) ** 2 + (y - down) ** 2 <= radius**2 for across, down in centres])
