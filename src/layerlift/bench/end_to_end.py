"""How true composites are that a user gets: from a scene's object masks, through removal, to another background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layerlift.bench.layers import CAP, alpha_scores, effects_by_kind, laid_over, true_through
from layerlift.bench.table import Table, each_scene, scene_columns
from layerlift.metrics import psnr
from layerlift.options import LatentCompositionOptions
from layerlift.runtime import Runtime
from layerlift.scenes import Scene, make_scene
from layerlift.stages.composition.latent import compose_latent_frames
from layerlift.stages.effects import find_effects
from layerlift.stages.layers import extract
from layerlift.stages.removal import remove_frames


def end_to_end_tables(
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 17,
) -> list[Table]:
    """Take the scenes of `seeds` apart and lay what was taken out over the next scene's plate.

    Once with the true total mask, once from the object masks alone. Returns two tables: PSNR in decibels of that
    composite against the true one, capped at 60 a scene, for the layers and for latent arithmetic with the same plate
    and masks; and errors of the layers' alpha.
    """
    columns = scene_columns(seeds)
    composites, alphas = (
        Table("PSNR of the composite, end to end", columns),
        Table("Error of alpha, end to end", columns),
    )
    alphas.digits = 4
    for seed, scene in each_scene(seeds, size, frames, runtime.progress):
        other = make_scene(seed + 1, *size, frames).background
        ways = {"true total mask": [scene.total_mask], "object mask alone": found_totals(scene, runtime)}
        for name, totals in ways.items():
            total = np.logical_or.reduce(totals)
            plate = np.stack(list(remove_frames(scene.video, total, runtime=runtime.quiet())))
            made = extract(scene.video, plate, list(scene.object_masks[::-1]), totals)
            layers = np.stack([layer.numpy() for layer in made[::-1]])
            results = {"layers": laid_over(layers, other)}
            for refine in (False, True):
                way = "latent arithmetic, refined" if refine else "latent arithmetic"
                results[way] = moved(scene, plate, total, other, runtime, refine=refine)
            for way, result in results.items():
                for region, value in region_scores(scene, result, other).items():
                    composites.add(f"{name}: {way}, {region}", seed, value)
            for error, value in alpha_scores(scene, layers).items():
                alphas.add(f"{name}: {error}", seed, value)
    return [composites, alphas]


def found_totals(scene: Scene, runtime: Runtime) -> list[np.ndarray]:
    """Each object with the effects that the model finds, (F, H, W) bool, front to back."""
    frames = find_effects(scene.video, list(scene.object_masks[::-1]), runtime=runtime.quiet())
    return list(np.stack([frame.totals for frame in frames], 1))


def moved(
    scene: Scene,
    plate: np.ndarray,
    total: np.ndarray,
    other: np.ndarray,
    runtime: Runtime,
    *,
    refine: bool,
) -> np.ndarray:
    """The scene's objects on another background by latent arithmetic, (F, H, W, 3) uint8."""
    frames = compose_latent_frames(
        scene.video,
        plate,
        list(scene.object_masks[::-1]),
        total,
        other,
        options=LatentCompositionOptions(refine=refine),
        runtime=runtime.quiet(),
    )
    return np.stack(list(frames))


def region_scores(scene: Scene, made: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """PSNR of a composite over another plate (F, H, W, 3) uint8 against the true one; NaN where there is no pixel."""
    change = other.astype(np.float32) - scene.background
    truth = scene.video.astype(np.float32) + true_through(scene)[..., None] * change
    objects, kinds = scene.object_mask, effects_by_kind(scene)
    shadows, reflections = kinds["shadows"], kinds["reflections"]
    where = {"total mask": scene.total_mask, "objects": objects, "shadows": shadows, "reflections": reflections}
    return {region: psnr(made, truth, mask, CAP) for region, mask in where.items()}
