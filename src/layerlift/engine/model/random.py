"""A checkpoint of random numbers in a model's shapes, for measuring speed and memory where its weights are not there.

What is computed, and what it takes, does not depend on what the weights are; what comes out is noise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.engine.model.checkpoint import CLASSES, Component, build_module, bundled_config
from layerlift.errors import InputError

if TYPE_CHECKING:
    import torch

    from layerlift.engine.model.catalogue import Entry

# Files are written when they have grown to so many bytes: no more than this and a tensor is in memory.
SHARD_BYTES = 2**30
# Room on the disk beyond the weights themselves.
SPARE_BYTES = 2**28
# Random numbers are drawn once and repeated: drawing billions takes minutes. A prime, so that no two rows are alike.
DRAWN = 2**22 + 15
TEXT_TOKENS = 256


def write_random_model(folder: Path, entry: Entry, prompts: Sequence[str]) -> Path:
    """Write a diffusers folder with bfloat16 random weights of `entry`'s architecture, its settings, and ready
    embeddings of `prompts`; returns `folder`.

    Raises:
        InputError: there is too little room on the disk.
    """
    import torch

    from layerlift.engine.model.text import save_ready_text

    configs = {
        "transformer": bundled_config("transformer_13b" if "13b" in entry.name else "transformer_2b"),
        "vae": bundled_config("vae_0.9.5"),
    }
    modules = {kind: build_module(Component(kind, config, {})) for kind, config in configs.items()}
    needed = SPARE_BYTES + sum(2 * v.numel() for module in modules.values() for v in module.state_dict().values())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"random weights of {entry.name} take {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left: "
            f"make room, or set TMPDIR to a folder on another disk."
        )
    for kind, module in modules.items():
        _write_component(folder / kind, module.state_dict())
        described = {"_class_name": CLASSES[kind], **configs[kind]}
        (folder / kind / "config.json").write_text(json.dumps(described))
    width = int(configs["transformer"]["caption_channels"])
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(len(prompts), TEXT_TOKENS, width, generator=generator)
    mask = torch.ones(len(prompts), TEXT_TOKENS, dtype=torch.bool)
    save_ready_text(folder / "text.safetensors", prompts, embeds, mask)
    settings = {**asdict(entry.settings), "licence": "random numbers"}
    (folder / "layerlift.json").write_text(json.dumps(settings))
    return folder


def _write_component(folder: Path, shapes: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shard: dict[str, torch.Tensor] = {}
    size, number = 0, 0
    for key, tensor in _random_tensors(shapes):
        shard[key] = tensor
        size += tensor.nbytes
        if size >= SHARD_BYTES:
            save_file(shard, folder / f"random-{number:03}.safetensors")
            shard, size, number = {}, 0, number + 1
    if shard:
        save_file(shard, folder / f"random-{number:03}.safetensors")


def _random_tensors(shapes: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    """Weights of a scale at which nothing overflows, norms and statistics that change nothing."""
    import torch

    drawn = torch.randn(DRAWN, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for key, like in shapes.items():
        last = key.rpartition(".")[2]
        if like.dim() > 1:
            count = like.numel()
            fan_in = count // like.shape[0]
            repeated = drawn.repeat(-(-count // DRAWN))[:count].view(like.shape)
            yield key, (repeated * fan_in**-0.5).contiguous()
        elif last in ("bias", "latents_mean"):
            yield key, torch.zeros(like.shape, dtype=torch.bfloat16)
        elif last == "timestep_scale_multiplier":
            yield key, torch.full(like.shape, 1000.0, dtype=torch.bfloat16)
        else:
            yield key, torch.ones(like.shape, dtype=torch.bfloat16)
