"""Plans by the rules of MPS: what fused attention spares, and the arrays that torch for Metal joins wrongly."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layerlift.cli.plan import describe
from layerlift.engine.device import BACKENDS
from layerlift.engine.device.mps import FusedAttention
from layerlift.engine.device.needs import FRAGMENTATION, GIB, DenoiseRun, ModelFacts, Request, denoise_need
from layerlift.engine.device.plan import denoise_runs, least_memory, make_plan
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.checkpoint import Checkpoint, Component, build_module, bundled_config
from layerlift.engine.model.facts import read_facts
from layerlift.engine.model.probe import KINDS, AttentionProbe
from layerlift.engine.model.sparse import LoopAttention
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from model_files import Live, component

FUSED = FusedAttention((64,), fewest_queries=9)
OTHER = FusedAttention((128,), fewest_queries=9)


@pytest.fixture(scope="module")
def facts() -> ModelFacts:
    """Those of LTX-Video 2B 0.9.5."""
    checkpoint = Checkpoint(Path("x"), component("transformer", "transformer_2b"), component("vae", "vae_0.9.5"))
    found = read_facts("ltx-2b-0.9.5", checkpoint, Geometry(space=32, time=8, channels=128), None)
    assert found.width // found.heads == 64
    return found


def request(facts: ModelFacts, fused: FusedAttention | None, memory: float = 40.0) -> Request:
    policy = replace(BACKENDS["mps"], fused_attention=fused)
    return Request(facts, policy, (1280, 704), 121, (1280, 704), branches=2, memory=memory * GIB)


def test_fused_attention_holds_no_scores(facts: ModelFacts) -> None:
    limit = BACKENDS["mps"].attention_limit_bytes
    fused, other, none = (
        denoise_need(request(facts, kernels), DenoiseRun(attention_limit_bytes=limit))
        for kernels in (FUSED, OTHER, None)
    )
    assert other == none  # its heads are not the model's
    assert none.activations - fused.activations > 1.5 * GIB
    without = denoise_need(request(facts, None), DenoiseRun(attention_limit_bytes=None))
    assert fused.activations == pytest.approx(without.activations, rel=0.02)
    assert least_memory(request(facts, FUSED)) <= least_memory(request(facts, None))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("way", ["plain", "loop", "probe"])
def test_a_pass_takes_what_is_planned(facts: ModelFacts, dtype: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on the meta device, where a fused kernel is one that makes its result and nothing else."""
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda query, key, value, **_: torch.empty_like(query)
    )
    asked, kind = request(facts, FUSED), getattr(torch, dtype)
    asked = replace(asked, policy=replace(asked.policy, transformer_dtype=dtype, device="cpu"))
    config = {**bundled_config("transformer_2b"), "num_layers": 2}
    module = build_module(Component("transformer", config, {})).to(kind).eval()
    apply_policy(module, asked.policy)
    inputs = {
        "hidden_states": torch.empty(1, asked.tokens, 128, device="meta", dtype=kind),
        "encoder_hidden_states": torch.empty(1, 256, 4096, device="meta", dtype=kind),
        "timestep": torch.empty(1, asked.tokens, device="meta"),
        "encoder_attention_mask": torch.empty(1, 256, device="meta", dtype=kind),
        "video_coords": torch.empty(1, 3, asked.tokens, device="meta"),
    }
    columns = torch.empty(1, asked.tokens, 16, device="meta")
    probe = AttentionProbe(module, columns, asked.policy, kinds=KINDS, reduce=lambda mass, *_: mass.mean(1))
    around = {"plain": nullcontext(), "loop": LoopAttention(module).installed(), "probe": probe}[way]
    with torch.no_grad(), around, Live(module) as live:
        module(**inputs)
    planned = denoise_need(asked, DenoiseRun(streamed_blocks=1, attention_limit_bytes=2**31))
    assert planned.activations / FRAGMENTATION == pytest.approx(live.peak, rel=0.15)


def test_nothing_is_cut_up_that_is_fused(facts: ModelFacts) -> None:
    """Smaller pieces of scores that are not there would be the same plan, tried again."""
    limits = [{run.attention_limit_bytes for run in denoise_runs(request(facts, kernels))} for kernels in (FUSED, None)]
    assert limits[0] == {2**31}
    assert len(limits[1]) > 3
    for kernels, words in ((FUSED, "attention    in fused kernels"), (OTHER, "attention    in pieces of at most")):
        assert [line for line in describe(make_plan(request(facts, kernels))) if line.startswith(words)]


def test_arrays_that_are_joined_stay_below_what_metal_can_count(facts: ModelFacts) -> None:
    """Above 2^31 elements `cat` writes into other arrays, without an error (pytorch #189960)."""
    asked = request(facts, None, memory=1e6)
    assert asked.policy.array_limit == 2**31
    make_plan(asked)
    huge = replace(asked, policy=replace(asked.policy, vae_axis_limit=None), size=(32768, 32768), frames=9)
    with pytest.raises(InputError, match=r"needs an array of \d+ numbers in its VAE, but on mps arrays of 2147483648"):
        make_plan(huge)
    few = replace(asked, policy=replace(asked.policy, array_limit=2 * asked.tokens * facts.width))
    thin = replace(facts.encoder, frame=1e-3)
    wide = replace(few, facts=replace(facts, encoder=thin, decoder=thin))
    with pytest.raises(InputError, match=r"numbers in its transformer"):
        make_plan(wide)
    make_plan(replace(wide, branches=1))
