"""Figures of a run on the benchmark's scenes, measured where it ran; `layerlift bench quality` measures the package."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from torch import Tensor

from demo_training.architecture import (
    BENCHMARK_SEED,
    EMPTY,
    FRAMES,
    NOTHING,
    OBJECTS,
    PROMPTS,
    RATE,
    SETTINGS,
    TEXT_TOKENS,
    Architecture,
    Run,
)
from demo_training.latents import decode, encode, pack, to_model
from demo_training.log import Log
from demo_training.schedule import autocast
from layerlift.engine.model.latents import unknown_tokens
from layerlift.engine.sampling import TRAIN_TIMESTEPS, token_coordinates
from layerlift.engine.schedule import shifted_linear
from layerlift.metrics import PSNR_CAP
from layerlift.scenes import draw, render

SCENES_AT_ONCE = 4
# (steps, guidance, index of the negative prompt)
TRIED = (
    (4, 1.0, OBJECTS),
    (8, 1.0, OBJECTS),
    (12, 1.0, OBJECTS),
    (20, 1.0, OBJECTS),
    (12, 1.5, OBJECTS),
    (12, 2.0, OBJECTS),
    (12, 3.0, OBJECTS),
    (12, 2.0, NOTHING),
)


def psnr(picture: Tensor, truth: Tensor) -> float:
    """Decibels between values in [-1, 1], of any shape."""
    error = ((picture.clamp(-1, 1) - truth) / 2).square().mean().item()
    return -10 * math.log10(error + 1e-12)


@torch.no_grad()
def evaluate_vae(vae: AutoencoderKLLTXVideo, run: Run) -> dict[str, float]:
    """PSNR of true clean plates through the VAE: the mean over scenes, and the worst scene."""
    values = []
    for seed in range(BENCHMARK_SEED, BENCHMARK_SEED + run.scenes):
        clip = to_model(render([draw(seed)], *run.size, FRAMES, run.device).background)
        with autocast(run.device):
            decoded = vae.decode(vae.encode(clip).latent_dist.mean).sample.float()
        values.append(min(PSNR_CAP, psnr(decoded, clip)))
    return {"vae_psnr": sum(values) / len(values), "worst": min(values)}


@torch.no_grad()
def evaluate_removal(
    model: LTXVideoTransformer3DModel, vae: AutoencoderKLLTXVideo, text: Tensor, run: Run, log: Log
) -> None:
    """PSNR inside the total mask for several settings, a row of the log each; and `removal.png`, a scene a row."""
    specs = [draw(seed) for seed in range(BENCHMARK_SEED, BENCHMARK_SEED + run.scenes)]
    table: dict[str, list[float]] = {}
    strips = []
    for i in range(0, len(specs), SCENES_AT_ONCE):
        batch = render(specs[i : i + SCENES_AT_ONCE], *run.size, FRAMES, run.device)
        clip, clean = to_model(batch.video), to_model(batch.background)
        pixels = (batch.object_mask | batch.effect_mask).any(1)  # (B, F, H, W)
        geometry = run.architecture.geometry
        unknown = torch.stack([unknown_tokens(mask.cpu().numpy(), geometry) for mask in pixels]).to(run.device)
        latents = encode(vae, clip)
        results = {"input": clip, "vae ceiling": decode(vae, encode(vae, clean))}
        for steps, guidance, negative in TRIED:
            against = "" if guidance == 1 else f" against {PROMPTS[negative]!r}"
            made = sample(
                model, latents, unknown, text, run.architecture, steps=steps, guidance=guidance, negative=negative
            )
            results[f"{steps} steps, guidance {guidance:g}{against}"] = decode(vae, made)
        for name, result in results.items():
            for b in range(len(clip)):
                where = pixels[b].expand(3, -1, -1, -1)
                table.setdefault(name, []).append(min(PSNR_CAP, psnr(result[b][where], clean[b][where])))
        strips.append(torch.cat([result[0, :, FRAMES // 2] for result in results.values()], -1))  # (3, H, n·W)
    kinds = [spec.kind.value for spec in specs]
    for name, values in table.items():
        of_kind = {k: [v for v, kk in zip(values, kinds, strict=True) if kk == k] for k in dict.fromkeys(kinds)}
        means = {kind: round(sum(found) / len(found), 2) for kind, found in of_kind.items()}
        log(event="removal", row=name, psnr=sum(values) / len(values), **means)

    from PIL import Image

    picture = ((torch.cat(strips, -2).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0)
    Image.fromarray(picture.cpu().numpy()).save(run.out / "removal.png")


@torch.no_grad()
def sample(
    model: LTXVideoTransformer3DModel,
    latents: Tensor,
    unknown: Tensor,
    text: Tensor,
    architecture: Architecture,
    *,
    steps: int,
    guidance: float,
    negative: int,
) -> Tensor:
    """Removal of a batch: latents (B, C, f, h, w), unknown (B, f, h, w) bool, text (P, L, D).

    `layerlift.engine.sampling.denoise` takes one clip at a time and brings it back to the CPU: eight settings of 32
    scenes would take minutes of a GPU.
    """
    shape = tuple(latents.shape[2:])
    known, moving = pack(latents), unknown.flatten(1)[..., None]
    count, device = len(known), latents.device
    noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(0)).to(device)
    coordinates = token_coordinates(shape, architecture.geometry, RATE).to(device).expand(count, -1, -1)
    mask = torch.ones(count, TEXT_TOKENS, device=device)

    def flow(tokens: Tensor, sigma: float, prompt: int) -> Tensor:
        with autocast(device.type):
            found: Tensor = model(
                hidden_states=tokens,
                encoder_hidden_states=text[prompt : prompt + 1].expand(count, -1, -1),
                timestep=torch.where(moving[..., 0], sigma * TRAIN_TIMESTEPS, 0.0),
                encoder_attention_mask=mask,
                video_coords=coordinates,
                return_dict=False,
            )[0]
        return found.float()

    tokens = torch.where(moving, noise, known)
    for sigma, sigma_next in pairwise(shifted_linear(steps, SETTINGS["shift"])):
        velocity = flow(tokens, sigma, EMPTY)
        if guidance != 1:
            without = flow(tokens, sigma, negative)
            velocity = without + guidance * (velocity - without)
        tokens = torch.where(moving, tokens + (sigma_next - sigma) * velocity, tokens)
    return tokens.transpose(1, 2).unflatten(2, shape)  # (B, S, C) → (B, C, f, h, w)
