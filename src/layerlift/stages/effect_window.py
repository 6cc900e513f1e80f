"""Effects in one window of frames, from frames in memory to masks: the whole way on the device.

Only the scores of a grid of cells leave it in between, to be sorted into effects and noise. Needs torch, numpy and
scipy; neither OpenCV nor PyAV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerlift.device import Policy
from layerlift.fit import Geometry
from layerlift.model.latents import encode_on_device
from layerlift.sampling import token_coordinates
from layerlift.stages.effect_pixels import (
    Decision,
    draw_effects,
    keep_effects,
    scores_of_frames,
    smooth_in_time,
)
from layerlift.stages.effect_score import Coverage, Scorer, cover_tokens, score_tokens

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel


@dataclass(frozen=True, slots=True)
class Look:
    """How the model is asked.

    Attributes:
        scorer: how heads are weighed.
        sigmas: noise levels; the passes are averaged.
        text: embeddings (1, L, D) and mask (1, L) of the prompt.
        geometry: of the model.
        rate: frames per second the model is told.
        policy: how the backend wants attention to be run.
    """

    scorer: Scorer
    sigmas: Sequence[float]
    text: tuple[torch.Tensor, torch.Tensor]
    geometry: Geometry
    rate: float
    policy: Policy


def score_frames(
    transformer: LTXVideoTransformer3DModel,
    latents: torch.Tensor,
    coverage: Coverage,
    look: Look,
    generator: torch.Generator,
) -> torch.Tensor:
    """Scores of a window's frames: latents (1, C, f, h, w) → (n, F, h, w) float32."""
    scores = score_tokens(
        transformer,
        latents,
        coverage,
        look.text,
        token_coordinates(latents.shape, look.geometry, look.rate),
        scorer=look.scorer,
        sigmas=look.sigmas,
        generator=generator,
        policy=look.policy,
    )
    time = look.geometry.time
    return scores_of_frames(scores, coverage.hidden.to(scores.device), 1 + time * (scores.shape[1] - 1), time)


def cells_of_frames(objects: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Cells that each object touches: (n, F, H, W) bool, sides in whole tokens → (n, F, h, w) bool."""
    n, frames, height, width = objects.shape
    space = geometry.space
    return objects.view(n, frames, height // space, space, width // space, space).any(5).any(3)


@torch.no_grad()
def find_in_window(
    vae: AutoencoderKLLTXVideo,
    transformer: LTXVideoTransformer3DModel,
    frames: np.ndarray,
    objects: np.ndarray,
    *,
    look: Look,
    decision: Decision,
    temporal_radius: int,
    seed: int = 0,
) -> np.ndarray:
    """What each object causes, in a clip of the model's own size and length.

    Args:
        vae, transformer: with their weights on the device.
        frames: (F, H, W, 3) uint8, 1 + k·time frames, sides in whole tokens.
        objects: (n, F, H, W) bool.
        look, decision: see there.
        temporal_radius: frames to either side over which scores are smoothed.
        seed: of the noise.

    Returns:
        (n, F, H, W) bool, on the host; free of every object.
    """
    device = next(transformer.parameters()).device
    latents = encode_on_device(vae, frames)
    masks = torch.from_numpy(objects).to(device)
    coverage = cover_tokens(masks, look.geometry)
    scores = score_frames(transformer, latents, coverage, look, torch.Generator().manual_seed(seed))
    scores = smooth_in_time(scores, temporal_radius)

    covered = cells_of_frames(masks, look.geometry)
    side = float(look.geometry.space)
    kept = keep_effects(scores.cpu().numpy(), covered.cpu().numpy(), decision, side)

    pixels = torch.from_numpy(frames).to(device)
    effects = draw_effects(pixels, masks, torch.from_numpy(kept).to(device), decision, side=(side, side))
    return effects.cpu().numpy()
