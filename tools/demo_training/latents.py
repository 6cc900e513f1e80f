"""Between batches of clips and latents on one device; the package's `model.latents` does one clip at a time."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor

from demo_training.schedule import autocast
from layerlift.engine.model.latents import denormalize, normalize


def to_model(frames: Tensor) -> Tensor:
    """(B, F, 3, H, W) in [0, 1] → (B, 3, F, H, W) in [-1, 1]."""
    return frames.transpose(1, 2) * 2 - 1


@torch.no_grad()
def encode(vae: AutoencoderKLLTXVideo, clips: Tensor) -> Tensor:
    """(B, 3, F, H, W) in [-1, 1] → normalised latents (B, C, f, h, w)."""
    with autocast(clips.device.type):
        latents = vae.encode(clips).latent_dist.mean.float()
    return normalize(vae, latents)


@torch.no_grad()
def decode(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """Normalised latents (B, C, f, h, w) → (B, 3, F, H, W), about [-1, 1]."""
    with autocast(latents.device.type):
        clips: Tensor = vae.decode(denormalize(vae, latents)).sample.float()
    return clips


def pack(latents: Tensor) -> Tensor:
    """(B, C, f, h, w) → (B, S, C), contiguous: a compiled transformer is compiled anew for other strides."""
    return latents.flatten(2).transpose(1, 2).contiguous()
