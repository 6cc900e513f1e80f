"""What plans say a stage takes in MLX against what its allocator held: within 15%, from the shapes alone.

MLX's CPU counts its arrays as a GPU does, and takes what a GPU does not on top, which plans for the CPU know of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel

import layerlift.engine.mlx.needs as mlx_needs
import layerlift.engine.mlx.vae as mlx_vae
from layerlift import InputError
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
from layerlift.engine.device.plan import make_plan
from layerlift.engine.device.policy import MLX_ROWS
from layerlift.engine.mlx.latents import decode, encode
from layerlift.engine.mlx.passes import Passes
from layerlift.engine.mlx.quantised import load_transformer
from layerlift.engine.mlx.t5 import embed_stream
from layerlift.engine.mlx.vae import Half
from layerlift.engine.model import facts as facts_of
from layerlift.engine.model import t5
from layerlift.engine.model.checkpoint import Component, build_module, bundled_config
from layerlift.engine.model.schema import check_config

NEAR = 0.15
SIZES = {"float32": 4, "bfloat16": 2}


def held(run: Callable[[], object]) -> tuple[int, int]:
    """What was held before, and the most meanwhile."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    run()
    return before, mx.get_peak_memory()


def check(need: Need, most: int) -> None:
    """Weights and activations; what the host takes besides is measured by other means."""
    planned = need.weights + need.activations
    assert abs(planned - most) <= NEAR * most, f"planned {planned / 2**20:.2f} MiB, but {most / 2**20:.2f} were held"


def transformer_facts(config: dict[str, Any]) -> ModelFacts:
    module = build_module(Component("transformer", config, {}))
    blocks = module.transformer_blocks
    linear = [layer.weight.numel() for layer in blocks[0].modules() if isinstance(layer, torch.nn.Linear)]
    block, everything = (sum(value.numel() for value in part.parameters()) for part in (blocks[0], module))
    nothing = facts_of.VaeFacts(0, 0, 0, 0.0, 1.0, 1)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return mlx_needs.mlx_facts(
        ModelFacts(
            "a test", width, config["num_attention_heads"], len(blocks), block, sum(linear), max(linear),
            everything - len(blocks) * block, 32, 8, nothing, nothing, None,
        )
    )  # fmt: skip


def check_passes(
    written: Callable[..., Component],
    policy: Policy,
    size: tuple[int, int],
    frames: int,
    *,
    heads: int,
    channels: int,
    layers: int,
    sparse: bool,
) -> None:
    """Full passes of both prompts, and with `sparse` a sparse one between them."""
    torch.manual_seed(0)
    config = check_config("transformer", {
        "in_channels": 16, "out_channels": 16, "num_attention_heads": heads, "attention_head_dim": channels,
        "cross_attention_dim": heads * channels, "num_layers": layers, "caption_channels": 32,
    }, "a test")  # fmt: skip
    component = replace(written("transformer", LTXVideoTransformer3DModel(**config)), config=config)
    request = Request(transformer_facts(config), policy, size, frames, size, 2, GIB)
    tokens = request.tokens
    need = denoise_need(
        request,
        DenoiseRun(False, sparse, bool(policy.int8), policy.int4, attention_limit_bytes=policy.attention_limit_bytes),
    )
    moving = np.arange(tokens) % 3 == 0

    def run() -> None:
        transformer = load_transformer(component, policy)
        texts = [transformer.text(mx.ones((1, mlx_needs.TEXT_TOKENS, 32)), None) for _ in range(2)]
        plan = (True, False, True) if sparse else (True, True)
        coordinates = torch.rand(1, 3, tokens, generator=torch.Generator().manual_seed(0))
        passes = Passes(transformer, texts, coordinates, moving, sigmas=(1.0, 0.9, 0.5, 0.0), plan=plan)
        for step in range(len(plan)):
            mx.eval(passes(mx.ones((1, tokens, 16)), step))

    before, most = held(run)
    check(need, most - before)


@pytest.mark.parametrize("choices", [
    {}, {"attention_limit_bytes": 2**19}, {"transformer_dtype": "bfloat16", "attention_limit_bytes": 2**19},
    {"int8": True, "attention_limit_bytes": 2**19}, {"int4": True, "attention_limit_bytes": 2**19},
])  # fmt: skip
@pytest.mark.parametrize("sparse", [False, True])
def test_denoising(
    *,
    written: Callable[..., Component],
    policy: Policy,
    choices: dict[str, Any],
    sparse: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path))
    rules = replace(policy, **choices)
    check_passes(written, rules, (256, 192), 41, heads=4, channels=32, layers=2, sparse=sparse)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["full", "8bit", "4bit"])
def test_denoising_at_full_width(
    written: Callable[..., Component], policy: Policy, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block of the 2B model's width at 704x480, with 9 frames of its 97."""
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path))
    rules = replace(policy, int8=weights == "8bit", int4=weights == "4bit")
    check_passes(written, rules, (704, 480), 9, heads=32, channels=64, layers=1, sparse=False)


