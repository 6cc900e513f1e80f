"""What the tests of MLX's memory share: parts of a model, what plans say they take, and what they held."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlift.engine.device import Policy
from layerlift.engine.device.needs import (
    GIB,
    DenoiseRun,
    ModelFacts,
    Need,
    Request,
    VaeRun,
    denoise_need,
    text_need,
    vae_need,
)
from layerlift.engine.mlx import needs as mlx_needs
from layerlift.engine.mlx.needs import TEXT_TOKENS, mlx_facts
from layerlift.engine.model import facts as facts_of
from layerlift.engine.model import t5
from layerlift.engine.model.checkpoint import Component, build_module, bundled_config
from layerlift.engine.model.schema import check_config
from mlx_device import DEVICE
from tiny_model import random_tokens, write_t5

NEAR = 0.15

Written = Callable[..., Component]


def held(run: Callable[[], object]) -> int:
    """The most that MLX's allocator held meanwhile, over what it held before."""
    import mlx.core as mx

    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    run()
    return int(mx.get_peak_memory() - before)


class Table:
    """Prints what was planned and what was held, a row each, and checks that they agree."""

    def __init__(self, capsys: pytest.CaptureFixture[str] | None = None) -> None:
        self.capsys = capsys

    def check(self, what: str, need: Need, most: int) -> None:
        """Weights and activations; what the host takes besides is measured by other means."""
        planned = need.weights + need.activations
        said = f"{what}: planned {planned / 2**20:.1f} MiB, held {most / 2**20:.1f} ({planned / most - 1:+.1%})"
        if self.capsys is not None:
            with self.capsys.disabled():
                sys.stdout.write(f"\n{said}\n")
        # Metal fuses what the CPU does one after the other, so it may take less than is planned for both.
        assert (1 - NEAR) * most <= planned, said
        assert planned <= (1 + NEAR) * most or DEVICE != "cpu", said


def transformer_facts(config: dict[str, Any]) -> ModelFacts:
    module = build_module(Component("transformer", config, {}))
    blocks = module.transformer_blocks
    linear = [layer.weight.numel() for layer in blocks[0].modules() if isinstance(layer, torch.nn.Linear)]
    block, everything = (sum(value.numel() for value in part.parameters()) for part in (blocks[0], module))
    nothing = facts_of.VaeFacts(0, 0, 0, 0.0, 1.0, 1)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return mlx_facts(
        ModelFacts(
            "a test", width, config["num_attention_heads"], len(blocks), block, sum(linear), max(linear),
            everything - len(blocks) * block, 32, 8, nothing, nothing, None,
        )
    )  # fmt: skip


def check_passes(
    table: Table,
    written: Written,
    policy: Policy,
    size: tuple[int, int],
    frames: int,
    *,
    heads: int,
    channels: int,
    layers: int,
    plan: tuple[bool, ...],
    prompts: int = 2,
) -> None:
    """Passes of every prompt, full ones where `plan` says so."""
    import mlx.core as mx
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.engine.mlx.passes import Passes
    from layerlift.engine.mlx.quantised import bits_of, load_transformer

    torch.manual_seed(0)
    config = check_config("transformer", {
        "in_channels": 16, "out_channels": 16, "num_attention_heads": heads, "attention_head_dim": channels,
        "cross_attention_dim": heads * channels, "num_layers": layers, "caption_channels": 32,
    }, "a test")  # fmt: skip
    component = replace(written("transformer", LTXVideoTransformer3DModel(**config)), config=config)
    request = Request(transformer_facts(config), policy, size, frames, size, prompts, GIB)
    tokens = request.tokens
    sparse = not all(plan)
    limit = policy.attention_limit_bytes
    need = denoise_need(request, DenoiseRun(False, sparse, bool(policy.int8), policy.int4, attention_limit_bytes=limit))

    def run() -> None:
        transformer = load_transformer(component, policy)
        texts = [transformer.text(mx.ones((1, TEXT_TOKENS, 32)), None) for _ in range(prompts)]
        coordinates = torch.rand(1, 3, tokens, generator=torch.Generator().manual_seed(0))
        moving = np.arange(tokens) % 3 == 0
        passes = Passes(transformer, texts, coordinates, moving, sigmas=(1.0, 0.9, 0.5, 0.0), plan=plan)
        for step in range(len(plan)):
            mx.eval(passes(mx.ones((1, tokens, 16)), step))

    kind = policy.transformer_dtype if bits_of(policy) is None else f"{bits_of(policy)} bits"
    what = f"denoise, {layers} block of {heads * channels} channels, {kind}, {tokens} tokens"
    table.check(what, need, held(run))


