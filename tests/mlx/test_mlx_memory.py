"""What plans say a stage takes in MLX against what its allocator held: within 15%, from the shapes alone.

MLX's CPU counts its arrays as a GPU does, and takes what a GPU does not on top, which plans for the CPU know of.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import layerlift.engine.mlx.needs as mlx_needs
import layerlift.engine.mlx.vae as mlx_vae
from layerlift import InputError
from layerlift.engine.device import Policy
from layerlift.engine.device.budget import attempt
from layerlift.engine.device.needs import (
    GIB,
    Request,
)
from layerlift.engine.device.plan import make_plan
from layerlift.engine.device.policy import MLX_ROWS
from layerlift.engine.model import facts as facts_of
from layerlift.engine.model.checkpoint import Component, build_module, bundled_config
from layerlift.engine.model.schema import check_config
from layerlift.engine.planning import means
from mlx_memory import (
    Table,
    Written,
    check_half,
    check_passes,
    check_text,
    transformer_facts,
    vae_config,
)

SIZES = {"float32": 4, "bfloat16": 2}


@pytest.mark.parametrize("choices", [
    {}, {"attention_limit_bytes": 2**19}, {"transformer_dtype": "bfloat16", "attention_limit_bytes": 2**19},
    {"int8": True, "attention_limit_bytes": 2**19}, {"int4": True, "attention_limit_bytes": 2**19},
])  # fmt: skip
@pytest.mark.parametrize("sparse", [False, True])
def test_denoising(written: Written, policy: Policy, choices: dict[str, Any], sparse: bool) -> None:
    rules = replace(policy, **choices)
    plan = (True, False, True) if sparse else (True, True)
    check_passes(Table(), written, rules, (256, 192), 41, heads=4, channels=32, layers=2, plan=plan)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [2, 8])
def test_vae(written: Written, policy: Policy, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both halves of a narrow VAE with one residual block where the full one has several."""
    for module in (mlx_needs, mlx_vae):
        monkeypatch.setattr(module, "UNFOLD_BYTES", 2**16)
    # As in the full one, the largest pictures have more channels than what comes in.
    config = vae_config(
        block_out_channels=[64] * 5, decoder_block_out_channels=[128, 256, 512], latent_channels=16,
        layers_per_block=[1] * 5, decoder_layers_per_block=[1] * 4,
    )  # fmt: skip
    size, count, rules = (96, 64), 9 if frames == 2 else 17, replace(policy, vae_frames=frames)
    check_half(Table(), written, rules, config, stage="encode", size=size, frames=count)
    check_half(Table(), written, rules, config, stage="decode", size=size, frames=count)


@pytest.mark.parametrize("dtype", SIZES)
def test_text(tmp_path: Path, policy: Policy, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all blocks, one."""
    monkeypatch.setattr(mlx_needs, "TEXT_ENCODER", (256, 640, 4))
    check_text(Table(), tmp_path, replace(policy, text_dtype=dtype), layers=3)


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


def test_longer_windows_are_not_bought_with_fewer_bits() -> None:
    assert len({means(make_plan(full_size(weights, 24))) for weights in ("auto", "8bit", "4bit")}) == 3


def test_memory_that_is_too_little_is_told() -> None:
    with pytest.raises(InputError, match=r"needs at least \d\.\d GiB"):
        make_plan(full_size("auto", 1))


def test_memory_that_ran_out_is_given_back_before_the_next_try() -> None:
    request = replace(full_size("auto", 24), policy=MLX_ROWS["cpu"])
    kept: list[int] = []

    def work(plan: object) -> None:
        kept.append(mx.get_cache_memory())
        if len(kept) == 1:
            mx.eval(mx.ones((2**18,)) * 2)  # which the allocator keeps
            assert mx.get_cache_memory() > 0
            raise RuntimeError("[malloc] Unable to allocate 9 bytes.")

    said: list[str] = []
    attempt(make_plan(request), "denoise", work, said.append)
    assert kept[1] == 0
    assert said[0].startswith("memory ran out in stage denoise; continuing with less: ")


def test_a_smaller_plan_after_memory_ran_out() -> None:
    plan = make_plan(full_size("auto", 24))
    smaller = plan.smaller("denoise")
    assert smaller is not None
    assert smaller.need("denoise").total < plan.need("denoise").total
