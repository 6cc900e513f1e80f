"""Training the VAE: encoder and decoder together, then the decoder alone on latents that no longer change."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor
from torch.optim import AdamW

from demo_training.architecture import FRAMES, VaeRun
from demo_training.evaluate import evaluate_vae, psnr
from demo_training.latents import to_model
from demo_training.log import Log
from demo_training.pools import CropPool, scene_batches
from demo_training.schedule import Phase, autocast, cosine, device_name, follow, set_rate, update
from demo_training.weights import load, save
from layerlift.scenes import RenderedBatch

SCENES_AT_ONCE = 4
LATENT_NOISE = 0.05  # on what the decoder is shown: generated latents are never exact
LONGEST_AVERAGE = 0.998
WARM_UP = 200  # steps
LOG_EVERY = 200
STATISTICS_BATCHES = 24


def vae_loss(decoded: Tensor, clip: Tensor) -> Tensor:
    """Absolute, squared and edge differences of clips (B, 3, F, H, W)."""
    error = decoded - clip
    edges = torch.stack([error.diff(dim=dim).abs().mean() for dim in (2, 3, 4)]).sum()
    return error.abs().mean() + 2 * error.square().mean() + 0.25 * edges


def train_vae(run: VaeRun) -> None:
    """Write `encoder.safetensors` (the whole VAE as it is when the encoder is frozen) and `vae.safetensors`.

    With `run.init` the latent statistics stay those of the weights: a transformer trained on them knows no others.
    """
    log = Log(run.out, "vae")
    vae = AutoencoderKLLTXVideo.from_config(dict(run.architecture.vae)).to(run.device)
    if run.init:
        load(vae, "vae", run.init)
    log(
        event="start",
        parameters=sum(p.numel() for p in vae.parameters()),
        config=dict(run.architecture.vae),
        gpu=device_name(run.device),
        torch=torch.__version__,
        init=run.init and str(run.init),
    )
    scenes = scene_batches(SCENES_AT_ONCE, FRAMES, run.size, run.first_seed, run.device)
    trainer = VaeTrainer(vae, scenes, run, log)

    # 1. Encoder and decoder.
    trainer.train(Phase(trainer.started, 0.0, run.freeze_after, run.max_steps))

    # 2. The encoder stays as it is, so that the transformer's training can begin.
    trainer.freeze()
    if not run.init:
        measure_latents(vae, scenes)
    trainer.average.load_state_dict(vae.state_dict())
    save(vae, run.out / "encoder.safetensors")
    log(event="encoder frozen", step=trainer.step, **evaluate_vae(trainer.average, run))

    # 3. The decoder alone.
    trainer.train(Phase(trainer.started, run.freeze_after, run.seconds, run.max_steps))
    log(event="end", steps=trainer.step, **evaluate_vae(trainer.average, run))
    save(trainer.average, run.out / "vae.safetensors")


class VaeTrainer:
    """What lasts over both phases: the clips, the averaged weights, and the clock, which starts with the first step."""

    def __init__(self, vae: AutoencoderKLLTXVideo, scenes: Iterator[RenderedBatch], run: VaeRun, log: Log) -> None:
        self.vae, self.scenes, self.run, self.log = vae, scenes, run, log
        self.encode = torch.compile(vae.encoder) if run.compile else vae.encoder
        self.decode = torch.compile(vae.decoder) if run.compile else vae.decoder
        self.average = copy.deepcopy(vae).requires_grad_(False)
        self.frozen = False
        self.step = 0
        self.pool = CropPool(run.pool, FRAMES, run.size, run.device)
        for _ in range(max(1, run.pool // (2 * SCENES_AT_ONCE))):
            batch = next(scenes)
            self.pool.add(batch.video)
            self.pool.add(batch.background)
        self.started = time.monotonic()

    def freeze(self) -> None:
        """From here on the encoder, and all weights to begin with, are the averaged ones."""
        self.frozen = True
        self.vae.load_state_dict(self.average.state_dict())
        self.vae.encoder.requires_grad_(False)
        self.vae.zero_grad(set_to_none=True)  # what the encoder was left with would count in the clipped norm

    def train(self, phase: Phase) -> None:
        run, part = self.run, self.vae.decoder if self.frozen else self.vae
        optimiser = AdamW(part.parameters(), lr=run.rate, betas=(0.9, 0.95), weight_decay=0.01)
        for since, progress in phase.steps():
            falling = 0.6 * cosine(progress, 0.005) if self.frozen else cosine(progress, 0.05)
            set_rate([optimiser], run.rate * min(1.0, (since + 1) / WARM_UP) * falling)
            self.refresh()
            clip = self.pool.sample(run.batch, *run.crop)
            mean, decoded = self.forward(clip)
            loss = vae_loss(decoded, clip)
            if not self.frozen:
                loss = loss + 1e-4 * mean.square().mean()
            update(loss, self.vae, [optimiser])
            self.step += 1
            follow(self.average, self.vae, self.step, LONGEST_AVERAGE)
            if self.step % LOG_EVERY == 1:
                self.log(
                    step=self.step, loss=loss.item(), psnr=psnr(decoded, clip), latent_std=mean.float().std().item()
                )

    def refresh(self) -> None:
        """New scenes every third step, every third of them without objects."""
        if self.step % 3 == 0:
            batch = next(self.scenes)
            self.pool.add(batch.background if self.step % 9 == 0 else batch.video)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Raw latents (B, C, f, h, w) of a clip (B, 3, F, H, W), and the clip as it comes back."""
        channels = self.run.architecture.geometry.channels
        with autocast(self.run.device):
            with torch.set_grad_enabled(not self.frozen):
                mean = self.encode(clip)[:, :channels]  # (B, 2·C, …): the rest is the posterior's variance
            decoded = self.decode(mean + LATENT_NOISE * torch.randn_like(mean), None)
        return mean.float(), decoded.float()


@torch.no_grad()
def measure_latents(vae: AutoencoderKLLTXVideo, scenes: Iterator[RenderedBatch]) -> None:
    """Set the per-channel mean and standard deviation that normalise the latents."""
    found = []
    for batch in (next(scenes) for _ in range(STATISTICS_BATCHES)):
        with autocast(batch.video.device.type):
            found.append(vae.encode(to_model(batch.video)).latent_dist.mean.float())
    latents = torch.cat(found)
    vae.latents_mean.copy_(latents.mean((0, 2, 3, 4)))
    vae.latents_std.copy_(latents.std((0, 2, 3, 4)))