def check_vae(written: Callable[..., Component], policy: Policy, size: tuple[int, int], frames: int) -> None:
    """Both halves of a narrow VAE of the 0.9.5 kind, with one residual block where it has several. As in the full one,
    the largest pictures have more channels than what comes in."""
    config = bundled_config("vae_0.9.5")
    config["block_out_channels"], config["decoder_block_out_channels"] = [64] * 5, [128, 256, 512]
    for key in ("layers_per_block", "decoder_layers_per_block"):
        config[key] = [1] * len(config[key])
    torch.manual_seed(0)
    given = {key: value for key, value in config.items() if not key.startswith("_")} | {"latent_channels": 16}
    vae = AutoencoderKLLTXVideo(**given).eval()
    component = written("vae", vae)
    halves = {
        "encode": facts_of._half(vae.encoder, facts_of._encoder_layers(vae.encoder)),
        "decode": facts_of._half(vae.decoder, facts_of._decoder_layers(vae.decoder)),
    }
    model = ModelFacts("a test", 1, 1, 1, 1, 1, 1, 1, 32, 8, halves["encode"], halves["decode"], None)
    request = Request(mlx_needs.mlx_facts(model), policy, size, frames, size, 1, GIB)
    width, height = size
    latents = np.random.default_rng(0).normal(size=(1, 16, 1 + (frames - 1) // 8, height // 32, width // 32))

    def encode_all(half: Half) -> None:
        encode(half, np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8))

    def decode_all(half: Half) -> None:
        for _ in decode(half, latents.astype(np.float32), torch.Generator(), 0.05):
            pass

    for stage, run in (("encode", encode_all), ("decode", decode_all)):
        # Weights, of which the largest is there twice while it is read; then activations, which are more in a full one.
        half: list[Half] = []
        before, most = held(lambda half=half, stage=stage: half.append(Half(component, f"{stage}r", policy)))
        need = vae_need(request, stage, VaeRun(policy.vae_frames))
        check(replace(need, activations=halves[stage].largest * 4.0), most - before)
        before, most = held(lambda run=run, half=half: run(half[0]))
        without = replace(model, **{f"{stage}r": replace(halves[stage], largest=0)})
        need = vae_need(replace(request, facts=mlx_needs.mlx_facts(without)), stage, VaeRun(policy.vae_frames))
        check(replace(need, weights=0.0), most - before)
        half[0].release()


@pytest.mark.parametrize("frames", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_vae(written: Callable[..., Component], policy: Policy, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mlx_needs, mlx_vae):
        monkeypatch.setattr(module, "UNFOLD_BYTES", 2**16)
    check_vae(written, replace(policy, vae_frames=frames), (96, 64), 9 if frames == 2 else 17)


@pytest.mark.slow
def test_vae_at_full_size(written: Callable[..., Component], policy: Policy) -> None:
    """704x480, with 9 frames of the 97, few blocks and channels."""
    check_vae(written, policy, (704, 480), 9)


@pytest.mark.parametrize("dtype", SIZES)
def test_text(tmp_path: Path, policy: Policy, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all blocks, one."""
    shape, length = (256, 640, 4), mlx_needs.TEXT_TOKENS
    monkeypatch.setattr(mlx_needs, "TEXT_ENCODER", shape)
    width, hidden, heads = shape
    config = T5Config(
        vocab_size=300, d_model=width, d_kv=64, d_ff=hidden, num_layers=3, num_heads=heads,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    T5EncoderModel(config).to(getattr(torch, dtype)).save_pretrained(tmp_path / "text_encoder")
    encoder, tensors = t5.open_encoder(tmp_path / "text_encoder")
    rules = replace(policy, text_dtype=dtype)
    tokens: Sequence[Any] = [(torch.full((1, length), 7), torch.ones(1, length, dtype=torch.bool))]
    block, _ = facts_of._text_counts(tmp_path)
    facts = replace(transformer_facts(check_config("transformer", {}, "a test")), text_block=block)
    before, most = held(lambda: embed_stream(encoder, tensors, tokens, rules))
    check(text_need(Request(facts, rules, (64, 64), 9, (64, 64), 1, GIB)), most - before)


# --- plans -----------------------------------------------------------------------------------------------------------


def full_size(weights: str, memory: float) -> Request:
    """The 2B model at 704x480x97 with guidance on an Apple GPU, text encoder and all."""
    vae = build_module(Component("vae", bundled_config("vae_0.9.5"), {}))
    facts = replace(
        transformer_facts(check_config("transformer", bundled_config("transformer_2b"), "a test")),
        encoder=facts_of._half(vae.encoder, facts_of._encoder_layers(vae.encoder)),
        decoder=facts_of._half(vae.decoder, facts_of._decoder_layers(vae.decoder)),
        vae_stored="bfloat16",
        text_block=193_000_000,
        text_parameters=4_700_000_000,
    )
    rules = replace(MLX_ROWS["mps"], int8={"auto": None, "8bit": True, "4bit": False}[weights], int4=weights == "4bit")
    return Request(facts, rules, (704, 480), 97, (704, 480), 2, memory * GIB)


@pytest.mark.parametrize(("weights", "memory"), [("8bit", 4), ("4bit", 3)])
def test_plans_of_the_2b_model(weights: str, memory: float) -> None:
    plan = make_plan(full_size(weights, memory))
    assert plan.peak <= memory * GIB
    assert (plan.policy.int8 is True, plan.policy.int4) == (weights == "8bit", weights == "4bit")
    assert plan.policy.streamed_blocks == 0


def test_fewer_bits_only_where_memory_is_short() -> None:
    kept = [make_plan(full_size("auto", memory)).policy for memory in (24, 4, 3)]
    assert [(bool(policy.int8), policy.int4) for policy in kept] == [(False, False), (True, False), (False, True)]
    assert "4 bits" in "; ".join(make_plan(full_size("auto", 3)).differences(MLX_ROWS["mps"]))


def test_memory_that_is_too_little_is_told() -> None:
    with pytest.raises(InputError, match=r"needs at least \d\.\d GiB"):
        make_plan(full_size("auto", 1))


def test_a_smaller_plan_after_memory_ran_out() -> None:
    plan = make_plan(full_size("auto", 24))
    smaller = plan.smaller("denoise")
    assert smaller is not None
    assert smaller.need("denoise").total < plan.need("denoise").total
