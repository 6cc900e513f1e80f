"""The denoising loop in MLX: that of `layerlift.engine.sampling`, with the same noise."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from layerlift.engine.base import SamplingSettings
from layerlift.engine.mlx.arrays import all_finite, from_torch, to_numpy
from layerlift.engine.mlx.passes import Loops
from layerlift.errors import PrecisionError
from layerlift.progress import StageProgress

if TYPE_CHECKING:
    import torch


def draw(shape: Sequence[int], noise: "torch.Generator") -> Any:
    """Normal noise of a shape, the same as the torch engine draws: from the source's own generator on the CPU."""
    import torch

    return from_torch(torch.randn(tuple(shape), generator=noise))


def denoise(
    loops: Loops,
    latents: np.ndarray,
    unknown: np.ndarray,
    coordinates: "torch.Tensor",
    *,
    settings: SamplingSettings,
    noise: Any,
    progress: StageProgress,
) -> np.ndarray:
    """Generate the unknown tokens of `latents`.

    Args:
        loops: the transformer with its prompts, two with guidance, the negative one first.
        latents: (1, C, f, h, w) float32, normalised.
        unknown: (f, h, w) bool.
        coordinates: (1, 3, S).
        settings: noise levels and guidance.
        noise: a source of noise.
        progress: advanced by one for every step.

    Returns:
        (1, C, f, h, w) float32; known tokens are those of `latents`, bit for bit.

    Raises:
        PrecisionError: the model returned NaN or infinity.
    """
    # 1. From latents to tokens: (1, C, f, h, w) → (1, S, C), S = f·h·w.
    clip, start = _tokens(mx.array(latents)), _tokens(draw(latents.shape, noise))
    moving = mx.array(unknown.reshape(1, -1, 1))

    # 2. Unknown tokens start from noise, known ones are the clip's.
    sigmas = settings.sigmas
    tokens = mx.where(moving, (1 - sigmas[0]) * clip + sigmas[0] * start, clip)

    predict = loops.over(coordinates, unknown.ravel())
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        # 3.1 Known tokens may be shown with a little noise, so that the model does not take them for frozen.
        if settings.cond_noise > 0:
            tokens = mx.where(moving, tokens, clip + settings.cond_noise * sigma**2 * draw(clip.shape, noise))

        # 3.2 Which way is noise?
        velocity = predict(tokens, step)  # (n, S, C)

        # 3.3 Guidance goes from where the negative prompt points past where the prompt does.
        if settings.guidance != 1:
            without, towards = mx.split(velocity, 2)
            velocity = without + settings.guidance * (towards - without)
        if not all_finite(velocity):
            raise PrecisionError(
                f"the model returned NaN or infinity in step {step + 1}: its weights are damaged or "
                f"{loops.transformer.dtype} overflows; try --dtype float32"
            )

        # 3.4 Take the step, with the unknown tokens only.
        if settings.stochastic and sigma_next > 0:
            stepped = (1 - sigma_next) * (tokens - sigma * velocity) + sigma_next * draw(clip.shape, noise)
        else:
            stepped = tokens + (sigma_next - sigma) * velocity
        tokens = mx.where(moving, stepped, tokens)
        mx.eval(tokens)
        progress.advance()

    # 4. Back to latents; known tokens without the noise they were shown with, and bit for bit what they were.
    made = np.moveaxis(to_numpy(tokens), 2, 1).reshape(latents.shape)
    return np.where(unknown, made, latents)


def _tokens(latents: Any) -> Any:
    """(1, C, f, h, w) → (1, S, C)."""
    return latents.reshape(*latents.shape[:2], -1).transpose(0, 2, 1)
