"""What is trained and on what: configs, prompts and settings of the demo model, and the options of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerlift.geometry.fit import Geometry

WIDTH, HEIGHT = 288, 192
FRAMES, LONG_FRAMES = 17, 33
RATE = 24
FIRST_SEED = 1_000_000  # of training; the benchmark's scenes, which training must never see, are far below
BENCHMARK_SEED = 1000

EMPTY, OBJECTS, NOTHING = 0, 1, 2
PROMPTS = ("Empty", "objects", "")
# The stages' default (layerlift.stages.removal, which is not imported: it needs OpenCV) means as much as no prompt.
NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"
TEXT_TOKENS = 8

VAE_CONFIG: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 64,
    "block_out_channels": [64, 128, 128], "down_block_types": ["LTXVideo095DownBlock3D"] * 2,
    "decoder_block_out_channels": [80, 160], "layers_per_block": [3, 3, 2], "decoder_layers_per_block": [2, 2, 4],
    "spatio_temporal_scaling": [True] * 2, "decoder_spatio_temporal_scaling": [True] * 2,
    "decoder_inject_noise": [False] * 3, "downsample_type": ["spatiotemporal"] * 2, "upsample_residual": [True] * 2,
    "upsample_factor": [2, 2], "timestep_conditioning": False, "patch_size": 4, "patch_size_t": 1,
    "resnet_norm_eps": 1e-6, "scaling_factor": 1.0, "encoder_causal": True, "decoder_causal": False,
    "spatial_compression_ratio": 16, "temporal_compression_ratio": 4,
}  # fmt: skip
TRANSFORMER_CONFIG: dict[str, Any] = {
    "in_channels": 64, "out_channels": 64, "patch_size": 1, "patch_size_t": 1, "num_attention_heads": 6,
    "attention_head_dim": 64, "cross_attention_dim": 384, "num_layers": 9, "caption_channels": 64,
    "qk_norm": "rms_norm_across_heads", "activation_fn": "gelu-approximate", "attention_bias": True,
    "attention_out_bias": True, "norm_elementwise_affine": False, "norm_eps": 1e-6,
}  # fmt: skip
# How the packed model wants to be sampled; docs/notes/demo-model.md has the measurements behind steps and guidance.
SETTINGS: dict[str, Any] = {
    "steps": 8,
    "guidance": 1.0,
    "size": [WIDTH, HEIGHT],
    "frames": LONG_FRAMES,
    "rate": float(RATE),
    "licence": "Apache-2.0",
    "shift": 2.0,
    "any_scale": False,  # crops at the clip's own resolution do a little worse: docs/notes/demo-model.md
    "context": 8,  # latent frames of other windows help it: `bench windows`
    "fill_depth": 18.0,  # on scenes, inpainting beats this model in holes up to there: `bench quality`
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Configs of diffusers' two classes."""

    vae: Mapping[str, Any]
    transformer: Mapping[str, Any]

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            space=self.vae["spatial_compression_ratio"],
            time=self.vae["temporal_compression_ratio"],
            channels=self.vae["latent_channels"],
        )

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int]:
        """(f, h, w) of a clip."""
        space, time = self.geometry.space, self.geometry.time
        return (frames - 1) // time + 1, height // space, width // space

    def text(self) -> Tensor:
        """Ready embeddings of `PROMPTS` (P, L, D) float32: fixed random ones, only their being told apart matters."""
        shape = len(PROMPTS), TEXT_TOKENS, self.transformer["caption_channels"]
        # In half precision they are stored; training sees what the package will hold.
        return torch.randn(shape, generator=torch.Generator().manual_seed(7)).half().float()


DEMO = Architecture(VAE_CONFIG, TRANSFORMER_CONFIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What both trainings are told.

    Attributes:
        out: folder of the run: logs, `encoder.safetensors`, `vae.safetensors`, `transformer.safetensors`.
        init: weights to go on from, a run's file or a packed folder.
        seconds: of training; compiling and filling the pools come on top.
        max_steps: ends each phase earlier.
        rate: peak learning rate.
        scenes: how many of the benchmark's scenes to evaluate on.
        size: width and height of the scenes, pixels.
    """

    out: Path
    init: Path | None = None
    device: str = "cpu"
    seconds: float
    max_steps: int | None = None
    rate: float = 1e-3
    batch: int
    scenes: int = 32
    size: tuple[int, int] = (WIDTH, HEIGHT)
    first_seed: int = FIRST_SEED
    compile: bool = True
    architecture: Architecture = DEMO


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeRun(Run):
    """freeze_after: seconds until the encoder is frozen; pool: clips kept for crops; crop: width and height."""

    freeze_after: float
    pool: int = 512
    crop: tuple[int, int] = (192, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerRun(Run):
    """What the transformer's training is told.

    Attributes:
        pool: encoded scenes kept, of each length.
        fresh: new ones a step.
        vae: a finished VAE instead of the one whose training runs beside.
        wait_for_vae: evaluate with that one's finished decoder.
        crops: width and height of parts of scenes that every other batch shows, in turn; none: all show whole scenes.
        crop_scale: parts are cut out of scenes of up to this times the size.
    """

    pool: int = 1024
    fresh: int = 8
    vae: Path | None = None
    wait_for_vae: bool = False
    crops: tuple[tuple[int, int], ...] = ()
    crop_scale: float = 1.0
