"""The transformer in MLX against diffusers', in float32: each part, each block, the whole of it, and its attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.engine.device import Policy
from layerlift.engine.mlx.arrays import from_torch
from layerlift.engine.mlx.attention import attend, attention_mass, heads, rotate
from layerlift.engine.mlx.quantised import load_transformer
from layerlift.engine.mlx.tables import rotary_tables, sinusoids
from layerlift.engine.mlx.transformer import Text, Transformer
from layerlift.engine.model.checkpoint import Component
from layerlift.engine.model.schema import check_config
from tiny_model import tiny_transformer_config

PART, WHOLE = 1e-5, 1e-4
TOKENS, LENGTH = 24, 6
# Both ways of everything that a config can choose.
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "other": {
        "activation_fn": "gelu",
        "norm_elementwise_affine": True,
        "attention_bias": False,
        "attention_out_bias": False,
        "num_attention_heads": 5,  # 80 channels are no multiple of 6
        "cross_attention_dim": 80,
    },
}


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=CONFIGS)
def theirs(request: pytest.FixtureRequest) -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(**tiny_transformer_config(layers=3) | CONFIGS[request.param]).eval()
    for name, value in model.named_parameters():
        if "norm" in name:  # ones would not show that they are left out
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def component(theirs: LTXVideoTransformer3DModel, written: Callable[..., Component]) -> Component:
    return replace(made := written("transformer", theirs), config=check_config("transformer", made.config, "a test"))


@pytest.fixture(scope="module")
def ours(component: Component, policy: Policy) -> Transformer:
    return load_transformer(component, policy)


@pytest.fixture(scope="module")
def coordinates() -> torch.Tensor:
    return torch.rand(1, 3, TOKENS, generator=torch.Generator().manual_seed(2)) * torch.tensor([4.0, 480, 704])[:, None]


@pytest.fixture(scope="module")
def timesteps() -> torch.Tensor:
    """Every token has one of three."""
    return torch.tensor([0.0, 312.5, 871.0])[torch.arange(TOKENS) % 3]


def times(ours: Transformer, timesteps: torch.Tensor) -> Any:
    rows, index = timesteps.unique(return_inverse=True)
    return ours.times(rows.tolist(), from_torch(index))


@torch.no_grad()
def test_tables_are_torch_s_own_bits(theirs: Any, ours: Transformer, coordinates: torch.Tensor) -> None:
    cosines, sines = theirs.rope(torch.zeros(1, 1, 1), video_coords=coordinates)
    found = rotary_tables(coordinates, ours.width)
    for table, other in zip((cosines, sines), found, strict=True):
        np.testing.assert_array_equal(table[0, :, ::2].numpy(), np.array(other))
        np.testing.assert_array_equal(table[0, :, 1::2].numpy(), np.array(other))
    asked = [0.0, 50.0, 999.5]
    expected = theirs.time_embed.emb.time_proj(torch.tensor(asked))
    np.testing.assert_array_equal(expected.numpy(), np.array(sinusoids(asked)))


@torch.no_grad()
def test_rotation(theirs: Any, ours: Transformer, coordinates: torch.Tensor, off: Callable[..., float]) -> None:
    from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

    states = random(2, TOKENS, ours.width)
    expected = apply_rotary_emb(states, theirs.rope(states, video_coords=coordinates))
    assert off(expected, rotate(from_torch(states), rotary_tables(coordinates, ours.width))) < PART


@torch.no_grad()
def test_what_is_not_a_block(theirs: Any, ours: Transformer, off: Callable[..., float]) -> None:
    asked = [3.0, 400.0]
    rows, embedded = theirs.time_embed(torch.tensor(asked), batch_size=2, hidden_dtype=torch.float32)
    found = ours.times(asked)
    assert off(rows, found.rows.reshape(2, -1)) < PART
    assert off(embedded, found.embedded) < PART
    text = random(2, LENGTH, 16)
    assert off(theirs.caption_projection(text), ours.caption_projection(from_torch(text))) < PART


@torch.no_grad()
@pytest.mark.parametrize("limit", [None, 2000])
def test_each_block(
    *, theirs: Any, ours: Transformer, coordinates: torch.Tensor, timesteps: torch.Tensor, limit: int | None,
    off: Callable[..., float],
) -> None:  # fmt: skip
    """Self-attention at once and in pieces of a few queries, text with padding, every token at its own timestep."""
    states, text = random(2, TOKENS, ours.width), random(2, LENGTH, ours.width, seed=3)
    mask = torch.ones(2, LENGTH)
    mask[0, 4:] = 0
    rotary = theirs.rope(states, video_coords=coordinates)
    temb, _ = theirs.time_embed(timesteps, batch_size=1, hidden_dtype=torch.float32)
    tables, given = rotary_tables(coordinates, ours.width), times(ours, timesteps)
    bias = ((1 - mask) * -10000.0)[:, None]

    def own(attention: Any, normed: Any) -> Any:
        query, key = (heads(rotate(part(normed), tables), ours.heads) for part in (attention.query, attention.key))
        return attention.mix(query, key, heads(attention.to_v(normed), ours.heads), None, limit)

    for theirs_block, block in zip(theirs.transformer_blocks, ours.transformer_blocks, strict=True):
        expected = theirs_block(states, text, temb[None].expand(2, -1, -1), rotary, bias)
        prompts = Text([block.attn2.text(from_torch(text))], from_torch(bias[:, None]))
        found = block(from_torch(states), given, own, text=prompts, layer=0, limit=limit)
        assert off(expected, found) < PART


@torch.no_grad()
@pytest.mark.parametrize("padded", [True, False])
def test_the_whole_transformer(
    *, theirs: Any, ours: Transformer, coordinates: torch.Tensor, timesteps: torch.Tensor, padded: bool,
    off: Callable[..., float],
) -> None:  # fmt: skip
    tokens, text = random(1, TOKENS, 8), random(2, LENGTH, 16)
    mask = torch.ones(2, LENGTH)
    mask[0, 4:] = 0 if padded else 1
    expected = theirs(
        hidden_states=tokens.expand(2, -1, -1), encoder_hidden_states=text, timestep=timesteps.expand(2, -1),
        encoder_attention_mask=mask, video_coords=coordinates.expand(2, -1, -1), return_dict=False,
    )[0]  # fmt: skip
    prompts = ours.text(from_torch(text), from_torch(mask) if padded else None)
    rotary = rotary_tables(coordinates, ours.width)
    assert off(expected, ours(from_torch(tokens), times(ours, timesteps), rotary, prompts)) < WHOLE
    # One timestep for all tokens is another way through.
    same = torch.full((1, TOKENS), 500.0)
    expected = theirs(
        hidden_states=tokens, encoder_hidden_states=text[1:], timestep=same, encoder_attention_mask=mask[1:],
        video_coords=coordinates, return_dict=False,
    )[0]  # fmt: skip
    alone = ours.text(from_torch(text[1:]), from_torch(mask[1:]))
    assert off(expected, ours(from_torch(tokens), ours.times([500.0]), rotary, alone)) < WHOLE


def test_attention_mass_is_the_softmax_summed(off: Callable[..., float]) -> None:
    """At once and in pieces, with as many columns as one likes."""
    query, key = random(1, 2, 11, 8), random(1, 2, 13, 8, seed=2)
    columns = (random(13, 5, seed=3) > 0).float()
    expected = torch.softmax(query @ key.transpose(2, 3) * 8**-0.5, -1) @ columns
    for limit in (None, 400):
        assert off(expected, attention_mass(from_torch(query), from_torch(key), from_torch(columns), limit)) < PART


def test_attention_in_pieces_is_attention() -> None:
    query, key, value = (from_torch(random(2, 3, 17, 8, seed=seed)) for seed in range(3))
    bias = from_torch(random(2, 1, 1, 17, seed=4))
    whole = attend(query, key, value, bias, None)
    pieces = attend(query, key, value, bias, 2 * 3 * 17 * 4 * 4)  # four queries at a time
    np.testing.assert_allclose(np.array(whole), np.array(pieces), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_read_as_they_are_asked_for(component: Component, policy: Policy, dtype: str) -> None:
    found = load_transformer(component, replace(policy, transformer_dtype=dtype))
    assert found.dtype == getattr(mx, dtype)
    for key, value in found.parameters()["proj_in"].items():
        assert value.dtype == getattr(mx, dtype), key
    found.release()
    assert not found.parameters()
