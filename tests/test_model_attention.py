"""A policy changes how attention is laid out in memory, not what it computes."""

from dataclasses import replace

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb
from torch.nn import functional

from layerlift.engine.device import BACKENDS, Policy
from layerlift.engine.model import attention
from layerlift.engine.model.attention import PolicyAttnProcessor, Rotary, apply_policy, attend, query_chunk, rotate
from tiny_model import tiny_transformer_config

TOKENS = (3, 4, 5)  # latent frames, height, width


def make_transformer() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(**tiny_transformer_config()).eval()


def run(transformer: LTXVideoTransformer3DModel, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    frames, height, width = TOKENS
    with torch.inference_mode():
        return transformer(
            hidden_states=torch.randn(2, frames * height * width, 8, generator=generator).to(dtype),
            encoder_hidden_states=torch.randn(2, 6, 16, generator=generator).to(dtype),
            timestep=torch.linspace(0, 1000, 2 * frames * height * width).view(2, -1),
            encoder_attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]]),
            num_frames=frames,
            height=height,
            width=width,
            return_dict=False,
        )[0].float()


# 2 x 2 heads x 60 keys x 4 bytes = 960 bytes a query: one query, seven, all of them
@pytest.mark.parametrize("limit", [1, 7 * 960, None])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("float32", [True, False])
def test_same_result_as_the_ordinary_processor(limit: int | None, contiguous: bool, float32: bool) -> None:
    policy = replace(
        BACKENDS["cpu"],
        contiguous_attention=contiguous,
        attention_limit_bytes=limit,
        float32_norms=float32,
        float32_softmax=float32,
    )
    transformer = make_transformer()
    expected = run(transformer)
    apply_policy(transformer, policy)
    torch.testing.assert_close(run(transformer), expected, rtol=0, atol=1e-5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, ...]]:
    """Every (query, key, value) handed to the kernel."""
    seen = []
    kernel = functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: object) -> torch.Tensor:
        seen.append((query, key, value))
        return kernel(query, key, value, **others)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    return seen


def test_no_array_passes_the_limit(calls: list[tuple[torch.Tensor, ...]]) -> None:
    limit = 7 * 960
    transformer = make_transformer()
    apply_policy(transformer, replace(BACKENDS["mps"], attention_limit_bytes=limit))
    run(transformer)
    sizes = [query.shape[:3].numel() * key.shape[2] * query.element_size() for query, key, _ in calls]
    assert max(sizes) <= limit
    assert any(query.shape[2] < 60 for query, _, _ in calls)
    assert sum(query.shape[2] for query, _, _ in calls) == 2 * 2 * 60  # every query once, in 2 layers × 2 attentions


def test_kernel_sees_contiguous_float32_under_mps_rules(calls: list[tuple[torch.Tensor, ...]]) -> None:
    transformer = make_transformer().half()
    apply_policy(transformer, replace(BACKENDS["mps"], attention_limit_bytes=7 * 960))
    out = run(transformer, torch.float16)
    assert calls
    for parts in calls:
        assert all(part.is_contiguous() and part.dtype == torch.float32 for part in parts)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_ordinary_processor_stays_where_nothing_is_asked(backend: str) -> None:
    transformer = make_transformer()
    apply_policy(transformer, BACKENDS[backend])
    assert not any(isinstance(processor, PolicyAttnProcessor) for processor in transformer.attn_processors.values())


def test_float32_norms_are_nearer_to_the_truth() -> None:
    """In float16 a norm over large values overflows; in float32 it does not."""
    policy = BACKENDS["mps"]
    transformer = make_transformer()
    apply_policy(transformer, policy)
    processor = transformer.transformer_blocks[0].attn1.processor
    norm = transformer.transformer_blocks[0].attn1.norm_q.half()
    states = torch.full((1, 2, 32), 20000.0, dtype=torch.float16)
    assert torch.allclose(processor._norm(norm, states).float(), torch.ones(1, 2, 32), atol=1e-3)
    assert torch.isfinite(transformer.norm_out(torch.linspace(-6e4, 6e4, 32).half()[None])).all()
    assert transformer.norm_out(torch.ones(1, 32).half()).dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotating_is_what_diffusers_does_in_fewer_kernels(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    transformer = make_transformer()
    places = torch.rand(1, 3, 60) * 500
    tables = transformer.rope(transformer.proj_in.weight, video_coords=places)
    states = torch.randn(2, 60, 32).to(dtype)
    ours, theirs = rotate(states, Rotary.ready(*tables)), apply_rotary_emb(states, tables)
    assert ours.dtype == dtype
    # Half precision is rounded once, at the end, by both.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-2)
    assert (ours - states).abs().max() > 0.1
    torch.testing.assert_close(ours.float().norm(), states.float().norm(), rtol=1e-2, atol=0)


def test_fused_norms_change_nothing_and_can_be_switched_off() -> None:
    policy = replace(BACKENDS["cuda"], device="cpu")
    transformer = make_transformer()
    expected = run(transformer)
    apply_policy(transformer, replace(policy, fused_norms=False))
    block = transformer.transformer_blocks[0]
    assert not isinstance(block.norm1, torch.nn.RMSNorm)
    apply_policy(transformer, policy)
    assert isinstance(block.norm1, torch.nn.RMSNorm)
    assert isinstance(block.norm2, torch.nn.RMSNorm)
    torch.testing.assert_close(run(transformer), expected, rtol=0, atol=1e-6)
    # Values whose squares half precision does not hold.
    large = torch.full((1, 32), 1000.0, dtype=torch.float16)
    assert torch.allclose(block.norm1(large).float(), torch.ones(1, 32), atol=1e-3)


def test_bias_per_query_is_cut_with_its_queries() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 4) for _ in range(3))
    bias = torch.randn(1, 1, 9, 9)
    whole = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    torch.testing.assert_close(attend(query, key, value, bias, limit_bytes=2 * 9 * 4 * 2), whole)


@pytest.mark.parametrize(("limit", "chunk"), [(None, 100), (1, 1), (2 * 3 * 50 * 4 * 10, 10), (10**9, 100)])
def test_query_chunk(limit: int | None, chunk: int) -> None:
    assert query_chunk(torch.empty(2, 3, 100, 8), 50, limit) == chunk


def test_full_size_on_mps_stays_below_four_gib() -> None:
    """704x480, 97 frames: 4290 tokens; both guidance branches, 32 heads, float32."""
    policy: Policy = BACKENDS["mps"]
    query = torch.empty(2, 32, 13 * 15 * 22, 64, device="meta")
    chunk = query_chunk(query, query.shape[2], policy.attention_limit_bytes)
    assert chunk < query.shape[2]
    assert 2 * 32 * chunk * query.shape[2] * 4 <= 2**31
    assert attention.query_chunk(query, query.shape[2], None) == query.shape[2]
