"""How clean the plate is: removal against the truth on procedural scenes, beside what needs no model at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from layerlift.bench.table import Table, scene_columns
from layerlift.metrics import psnr
from layerlift.model.latents import decode, encode
from layerlift.progress import QUIET, Progress
from layerlift.scenes import Scene, make_scene
from layerlift.stages.removal import RemovalOptions, remove_frames

if TYPE_CHECKING:
    from layerlift.device import Policy
    from layerlift.model import Model

TELEA_RADIUS = 3  # pixels


def quality_tables(
    seeds: Sequence[int],
    model: Model,
    policy: Policy,
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 17,
    options: RemovalOptions | None = None,
    progress: Progress = QUIET,
) -> list[Table]:
    """Measure on the scenes of `seeds` with the true total mask; PSNR in decibels, capped at 50 a scene.

    Returns two tables: removal, inside the mask; and the VAE on the true clean plates, over the whole picture.
    """
    options = options or RemovalOptions()
    columns = scene_columns(seeds)
    inside, whole = Table("PSNR inside the mask", columns), Table("PSNR of the whole picture", columns)
    with progress.stage("scenes", len(seeds)) as bar:
        for seed in seeds:
            scene = make_scene(seed, *size, frames)
            mask, truth = scene.total_mask, scene.background
            decoded = through_vae(truth, model, policy)
            results = {
                "input": scene.video,
                "OpenCV Telea per frame": telea(scene.video, mask),
                "temporal median": temporal_median(scene.video, mask),
                "removal": removal(scene, model, policy, options),
                "VAE of the clean plate": decoded,
            }
            for name, result in results.items():
                inside.add(name, seed, psnr(result, truth, mask))
            whole.add("VAE of the clean plate", seed, psnr(decoded, truth))
            bar.advance()
    return [inside, whole]


def removal(scene: Scene, model: Model, policy: Policy, options: RemovalOptions) -> np.ndarray:
    """The clean plate (F, H, W, 3) uint8 that removal makes of a scene and its true total mask."""
    return np.stack(list(remove_frames(scene.video, scene.total_mask, options, model=model, policy=policy)))


def telea(video: np.ndarray, mask: np.ndarray) -> np.ndarray:
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
    still = telea(median.filled(0).round().astype(np.uint8)[None], never[None])[0]
    return np.where(mask[..., None], still, video)


@torch.no_grad()
def through_vae(video: np.ndarray, model: Model, policy: Policy) -> np.ndarray:
    """What the VAE makes of a clip (F, H, W, 3) uint8 that fills whole tokens: the most a removal can reach."""
    settings = model.settings
    with model.vae_encoder(policy) as vae:
        latents = encode(vae, video)
    with model.vae_decoder(policy) as vae:
        generator = torch.Generator().manual_seed(0)
        frames = decode(vae, latents, generator, settings.decode_timestep, settings.decode_noise)
        return np.stack([np.rint(frame).astype(np.uint8) for frame in frames])
