"""A checkpoint of random numbers in a model's shapes, for measuring speed and memory where its weights are not there.

What is computed, and what it takes, does not depend on what the weights are; what comes out is noise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.engine.model.checkpoint import CLASSES, Component, build_module, bundled_config
from layerlift.errors import InputError
from layerlift.options import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

if TYPE_CHECKING:
    import torch

    from layerlift.engine.model.catalogue import Entry
    from layerlift.engine.model.model import Model

# Files are written when they have grown to so many bytes: no more than this and a tensor is in memory.
SHARD_BYTES = 2**30
# Room on the disk beyond the weights themselves.
SPARE_BYTES = 2**28
# Random numbers are drawn once and repeated: drawing billions takes minutes. A prime, so that no two rows are alike.
DRAWN = 2**22 + 15
# Prompts of a random model: what stages give it where nobody says otherwise.
PROMPTS = (DEFAULT_PROMPT, "", DEFAULT_NEGATIVE_PROMPT)
# T5 v1.1 XXL, as LTX-Video's text_encoder/config.json has it.
T5_XXL: dict[str, Any] = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "num_heads": 64,
    "num_layers": 24,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}


def write_random_model(folder: Path, entry: Entry) -> Path:
    """Write a diffusers folder with bfloat16 random weights of `entry`'s architecture, its settings, and ready
    embeddings of `PROMPTS`; returns `folder`.

    Raises:
        InputError: there is too little room on the disk.
    """
    import torch

    from layerlift.engine.model.text import TEXT_LENGTH, save_ready_text

    configs = {
        "transformer": bundled_config("transformer_13b" if "13b" in entry.name else "transformer_2b"),
        "vae": bundled_config("vae_0.9.5"),
    }
    modules = {kind: build_module(Component(kind, config, {})) for kind, config in configs.items()}
    _check_room(folder, modules.values(), entry.name)
    for kind, module in modules.items():
        _write_component(folder / kind, module.state_dict())
        described = {"_class_name": CLASSES[kind], **configs[kind]}
        (folder / kind / "config.json").write_text(json.dumps(described))
    width = int(configs["transformer"]["caption_channels"])
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(len(PROMPTS), TEXT_LENGTH, width, generator=generator)
    mask = torch.ones(len(PROMPTS), TEXT_LENGTH, dtype=torch.bool)
    save_ready_text(folder / "text.safetensors", PROMPTS, embeds, mask)
    settings = {**asdict(entry.settings), "licence": "random numbers", "random": True}
    (folder / "layerlift.json").write_text(json.dumps(settings))
    return folder


def write_random_encoder(folder: Path, config: Mapping[str, Any] = T5_XXL) -> Path:
    """Write a T5 encoder of bfloat16 random weights as transformers does, without a tokenizer; returns `folder`.

    Raises:
        InputError: there is too little room on the disk.
    """
    import torch
    from transformers import T5Config, T5EncoderModel

    from layerlift.engine.model.t5 import TIED

    with torch.device("meta"):
        encoder = T5EncoderModel(T5Config(**config))
    _check_room(folder, [encoder], "T5")
    _write_component(folder, {key: value for key, value in encoder.state_dict().items() if key != TIED})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_random_heads(model: Model) -> None:
    """From now on the model has a random weight for each of its heads; see `effect_score.FittedHeads`."""
    import torch
    from safetensors.torch import save_file

    from layerlift.engine.model.effect_score import COLUMNS, HEADS_FILE
    from layerlift.engine.model.probe import KINDS

    shape = (len(KINDS), COLUMNS, *model.attention_heads)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0)) / 100
    save_file({"weights": weights}, model.path / HEADS_FILE, {"bias": "0", "threshold": "0.25"})


def _check_room(folder: Path, modules: Iterable[Any], name: str) -> None:
    needed = SPARE_BYTES + sum(2 * value.numel() for module in modules for value in module.state_dict().values())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"random weights of {name} take {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left: make "
            "room, or set TMPDIR to a folder on another disk."
        )


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