def check_text(table: Table, folder: Path, policy: Policy, layers: int) -> None:
    """A prompt through a T5 encoder of the width that plans reckon with, and fewer layers, in the text dtype."""
    from layerlift.engine.mlx.t5 import embed_stream

    width, hidden, heads = mlx_needs.TEXT_ENCODER
    changes = {"d_model": width, "d_kv": 64, "d_ff": hidden, "num_heads": heads, "num_layers": layers}
    encoder, tensors = t5.open_encoder(write_t5(folder / "text_encoder", policy.text_dtype, **changes))
    block, _ = facts_of._text_counts(folder)
    facts = replace(transformer_facts(check_config("transformer", {}, "a test")), text_block=block)
    need = text_need(Request(facts, policy, (64, 64), 9, (64, 64), 1, GIB))
    what = f"text: {layers} blocks of {width} channels, {TEXT_TOKENS} tokens, {policy.text_dtype}"
    table.check(
        what, need, held(lambda: embed_stream(encoder, tensors, random_tokens(TEXT_TOKENS, TEXT_TOKENS), policy))
    )


def vae_config(**changes: Any) -> dict[str, Any]:
    """That of the 0.9.5 kind with some changes."""
    config = bundled_config("vae_0.9.5") | changes
    return {key: value for key, value in config.items() if not key.startswith("_")}


def check_half(
    table: Table, written: Written, policy: Policy, config: dict[str, Any], *, stage: str, size: tuple[int, int],
    frames: int, runs: bool = True,
) -> None:  # fmt: skip
    """A half of a VAE: its weights while they are read, then what it takes beside them while it runs, if it `runs`.

    Apart, since in a full one it depends on the layers which of the two is on top of the weights.
    """
    from diffusers import AutoencoderKLLTXVideo

    from layerlift.engine.mlx.vae import Half

    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(**config).eval()
    component = written("vae", vae)
    layers = facts_of._encoder_layers(vae.encoder) if stage == "encode" else facts_of._decoder_layers(vae.decoder)
    facts = facts_of._half(getattr(vae, f"{stage}r"), layers)
    del vae

    def needed(largest: int) -> Need:
        half = replace(facts, largest=largest)
        model = mlx_facts(ModelFacts("a test", 1, 1, 1, 1, 1, 1, 1, 32, 8, half, half, None))
        return vae_need(Request(model, policy, size, frames, size, 1, GIB), stage, VaeRun(policy.vae_frames))

    half: list[Half] = []
    most = held(lambda: half.append(Half(component, f"{stage}r", policy)))
    # The largest is there twice while it is read.
    table.check(f"{stage}: reading", replace(needed(0), activations=facts.largest * 4.0), most)
    if runs:
        run = encode_all if stage == "encode" else decode_all
        what = f"{stage}: {size[0]}x{size[1]}, {frames} frames, {policy.vae_frames} at a time"
        table.check(what, replace(needed(0), weights=0.0), held(lambda: run(half[0], size, frames)))
    half[0].release()


def encode_all(half: Any, size: tuple[int, int], frames: int) -> None:
    """Frames through an encoder, be they whole tokens or not: what waits for more is dropped."""
    import mlx.core as mx

    from layerlift.engine.mlx.vae_stream import encode_stream

    pixels = np.random.default_rng(0).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    pieces = (
        (mx.array(pixels[start : start + half.frames]).astype(mx.float32) / 127.5 - 1).astype(half.dtype)
        for start in range(0, frames, half.frames)
    )
    for piece in encode_stream(half, pieces):
        mx.eval(piece)


def decode_all(half: Any, size: tuple[int, int], frames: int) -> None:
    """Latents of so many frames through a decoder."""
    from layerlift.engine.mlx.latents import decode

    shape = (1, len(half.mean), 1 + (frames - 1) // 8, size[1] // 32, size[0] // 32)
    latents = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for _ in decode(half, latents, torch.Generator(), 0.05):
        pass
