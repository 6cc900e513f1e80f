"""How clean the plate is: removal against the truth on procedural scenes, beside what needs no model at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from layerlift.bench.table import Source, Table, each_scene, made_up
from layerlift.metrics import psnr
from layerlift.options import RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.runtime import Runtime
from layerlift.scenes import Scene, SceneSpec
from layerlift.stages.choose_model import NO_MODEL, require_model
from layerlift.stages.removal import remove_frames

TELEA_RADIUS = 3  # pixels
# Shares of the picture's height: the shore is left out, and water is compared with what is this near to the mask.
WATER_MARGIN = 0.06
WATER_RING = 0.12
MOVING = ("true clean plate", "model only", "default")


def quality_tables(
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 17,
    source: Source | None = None,
    options: RemovalOptions | None = None,
) -> list[Table]:
    """Measure on the scenes of `seeds` with the true total mask; PSNR in decibels, capped at 50 a scene.

    `source` is made-up scenes by default. Returns four tables: removal, inside the mask; the VAE on the true clean
    plates, over the whole picture; how much water moves inside the mask (of made-up scenes alone); and what is left to
    generate. Without a model the second and the last are missing, and the default is evidence alone.
    """
    options = options or RemovalOptions()
    source = source or made_up()
    columns = source.columns(seeds)
    inside, whole = Table("PSNR inside the mask", columns), Table("PSNR of the whole picture", columns)
    motion = Table("water's change inside the mask, over that around it", columns, digits=2)
    left = Table("unknown tokens, over all that `--evidence off` has", columns, digits=2)
    for seed, scene in each_scene(seeds, size, frames, runtime.progress, source):
        mask, truth = scene.total_mask, scene.background
        default, tokens = removal(scene, runtime, options)
        results = {
            "input": scene.video,
            "OpenCV Telea per frame": telea_inpainted(scene.video, mask),
            "temporal median": temporal_median(scene.video, mask),
        }
        if runtime.model != NO_MODEL:
            results["evidence only"], _ = removal(scene, runtime, replace(options, evidence="only"))
            results["model only"], all_tokens = removal(scene, runtime, replace(options, evidence="off"))
            results["VAE of the clean plate"] = through_vae(truth, runtime)
            whole.add("VAE of the clean plate", seed, psnr(results["VAE of the clean plate"], truth))
            left.add("default", seed, tokens / all_tokens)
        results["default"] = default
        for name, result in results.items():
            inside.add(name, seed, psnr(result, truth, mask))
        if isinstance(scene.spec, SceneSpec):  # of others it is not known where water is
            for name, result in {"true clean plate": truth, **results}.items():
                if name in MOVING:
                    motion.add(name, seed, water_motion(result, scene, scene.spec))
    return [table for table in (inside, whole, motion, left) if table.rows]


def removal(scene: Scene, runtime: Runtime, options: RemovalOptions) -> tuple[np.ndarray, int]:
    """The clean plate (F, H, W, 3) uint8 that removal makes of a scene with its true mask, and the unknown tokens."""
    quiet = runtime.quiet()
    plate = np.stack(list(remove_frames(scene.video, scene.total_mask, options, quiet)))
    return plate, quiet.report.results.get("tokens", {}).get("unknown", 0)


def water_motion(video: np.ndarray, scene: Scene, spec: SceneSpec) -> float:
    """Mean change from frame to frame in water inside the mask, over that near it; NaN without water.

    `video` (F, H, W, 3) uint8. Only pixels that both frames mask, or neither, are compared.
    """
    if not spec.water or len(video) < 2:
        return float("nan")
    height = video.shape[1]
    horizon = round((float(spec.numbers["horizon"]) + 1) / 2 * height)
    water = np.arange(height)[:, None] > horizon + WATER_MARGIN * height
    mask = scene.total_mask
    near = np.stack([grow(frame, WATER_RING * height) for frame in mask]) & ~mask
    change = np.abs(np.diff(video.astype(np.int16), axis=0)).mean(-1)  # (F - 1, H, W)
    inside, around = mask[1:] & mask[:-1] & water, near[1:] & near[:-1] & water
    if not (inside.any() and around.any()):
        return float("nan")
    return float(change[inside].mean() / change[around].mean())


def telea_inpainted(video: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each frame inpainted on its own, after Telea (2004): (F, H, W, 3) uint8."""
    pairs = zip(video, mask, strict=True)
    return np.stack(
        [cv2.inpaint(frame, where.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA) for frame, where in pairs]
    )


def temporal_median(video: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Hidden pixels take the median over the frames that show them, without alignment; Telea where none does."""
    seen = np.ma.masked_array(video, np.broadcast_to(mask[..., None], video.shape))
    median = np.ma.median(seen, axis=0)
    never = np.asarray(mask.all(0))
    still = telea_inpainted(median.filled(0).round().astype(np.uint8)[None], never[None])[0]
    return np.where(mask[..., None], still, video)


def through_vae(video: np.ndarray, runtime: Runtime) -> np.ndarray:
    """What the VAE makes of a clip (F, H, W, 3) uint8 that fills whole tokens: the most a removal can reach."""
    model, policy = require_model(runtime, "the VAE"), runtime.policy
    policy = replace(policy, device_pixels=False)  # frames are counted on the host
    with model.encoding(policy) as encode:
        latents = encode(video)
    with model.decoding(policy) as decode:
        frames = decode(latents, model.noise(0))
        return np.stack([np.rint(frame).astype(np.uint8) for frame in frames])
