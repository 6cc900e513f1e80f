"""Training the transformer: flow matching on the unknown tokens of encoded scenes, known ones at timestep 0."""

from __future__ import annotations

import copy
import math
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
from demo_training.pools import LatentPool, part_batches, scene_batches
from demo_training.schedule import Phase, autocast, cosine, device_name, follow, set_rate, update
from demo_training.weights import load, load_vae, save
from layerlift.engine.sampling import TRAIN_TIMESTEPS, token_coordinates

LONGEST_AVERAGE = 0.999
WARM_UP = 300  # steps
LOG_EVERY = 200
# Each length has seeds of its own, far apart from each other's and from the VAE's.
SEEDS_PER_FRAME = 10_000_000
FIRST_PART = 100  # times SEEDS_PER_FRAME: the seeds of parts
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
        # Parts come in many sizes: code for any of them instead of code for each.
        train = torch.compile(model, dynamic=bool(run.crops))
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
        shown = shown_in(step, run)
        pools[shown].refresh()
        batch, target, unknown = draw_examples(pools[shown], batch_size(shown, run), text, run.architecture)
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


# Frames, width and height of what a batch shows.
Shown = tuple[int, int, int]


def shown_in(step: int, run: TransformerRun) -> Shown:
    """What the batch of a step shows: every fourth is long; with `crops` that is so among the parts and the scenes."""
    if not run.crops:
        return (LONG_FRAMES if step % 4 == 3 else FRAMES, *run.size)
    long, turn = divmod(step // 2, 4)
    frames, number = (LONG_FRAMES, long) if turn == 3 else (FRAMES, 3 * long + turn)
    return (frames, *run.size) if step % 2 else (frames, *run.crops[number % len(run.crops)])


def all_shown(run: TransformerRun) -> list[Shown]:
    """All that batches show."""
    return list(dict.fromkeys(shown_in(step, run) for step in range(8 * max(1, len(run.crops)))))


def batch_size(shown: Shown, run: TransformerRun) -> int:
    """As many tokens for every size and length."""
    tokens, usual = (math.prod(run.architecture.latent_shape(*some)) for some in (shown, (FRAMES, *run.size)))
    return max(1, run.batch * usual // tokens)


def compile_shapes(train: Callable[..., Any], run: TransformerRun, text: Tensor) -> None:
    """One step of each shape on random numbers."""
    architecture, device = run.architecture, run.device
    for shown in all_shown(run):
        count, shape = batch_size(shown, run), architecture.latent_shape(*shown)
        tokens = torch.randn(count, math.prod(shape), architecture.geometry.channels, device=device)
        everything = torch.ones(tokens.shape[:2], device=device)
        label = torch.zeros(count, dtype=torch.long, device=device)
        batch = model_inputs(tokens, everything, text[label], shape, architecture)
        flow_loss(train, batch, tokens, everything > 0).backward()


def fill_pools(run: TransformerRun) -> dict[Shown, LatentPool]:
    """Encoded scenes, and parts of some, by the VAE that is finished or as soon as its encoder is."""
    source = run.vae or wait_for(run.out / "encoder.safetensors")
    vae = load_vae(source, run.architecture, run.device)
    vae.decoder = None
    pools: dict[Shown, LatentPool] = {}
    for shown in all_shown(run):
        frames, part = shown[0], shown[1:]
        whole = part == run.size
        # Scenes have the seeds of their length, parts others, far apart from each other's.
        first = run.first_seed + SEEDS_PER_FRAME * (frames if whole else FIRST_PART + len(pools))
        given = run.fresh, frames, run.size, first, run.device
        scenes = scene_batches(*given) if whole else part_batches(*given, part=part, scale=run.crop_scale)
        capacity = run.pool if whole else max(run.fresh, run.pool // 4)
        pools[shown] = LatentPool(capacity, scenes, vae, run.architecture.geometry)
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
