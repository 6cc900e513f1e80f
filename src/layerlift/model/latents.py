"""Between frames and latents: the VAE's two directions, and which tokens of a clip are unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from layerlift.errors import LayerliftError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

    from layerlift.fit import Geometry

# How far the VAE's receptive field leaks a masked pixel, in tokens: growing the unknown tokens by one took the demo
# model's first sketch from 16.4 to 20.4 dB inside the mask, where its VAE could reach 20.7.
LEAK_TOKENS = 1


@torch.no_grad()
def encode(vae: AutoencoderKLLTXVideo, frames: np.ndarray) -> torch.Tensor:
    """Frames (F, H, W, 3) uint8 → normalised latents (1, C, f, h, w), float32 on the CPU.

    F is 1 + k·time, H and W are multiples of space. The mode of the posterior, not a sample: encoding the same frames
    twice gives the same latents.
    """
    weight = next(vae.encoder.parameters())
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]  # (F, H, W, 3) → (1, 3, F, H, W)
    video = video.to(weight.device).float() / 127.5 - 1
    latents = normalize(vae, vae.encode(video.to(weight.dtype)).latent_dist.mode().float().cpu())
    _check_finite(latents, "encoder", weight)
    return latents


@torch.no_grad()
def decode(
    vae: AutoencoderKLLTXVideo,
    latents: torch.Tensor,
    generator: torch.Generator,
    timestep: float | None = None,
    noise: float | None = None,
) -> Iterator[np.ndarray]:
    """Normalised latents (1, C, f, h, w) → frames, one by one, each (H, W, 3) float32 in 0 … 255.

    A VAE with timestep conditioning takes the last denoising step itself: it is given latents with `noise` of noise
    (default: as much as `timestep`), drawn from the CPU `generator`, and told the `timestep` (a sigma).
    """
    weight = next(vae.decoder.parameters())
    latents = denormalize(vae, latents)
    temb = None
    if vae.config.timestep_conditioning:
        timestep = timestep or 0.0
        noise = timestep if noise is None else noise
        latents = (1 - noise) * latents + noise * torch.randn(latents.shape, generator=generator)
        temb = torch.tensor([timestep], device=weight.device, dtype=weight.dtype)
    video = vae.decode(latents.to(weight), temb, return_dict=False)[0][0].cpu()  # (3, F, H, W)
    _check_finite(video, "decoder", weight)
    return (((frame.float() + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy() for frame in video.unbind(1))


def normalize(vae: AutoencoderKLLTXVideo, latents: torch.Tensor) -> torch.Tensor:
    """Raw latents (B, C, f, h, w) → zero mean and unit variance per channel, as the transformer knows them."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) * vae.config.scaling_factor / std


def denormalize(vae: AutoencoderKLLTXVideo, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalize`."""
    mean, std = _statistics(vae, latents)
    return latents * std / vae.config.scaling_factor + mean


def unknown_tokens(mask: np.ndarray, geometry: Geometry, grow: int = LEAK_TOKENS) -> torch.Tensor:
    """Which tokens of a window must be generated: (F, H, W) bool pixels → (f, h, w) bool.

    A token is unknown when any pixel it covers is masked, or lies within `grow` tokens of such a one in its frame.
    Latent frame 0 covers frame 0 alone, latent frame i frames time·(i − 1) + 1 … time·i.
    """
    frames, height, width = mask.shape
    space, time = geometry.space, geometry.time
    pixels = torch.from_numpy(mask).view(frames, height // space, space, width // space, space)
    cells = pixels.amax((2, 4))  # (F, h, w)
    later = cells[1:].view(-1, time, *cells.shape[1:]).amax(1)  # (f - 1, h, w)
    unknown = torch.cat([cells[:1], later])
    if grow > 0:
        unknown = F.max_pool2d(unknown[:, None].float(), 2 * grow + 1, stride=1, padding=grow)[:, 0] > 0
    return unknown


def _statistics(vae: AutoencoderKLLTXVideo, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's per-channel mean and standard deviation, (1, C, 1, 1, 1)."""
    return vae.latents_mean.view(1, -1, 1, 1, 1).to(like), vae.latents_std.view(1, -1, 1, 1, 1).to(like)


def _check_finite(values: torch.Tensor, part: str, weight: torch.Tensor) -> None:
    if not torch.isfinite(values).all():
        raise LayerliftError(
            f"the VAE's {part} returned NaN or infinity: its weights are damaged or {weight.dtype} overflows on "
            f"{weight.device.type}; try --dtype float32"
        )
