"""Weights of a run: saved in half precision, read from a run or a packed folder, and packed as int8 for the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo_training.architecture import NEGATIVE_PROMPT, NOTHING, PROMPTS, SETTINGS, Architecture
from eight_bits import quantise
from layerlift.engine.model.checkpoint import CLASSES, check_tensors, read_checkpoint
from layerlift.engine.model.headers import read_header
from layerlift.engine.model.text import save_ready_text
from layerlift.engine.model.weights import read_tensors
from layerlift.errors import InputError

SHARD_BYTES = 12_000_000  # files under 16 MB keep the repository small
PARTS = ("vae", "transformer")


def save(model: nn.Module, path: Path) -> None:
    """Write float16 weights; whoever waits for the file sees all of it or nothing."""
    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(half, temporary)
    temporary.replace(path)


def load(model: nn.Module, part: str, source: Path) -> None:
    """Fill the "vae" or the "transformer" from a run's file or a packed folder (int8 is dequantised), float32.

    Latent statistics come along. Raises InputError when the weights are of another architecture.
    """
    tensors = getattr(read_checkpoint(source), part).tensors if source.is_dir() else read_header(source)[0]
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_tensors(tensors, expected, f"the {part} in {source}")
    model.load_state_dict(dict(read_tensors(tensors, torch.float32)))


def load_vae(source: Path, architecture: Architecture, device: str) -> AutoencoderKLLTXVideo:
    """A VAE to use, not to train."""
    vae = AutoencoderKLLTXVideo.from_config(dict(architecture.vae))
    load(vae, "vae", source)
    return vae.to(device).eval().requires_grad_(False)


def pack_model(run: Path, to: Path, architecture: Architecture) -> None:
    """A run's weights → a folder that `layerlift.open_model` opens: int8 shards, config and ready text.

    A part that the run did not train stays as it lies in `to`. Raises InputError when it lies in neither.
    """
    sources = {part: run / f"{part}.safetensors" for part in PARTS}
    for part, source in sources.items():
        if not source.is_file() and not list(to.glob(f"{part}-*.safetensors")):
            raise InputError(f"there is no {part} to pack, neither {source} nor one in {to}; train it first.")
    to.mkdir(parents=True, exist_ok=True)
    for part, source in sources.items():
        if source.is_file():
            _write_shards(quantise(load_file(source)), part, to)
    _write_config(to / "config.json", architecture)
    text = architecture.text().half()
    embeds = torch.cat([text, text[NOTHING : NOTHING + 1]])
    mask = torch.ones(embeds.shape[:2], dtype=torch.bool)
    save_ready_text(to / "text.safetensors", [*PROMPTS, NEGATIVE_PROMPT], embeds, mask)
    read_checkpoint(to)  # raises when something does not fit


def _write_shards(state: dict[str, Tensor], part: str, to: Path) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    for key in sorted(state):
        if sum(value.nbytes for value in shards[-1].values()) + state[key].nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][key] = state[key].contiguous()
    for old in to.glob(f"{part}-*.safetensors"):
        old.unlink()
    for i, shard in enumerate(shards):
        save_file(shard, to / f"{part}-{i + 1:05d}-of-{len(shards):05d}.safetensors")


def _write_config(path: Path, architecture: Architecture) -> None:
    config: dict[str, Any] = {
        "transformer": {"_class_name": CLASSES["transformer"], **architecture.transformer},
        "vae": {"_class_name": CLASSES["vae"], **architecture.vae},
        "settings": SETTINGS,
    }
    path.write_text(json.dumps(config, indent=1) + "\n")
