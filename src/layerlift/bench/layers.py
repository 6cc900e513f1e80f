"""How true layers are: extraction with the true plate and masks against the layers that scenes are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layerlift.bench.table import Source, Table, each_scene, made_up
from layerlift.clip.rgba import to_whole
from layerlift.metrics import psnr
from layerlift.progress import QUIET, Progress
from layerlift.scenes import Effect, Scene
from layerlift.stages.layers import extract
from layerlift.stages.layers.effect_matte import least_alpha

# Beyond this a composite differs from the truth by less than rounding to 8 bits does.
CAP = 60.0
# Alpha below this is invisible in 8 bits: there nothing is.
NOTHING = 0.5 / 255
# What rows call effects of each kind.
KINDS_OF = {
    kind: kind.value if kind in (Effect.LIGHT, Effect.GLASS, Effect.SMOKE) else f"{kind.value}s" for kind in Effect
}
KINDS = tuple(KINDS_OF.values())
# Two frames of the clip that differ by no more than this many levels show the same.
STILL_LEVELS = 2


def layer_tables(
    seeds: Sequence[int],
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 17,
    source: Source | None = None,
    progress: Progress = QUIET,
) -> list[Table]:
    """Extract the layers of the scenes of `seeds` and measure them.

    Returns two tables: PSNR in decibels of composites, capped at 60 a scene, over the plate the layers come from and
    over that of the next scene; and mean absolute errors of alpha, of all objects together unless it says otherwise.
    """
    source = source or made_up()
    columns = source.columns(seeds)
    composites = Table("PSNR of the composite", columns)
    alphas = Table("Error of alpha", columns, digits=4)
    for seed, scene in each_scene(seeds, size, frames, progress, source):
        layers = extracted(scene)
        other = source.scene(source.other(seed), *size, frames).background
        for name, value in composite_scores(scene, layers, other).items():
            composites.add(name, seed, value)
        for name, value in alpha_scores(scene, layers).items():
            alphas.add(name, seed, value)
    return [composites, alphas]


def extracted(scene: Scene) -> np.ndarray:
    """The layers (N, F, H, W, 4) float32 that extraction makes of a scene, back to front as the scene has them."""
    made = extract(scene.video, scene.background, list(scene.object_masks[::-1]), scene.total_mask)
    return np.stack([layer.numpy() for layer in made[::-1]])


def composite_scores(scene: Scene, layers: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """PSNR over the scene's own plate and over another (F, H, W, 3) uint8; NaN where a scene has no such pixels."""
    own, video = scene.background, scene.video.astype(np.float32)
    truth = video + true_through(scene)[..., None] * (other.astype(np.float32) - own)
    laid, simple = laid_over(layers, other), laid_over(least_layer(scene)[None], other)
    places = {"objects": scene.object_mask} | effects_by_kind(scene)
    return {
        "own plate, float": psnr(laid_over(layers, own), video, cap=CAP),
        "own plate, 16 bits": psnr(laid_over(to_whole(layers, 16) / np.float32(65535), own), video, cap=CAP),
        "own plate, 8 bits": psnr(laid_over(to_whole(layers, 8) / np.float32(255), own), video, cap=CAP),
        **{f"another plate, {name}": psnr(laid, truth, where, CAP) for name, where in places.items()},
        **{f"least alpha alone, {name}": psnr(simple, truth, where, CAP) for name, where in places.items()},
    }


def alpha_scores(scene: Scene, layers: np.ndarray) -> dict[str, float]:
    """Mean absolute errors of alpha, and its mean absolute change where the clip stands still."""
    own = scene.object_alphas + scene.effect_alphas  # (N, F, H, W)
    made, truth = 1 - np.prod(1 - layers[..., 3], 0), 1 - true_through(scene)
    objects, shadows = scene.object_mask, effects_by_kind(scene)["shadows"]
    moving = np.abs(np.diff(scene.video.astype(np.int16), axis=0)).max(-1) > STILL_LEVELS
    moving |= np.abs(np.diff(truth, axis=0)) > NOTHING
    still = ~moving & scene.total_mask[1:]
    several = len(own) > 1
    return {
        "objects": mean(np.abs(made - truth), objects),
        "shadows": mean(np.abs(made - truth), shadows),
        "where nothing is": mean(made, truth < NOTHING),
        "flicker where the clip is still": mean(np.abs(np.diff(made, axis=0)), still),
        "each of two objects' own": mean(np.abs(layers[..., 3] - own).mean(0), scene.total_mask if several else None),
    }


def effects_by_kind(scene: Scene) -> dict[str, np.ndarray]:
    """Where effects of each kind are beside all objects, (F, H, W) bool each.

    An object with effects of several kinds counts as having the one that shows most. Shadows and reflections are always
    there, empty where a scene has none.
    """
    found = {kind: np.zeros_like(scene.object_mask) for kind in KINDS}
    for kinds, mask in zip(scene.spec.effects, scene.effect_masks, strict=True):
        if kinds:
            found[KINDS_OF[kinds[0]]] |= mask & ~scene.object_mask
    return {name: where for name, where in found.items() if where.any() or name in ("shadows", "reflections")}


def true_through(scene: Scene) -> np.ndarray:
    """How much of the plate is seen through all layers, (F, H, W) in [0, 1]."""
    return np.prod(1 - scene.object_alphas - scene.effect_alphas, 0)


def laid_over(layers: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Layers (N, F, H, W, 4), back to front, over a plate (F, H, W, 3) uint8; float32 from 0 to 255, not rounded."""
    picture = plate.astype(np.float32)
    for layer in layers:
        alpha = layer[..., 3:]
        picture = 255 * layer[..., :3] * alpha + (1 - alpha) * picture
    return picture


def least_layer(scene: Scene) -> np.ndarray:
    """What is simplest: alpha 1 in the object masks and the least that will do elsewhere, (F, H, W, 4) float32."""
    frames, plates = scene.video.astype(np.float32) / 255, scene.background.astype(np.float32) / 255
    alpha = np.stack([least_alpha(frame, plate) for frame, plate in zip(frames, plates, strict=True)])
    alpha = np.where(scene.object_mask, 1, alpha * scene.total_mask)[..., None]
    colour = np.clip((frames - (1 - alpha) * plates) / np.maximum(alpha, 1e-5), 0, 1)
    return np.concatenate([colour, alpha], -1).astype(np.float32)


def mean(values: np.ndarray, where: np.ndarray | None) -> float:
    """Mean over pixels; NaN when there are none."""
    return float(values[where].mean()) if where is not None and where.any() else float("nan")
