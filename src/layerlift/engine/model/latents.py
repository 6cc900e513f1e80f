"""Between frames and latents: the VAE's two directions, and which tokens of a clip are unknown."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from layerlift.engine.model.vae_stream import decode_stream, encode_stream, frames_at_once
from layerlift.errors import PrecisionError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

    from layerlift.geometry.fit import Geometry

# How far the VAE's receptive field leaks a masked pixel, in tokens: growing the unknown tokens by one took the demo
# model's first sketch from 16.4 to 20.4 dB inside the mask, where its VAE could reach 20.7.
LEAK_TOKENS = 1


@torch.no_grad()
def encode(vae: AutoencoderKLLTXVideo, frames: np.ndarray) -> torch.Tensor:
    """Frames (F, H, W, 3) uint8 → normalised latents (1, C, f, h, w), float32 on the CPU.

    F is 1 + k·time, H and W are multiples of space. The mode of the posterior, not a sample: encoding the same frames
    twice gives the same latents.
    """
    return encode_on_device(vae, frames).cpu()


@torch.no_grad()
def encode_on_device(vae: AutoencoderKLLTXVideo, frames: np.ndarray) -> torch.Tensor:
    """`encode`, leaving the latents where the VAE is."""
    device, dtype = _runs_in(vae)

    def pieces(length: int) -> Iterator[torch.Tensor]:
        for start in range(0, len(frames), length):
            piece = torch.from_numpy(frames[start : start + length])
            piece = piece.to(device).permute(3, 0, 1, 2)[None]  # (F, H, W, 3) → (1, 3, F, H, W)
            yield (piece.float() / 127.5 - 1).to(dtype)

    length = frames_at_once(vae)
    if length is None:
        (video,) = pieces(len(frames))
        mode = vae.encode(video).latent_dist.mode()
    else:
        # The mode of the posterior is its mean: the first half of the channels.
        mode = torch.cat([piece.chunk(2, dim=1)[0] for piece in encode_stream(vae.encoder, pieces(length))], dim=2)
    latents = normalize(vae, mode.float())
    _check_finite(latents, "encoder", vae)
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
    # `map` lets go of what lies on the device before the frames are handed out.
    videos = map(torch.Tensor.cpu, _videos(vae, latents, generator, timestep, noise))
    return (frame.numpy() for frame in _frames(vae, videos))


@torch.no_grad()
def decode_on_device(
    vae: AutoencoderKLLTXVideo,
    latents: torch.Tensor,
    generator: torch.Generator,
    timestep: float | None = None,
    noise: float | None = None,
) -> Iterator[torch.Tensor]:
    """`decode`, leaving the frames (H, W, 3) float32 on the VAE's device."""
    return _frames(vae, _videos(vae, latents, generator, timestep, noise))


def _videos(
    vae: AutoencoderKLLTXVideo,
    latents: torch.Tensor,
    generator: torch.Generator,
    timestep: float | None,
    noise: float | None,
) -> Iterator[torch.Tensor]:
    """What the decoder makes of normalised latents, in pieces (1, 3, n, H, W), about -1 … 1."""
    device, dtype = _runs_in(vae)
    latents = denormalize(vae, latents)
    temb = None
    if vae.config.timestep_conditioning:
        timestep = timestep or 0.0
        noise = timestep if noise is None else noise
        latents = (1 - noise) * latents + noise * torch.randn(latents.shape, generator=generator)
        temb = torch.tensor([timestep], device=device, dtype=dtype)
    latents = latents.to(device, dtype)
    length = frames_at_once(vae)
    # A decoder that injects noise (0.9.1) draws it from the device's generator, whose seed is nobody's: not here.
    if length is None and any(vae.config.decoder_inject_noise):
        length = 1 + (latents.shape[2] - 1) * vae.temporal_compression_ratio
    if length is None:
        return map(partial(_decode_whole, vae, temb), [latents])
    given = latents.split(max(1, length // vae.temporal_compression_ratio), dim=2)
    return decode_stream(vae.decoder, given, temb, length, generator)


def _decode_whole(vae: AutoencoderKLLTXVideo, temb: torch.Tensor | None, latents: torch.Tensor) -> torch.Tensor:
    video: torch.Tensor = vae.decode(latents, temb, return_dict=False)[0]
    return video


@torch.no_grad()
def _frames(vae: AutoencoderKLLTXVideo, videos: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Pieces (1, 3, n, H, W) in [-1, 1] → frames (H, W, 3) float32 in 0 … 255, one by one."""
    for piece in videos:
        _check_finite(piece, "decoder", vae)
        _check_picture(piece, vae)
        for frame in piece[0].unbind(1):
            yield ((frame.float() + 1) * 127.5).clamp(0, 255).permute(1, 2, 0)


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


def _runs_in(vae: AutoencoderKLLTXVideo) -> tuple[torch.device, torch.dtype]:
    """Where the VAE computes, and in what: the dtype of its biases, since its weights may be kept in a smaller one."""
    part = vae.decoder if vae.encoder is None else vae.encoder
    bias = part.conv_out.conv.bias
    return bias.device, bias.dtype


def _check_finite(values: torch.Tensor, part: str, vae: AutoencoderKLLTXVideo) -> None:
    if not torch.isfinite(values).all():
        device, dtype = _runs_in(vae)
        raise PrecisionError(
            f"the VAE's {part} returned NaN or infinity: its weights are damaged or {dtype} overflows on "
            f"{device.type}; try --dtype float32"
        )


def _check_picture(piece: torch.Tensor, vae: AutoencoderKLLTXVideo) -> None:
    """Some backends answer with a single colour and no error (LTX-Desktop #165); no decoder makes that of a picture,
    be it black: its borders differ."""
    pixels = piece[0].flatten(2)  # (3, F, H·W)
    if pixels.shape[2] > 1 and ((pixels.amax(2) - pixels.amin(2)).amax(0) == 0).any():
        device, dtype = _runs_in(vae)
        raise PrecisionError(
            f"the VAE's decoder returned a frame of a single colour, which {device.type} does when it fails in "
            f"{dtype}; try --dtype float32 or --device cpu"
        )
