"""The denoising loop: noise becomes the part of a video that is unknown, step by step, led by the part that is known.

There is one loop for every stage. Removal starts from pure noise (`sigmas[0] = 1`) with known tokens; refining a
composition starts from noised latents (`sigmas[0] < 1`) with every token unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from layerlift.errors import LayerliftError
from layerlift.model.passes import TRAIN_TIMESTEPS, Loops, open_loops, predict_velocity
from layerlift.model.speed import PLAIN, Speed
from layerlift.progress import StageProgress

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.fit import Geometry

__all__ = [
    "PLAIN", "TRAIN_TIMESTEPS", "Prompts", "SamplingSettings", "Speed", "denoise", "open_denoising",
    "predict_velocity", "token_coordinates",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """The knobs of the loop.

    Attributes:
        sigmas: noise levels from the first to the last, descending, ending in 0.
        guidance: how far to lead from the negative prompt to the prompt; 1 follows the prompt alone at half the cost.
        stochastic: draw fresh noise after every step instead of following one path (0.9.6-distilled).
        cond_noise: known tokens are shown with `cond_noise·sigma²` of noise, which helps motion go on from them.
    """

    sigmas: tuple[float, ...]
    guidance: float = 1.0
    stochastic: bool = False
    cond_noise: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


@dataclass(frozen=True, slots=True)
class Prompts:
    """What to lead to and from: text embeddings of n prompts, embeds (n, L, D) and mask (n, L), 1 where there is text.

    With guidance n is 2, the negative prompt first. `together` runs both in one pass; one after the other needs half
    the memory for activations.
    """

    embeds: torch.Tensor
    mask: torch.Tensor
    together: bool = False

    def batches(self, like: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The passes to make, each (embeds (b, L, D), mask (b, L)) on the device and in the dtype of `like`."""
        size = len(self.embeds) if self.together else 1
        return list(zip(self.embeds.to(like).split(size), self.mask.to(like).split(size), strict=True))


@contextmanager
def open_denoising(
    transformer: LTXVideoTransformer3DModel, prompts: Prompts, settings: SamplingSettings, speed: Speed = PLAIN
) -> Iterator[Loops]:
    """What calls of `denoise` with these very arguments can share: everything that is not a window's own."""
    with torch.no_grad():
        batches = prompts.batches(like=transformer.proj_in.weight)
        with open_loops(transformer, batches, sigmas=settings.sigmas, speed=speed) as loops:
            yield loops


@torch.no_grad()
def denoise(
    transformer: LTXVideoTransformer3DModel,
    latents: torch.Tensor,
    unknown: torch.Tensor,
    prompts: Prompts,
    coordinates: torch.Tensor,
    *,
    settings: SamplingSettings,
    generator: torch.Generator,
    progress: StageProgress,
    speed: Speed = PLAIN,
    loops: Loops | None = None,
) -> torch.Tensor:
    """Generate the unknown tokens of `latents`.

    Args:
        transformer: predicts the velocity `noise − x0` of every token; its weights decide device and dtype.
        latents: (1, C, f, h, w), normalised; known tokens are taken from it, and what unknown ones hold matters only
            when `settings.sigmas` begins below 1.
        unknown: (f, h, w) bool.
        prompts: two with guidance, else one.
        coordinates: (1, 3, S), see `token_coordinates`.
        settings: noise levels and guidance.
        generator: a CPU generator, so that a seed gives the same noise on every device.
        progress: advanced by one for every step.
        speed: how the passes are run; by default every token in every step, with nothing kept between them.
        loops: what calls share that differ in nothing but the window, see `open_denoising`; None shares nothing.

    Returns:
        (1, C, f, h, w) float32 on the CPU; known tokens are those of `latents`, bit for bit.

    Raises:
        LayerliftError: the model returned NaN or infinity.
    """
    weight = transformer.proj_in.weight
    device = weight.device
    coordinates = coordinates.to(device)

    # 1. From latents to tokens: (1, C, f, h, w) → (1, S, C), S = f·h·w.
    noise = torch.randn(latents.shape, generator=generator)
    clip = latents.float().flatten(2).transpose(1, 2).to(device)
    noise = noise.flatten(2).transpose(1, 2).to(device)
    moving = unknown.flatten()[None, :, None].to(device)  # (1, S, 1)

    # 2. Unknown tokens start from noise, known ones are the clip's.
    sigmas = settings.sigmas
    tokens = torch.where(moving, (1 - sigmas[0]) * clip + sigmas[0] * noise, clip)

    with nullcontext(loops) if loops else open_denoising(transformer, prompts, settings, speed) as opened:
        predict = opened.over(coordinates, moving[0, :, 0])
        for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
            # 3.1 Known tokens may be shown with a little noise, so that the model does not take them for frozen.
            if settings.cond_noise > 0:
                noise = torch.randn(clip.shape, generator=generator).to(device)
                tokens = torch.where(moving, tokens, clip + settings.cond_noise * sigma**2 * noise)

            # 3.2 Which way is noise? Every token carries its own timestep: unknown ones the step's, known ones 0.
            velocity = predict(tokens, step)  # (n, S, C)

            # 3.3 Guidance goes from where the negative prompt points past where the prompt does.
            if settings.guidance != 1:
                without, towards = velocity.chunk(2)
                velocity = without + settings.guidance * (towards - without)
            if not torch.isfinite(velocity).all():
                raise LayerliftError(
                    f"the model returned NaN or infinity in step {step + 1}: its weights are damaged or "
                    f"{weight.dtype} overflows on {device.type}; try --dtype float32"
                )

            # 3.4 Take the step, with the unknown tokens only.
            if settings.stochastic and sigma_next > 0:
                noise = torch.randn(clip.shape, generator=generator).to(device)
                stepped = (1 - sigma_next) * (tokens - sigma * velocity) + sigma_next * noise
            else:
                stepped = tokens + (sigma_next - sigma) * velocity
            tokens = torch.where(moving, stepped, tokens)
            progress.advance()

    # 4. Back to latents; known tokens without the noise they were shown with.
    tokens = torch.where(moving, tokens, clip)
    return tokens.transpose(1, 2).unflatten(2, tuple(latents.shape[2:])).cpu()


def token_coordinates(shape: Sequence[int], geometry: Geometry, rate: Fraction | float) -> torch.Tensor:
    """Where each token of latents (1, C, f, h, w) lies: (1, 3, S) float32, rows seconds, pixel row, pixel column.

    As diffusers' `LTXConditionPipeline` does: the first frame a token covers, which is 0 for latent frame 0 (it covers
    one frame alone) and `time·(i − 1) + 1` for latent frame i, over the frame rate.
    """
    f, h, w = shape[-3:]
    frame = (torch.arange(f) * geometry.time + 1 - geometry.time).clamp(min=0).float() * (1.0 / float(rate))
    row = torch.arange(h).float() * geometry.space
    column = torch.arange(w).float() * geometry.space
    return torch.stack(torch.meshgrid(frame, row, column, indexing="ij")).flatten(1)[None]  # (3, f, h, w) → (1, 3, S)
