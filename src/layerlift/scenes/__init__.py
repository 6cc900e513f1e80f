"""Procedural clips whose truth is known: video, clean plate, and every object's own layer.

Rendering needs torch and numpy only. `render` draws a batch for training, `make_scene` one scene as 8-bit frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerlift.scenes.render import RenderedBatch, render
from layerlift.scenes.spec import Effect, Kind, RenderedSpec, SceneSpec, draw

__all__ = ["Effect", "Kind", "RenderedBatch", "RenderedSpec", "Scene", "SceneSpec", "draw", "make_scene", "render"]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene as 8-bit frames; F frames, N objects (1 or 2) ordered back to front."""

    spec: SceneSpec | RenderedSpec
    video: np.ndarray  # (F, H, W, 3) uint8
    background: np.ndarray  # (F, H, W, 3) uint8, the true clean plate
    object_masks: np.ndarray  # (N, F, H, W) bool
    effect_masks: np.ndarray  # (N, F, H, W) bool, what an object causes, without the object's own mask
    layers: np.ndarray  # (N, F, H, W, 4) uint8 RGBA, straight alpha
    object_alphas: np.ndarray  # (N, F, H, W) float32 in [0, 1]
    effect_alphas: np.ndarray  # (N, F, H, W) float32 in [0, 1]

    @property
    def object_mask(self) -> np.ndarray:
        """Union of the object masks (F, H, W) bool."""
        return np.logical_or.reduce(self.object_masks)

    @property
    def total_mask(self) -> np.ndarray:
        """Objects and effects (F, H, W) bool."""
        return np.logical_or(self.object_mask, self.effect_masks.any(0))


def make_scene(seed: int, width: int = 288, height: int = 192, frames: int = 17) -> Scene:
    """Render the scene of `seed` on the CPU. The same seed gives the same clip (± 1/255 between machines)."""
    if width < 16 or height < 16 or frames < 1:
        raise ValueError(f"a scene of {width}x{height} and {frames} frames: expected at least 16x16 and 1 frame")
    spec = draw(seed)
    batch = render([spec], width, height, frames)
    there = slice(len(batch.object_mask[0]) - spec.object_count, None)  # back to front: an absent one comes first

    def to_bytes(values: object) -> np.ndarray:
        return np.rint(np.asarray(values, dtype=np.float32) * 255).clip(0, 255).astype(np.uint8)

    colour = batch.layer_colour[0, there].permute(0, 1, 3, 4, 2).numpy()  # (N, F, 3, H, W) → (N, F, H, W, 3)
    alpha = batch.layer_alpha[0, there].numpy()
    return Scene(
        spec=spec,
        video=to_bytes(batch.video[0].permute(0, 2, 3, 1)),  # (F, 3, H, W) → (F, H, W, 3)
        background=to_bytes(batch.background[0].permute(0, 2, 3, 1)),
        object_masks=batch.object_mask[0, there].numpy(),
        effect_masks=batch.effect_mask[0, there].numpy(),
        layers=np.concatenate([to_bytes(colour), to_bytes(alpha)[..., None]], -1),
        object_alphas=batch.object_alpha[0, there].numpy(),
        effect_alphas=batch.effect_alpha[0, there].numpy(),
    )
