"""Training the transformer: flow matching on the unknown tokens of encoded scenes, known ones at timestep 0."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from demo_training.architecture import (
    EMPTY,
    FRAMES,
    LONG_FRAMES,
    NOTHING,
    OBJECTS,
    RATE,
    TEXT_TOKENS,
    Architecture,
    TransformerRun,
)
from demo_training.evaluate import evaluate_removal
from demo_training.latents import pack
from demo_training.log import Log
from demo_training.masks import draw_jobs
from demo_training.pools import LatentPool, scene_batches
from demo_training.schedule import Phase, autocast, cosine, device_name, follow, set_rate, update
from demo_training.weights import load, load_vae, save
from layerlift.sampling import TRAIN_TIMESTEPS, token_coordinates

LONGEST_AVERAGE = 0.999
WARM_UP = 300  # steps
LOG_EVERY = 200
# Each length has seeds of its own, far apart from each other's and from the VAE's.
SEEDS_PER_FRAME = 10_000_000
KNOWN_NOISE = 0.1  # times t²: some examples show known tokens with a little noise


def train_transformer(run: TransformerRun) -> None:
    """Write `transformer.safetensors`, and to the log how well it removes."""
    log = Log(run.out, "transformer")
    model = LTXVideoTransformer3DModel.from_config(dict(run.architecture.transformer)).to(run.device)
    if run.init:
        load(model, "transformer", run.init)
    log(
        event="start",
        parameters=sum(p.numel() for p in model.parameters()),
        config=dict(run.architecture.transformer),
        gpu=device_name(run.device),
        torch=torch.__version__,
        init=run.init and str(run.init),
    )
    text = run.architecture.text().to(run.device)
    train = model
    if run.compile:  # while the VAE is still training
        train = torch.compile(model, dynamic=False)
        compile_shapes(train, run, text)
        model.zero_grad()
        log(event="compiled")
    pools = fill_pools(run)
    log(event="pools filled")

    average = copy.deepcopy(model).requires_grad_(False)
    optimisers, running, steps = make_optimisers(model, run.rate), [], 0
    for step, progress in Phase(time.monotonic(), 0.0, run.seconds, run.max_steps).steps():
        rate = run.rate * min(1.0, (step + 1) / WARM_UP) * cosine(progress, 0.01)
        set_rate(optimisers, rate)
        frames = LONG_FRAMES if step % 4 == 3 else FRAMES
        pools[frames].refresh()
        batch, target, unknown = draw_examples(pools[frames], batch_size(frames, run), text, run.architecture)
        loss = flow_loss(train, batch, target, unknown)
        update(loss, model, optimisers)
        steps = step + 1
        follow(average, model, steps, LONGEST_AVERAGE)
        running.append(loss.detach())
        if steps % LOG_EVERY == 0:
            log(step=steps, loss=torch.stack(running).mean().item(), rate=rate)
            running = []
    log(event="end", steps=steps)
    save(average, run.out / "transformer.safetensors")
    del optimisers, pools

    finished = run.out / "vae.safetensors"
    if run.wait_for_vae:
        wait_for(finished)
    source = run.vae or (finished if finished.exists() else run.out / "encoder.safetensors")
    vae = load_vae(source, run.architecture, run.device)
    evaluate_removal(average.eval(), vae, text, run, log)


def batch_size(frames: int, run: TransformerRun) -> int:
    """Long clips are fewer, so that a batch has as many tokens."""
    return max(1, run.batch * 5 // 9) if frames == LONG_FRAMES else run.batch


def compile_shapes(train: Callable[..., Any], run: TransformerRun, text: Tensor) -> None:
    """One step of each shape on random numbers."""
    architecture, device = run.architecture, run.device
    for frames in (FRAMES, LONG_FRAMES):
        count, shape = batch_size(frames, run), architecture.latent_shape(frames, *run.size)
        tokens = torch.randn(count, shape[0] * shape[1] * shape[2], architecture.geometry.channels, device=device)
        everything = torch.ones(tokens.shape[:2], device=device)
        label = torch.zeros(count, dtype=torch.long, device=device)
        batch = model_inputs(tokens, everything, text[label], shape, architecture)
        flow_loss(train, batch, tokens, everything > 0).backward()


def fill_pools(run: TransformerRun) -> dict[int, LatentPool]:
    """Encoded scenes of both lengths, by the VAE that is finished or as soon as its encoder is."""
    source = run.vae or wait_for(run.out / "encoder.safetensors")
    vae = load_vae(source, run.architecture, run.device)
    vae.decoder = None
    pools = {}
    for frames in (FRAMES, LONG_FRAMES):
        first = run.first_seed + SEEDS_PER_FRAME * frames
        scenes = scene_batches(run.fresh, frames, run.size, first, run.device)
        pools[frames] = LatentPool(run.pool, scenes, vae, run.architecture.geometry)
    return pools


def wait_for(path: Path) -> Path:
    """The file, as soon as another process has put it there."""
    while not path.exists():
        time.sleep(1)
    return path


def draw_examples(
    pool: LatentPool, count: int, text: Tensor, architecture: Architecture
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The model's inputs for a batch, the flow it should find (B, S, C), and where it counts (B, S) bool."""
    d = pool.sample(count)
    device = d["video"].device
    jobs = draw_jobs(d["object"], d["effect"])
    x0 = pack(torch.where(jobs.clean.unsqueeze(1), d["clean"], d["video"]).float())
    unknown = jobs.unknown.flatten(1)

    t = torch.sigmoid(torch.randn(count, 1, device=device) * 1.2 + 0.2)
    known_noise = KNOWN_NOISE * t * t * (torch.rand(count, 1, device=device) < 0.3)
    sigma = torch.where(unknown, t, known_noise)[..., None]
    noise = torch.randn_like(x0)
    label = torch.where(jobs.empty, EMPTY, OBJECTS)
    label = torch.where(torch.rand(count, device=device) < 0.1, NOTHING, label)
    shape = tuple(jobs.unknown.shape[1:])
    tokens = (1 - sigma) * x0 + sigma * noise
    inputs = model_inputs(tokens, torch.where(unknown, t, 0.0), text[label], shape, architecture)
    return inputs, noise - x0, unknown


def model_inputs(
    tokens: Tensor, sigma: Tensor, embeds: Tensor, shape: tuple[int, ...], architecture: Architecture
) -> dict[str, Tensor]:
    """What the transformer takes: tokens (B, S, C), each with its sigma (B, S), text (B, L, D), latents' (f, h, w)."""
    coordinates = token_coordinates(shape, architecture.geometry, RATE).to(tokens.device)
    return {
        "hidden_states": tokens,
        "timestep": sigma * TRAIN_TIMESTEPS,
        "encoder_hidden_states": embeds,
        "encoder_attention_mask": torch.ones(len(tokens), TEXT_TOKENS, device=tokens.device),
        "video_coords": coordinates.expand(len(tokens), -1, -1),
    }


def flow_loss(model: Callable[..., Any], inputs: dict[str, Tensor], target: Tensor, unknown: Tensor) -> Tensor:
    """Mean squared error of the flow on unknown tokens; each clip counts the same, however small its mask."""
    with autocast(target.device.type):
        flow = model(**inputs, return_dict=False)[0]
    error = (flow.float() - target).square().mean(-1) * unknown
    return (error.sum(1) / unknown.sum(1)).mean()


def make_optimisers(model: LTXVideoTransformer3DModel, rate: float) -> list[Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    blocks = [(n, p) for n, p in model.named_parameters() if n.startswith("transformer_blocks") and "table" not in n]
    matrices = [p for _, p in blocks if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
