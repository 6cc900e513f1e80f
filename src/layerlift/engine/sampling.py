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
from math import prod
from typing import TYPE_CHECKING

import torch

from layerlift.engine.base import SamplingSettings
from layerlift.engine.model.passes import TRAIN_TIMESTEPS, Loops, open_loops, predict_velocity
from layerlift.engine.model.speed import PLAIN, Speed
from layerlift.errors import PrecisionError
from layerlift.geometry.fit import token_places
from layerlift.progress import StageProgress

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.engine.model.split import SplitLoops
    from layerlift.geometry.fit import Geometry

__all__ = [
    "PLAIN", "TRAIN_TIMESTEPS", "Prompts", "SamplingSettings", "Speed", "denoise", "draw_noise",
    "open_denoising", "predict_velocity", "token_coordinates",
]  # fmt: skip


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
    transformer: LTXVideoTransformer3DModel,
    prompts: Prompts,
    settings: SamplingSettings,
    speed: Speed = PLAIN,
    *,
    only: int | None = None,
) -> Iterator[Loops]:
    """What calls of `denoise` with these very arguments can share: everything that is not a window's own.

    `only`: the one pass of `prompts.batches` that this transformer makes, if another one makes the others.
    """
    with torch.no_grad():
        batches = prompts.batches(like=transformer.proj_in.weight)
        with open_loops(transformer, batches, sigmas=settings.sigmas, speed=speed, only=only) as loops:
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
    loops: Loops | SplitLoops | None = None,
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
                raise PrecisionError(
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


def draw_noise(shape: Sequence[int], settings: SamplingSettings, generator: torch.Generator) -> None:
    """Draw what `denoise` draws for latents of a shape (1, C, f, h, w)."""
    torch.randn(tuple(shape), generator=generator)
    tokens = shape[0], prod(shape[2:]), shape[1]
    for sigma_next in settings.sigmas[1:]:
        if settings.cond_noise > 0:
            torch.randn(tokens, generator=generator)
        if settings.stochastic and sigma_next > 0:
            torch.randn(tokens, generator=generator)


def token_coordinates(shape: Sequence[int], geometry: Geometry, rate: Fraction | float) -> torch.Tensor:
    """`token_places` as the transformer takes them: (1, 3, S) float32 for latents (1, C, f, h, w)."""
    return torch.from_numpy(token_places(shape, geometry, rate)).flatten(1)[None]
