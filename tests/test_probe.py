"""The probe against the attention matrix it does without."""

from dataclasses import replace

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

from layerlift.engine.device import choose_policy
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.probe import AttentionProbe
from layerlift.engine.sampling import token_coordinates
from layerlift.geometry.fit import Geometry
from tiny_model import tiny_transformer_config

SHAPE = (2, 3, 4)  # latent frames, rows, columns
TOKENS = 24


@pytest.fixture
def transformer() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(**tiny_transformer_config(layers=3)).eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor | bool]:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": 3 * torch.randn(2, TOKENS, 8, generator=generator),
        "encoder_hidden_states": torch.randn(2, 4, 16, generator=generator),
        "timestep": torch.full((2, TOKENS), 100.0),
        "encoder_attention_mask": torch.ones(2, 4),
        "video_coords": token_coordinates((1, 8, *SHAPE), Geometry(32, 8, 8), 24).expand(2, -1, -1),
        "return_dict": False,
    }


def explicit(transformer: LTXVideoTransformer3DModel, inputs: dict, columns: torch.Tensor, kind: str) -> torch.Tensor:
    """softmax(Q·Kᵀ/√d)·columns of every layer, (layers, B, H, S, n), by the textbook, from each layer's input."""
    seen = []

    def hook(attn, args, kwargs):  # type: ignore[no-untyped-def]
        hidden = kwargs.get("hidden_states", args[0] if args else None)
        query, key = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden))
        if kind == "positional":
            query, key = (apply_rotary_emb(part, kwargs["image_rotary_emb"]) for part in (query, key))
        query, key = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in (query, key))
        matrix = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
        seen.append(matrix @ columns[:, None])

    handles = [b.attn1.register_forward_pre_hook(hook, with_kwargs=True) for b in transformer.transformer_blocks]
    with torch.no_grad():
        transformer(**inputs)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


@pytest.mark.parametrize("kind", ["content", "positional"])
@pytest.mark.parametrize("count", [1, 3, 20])  # 20: more columns than a head has channels
@pytest.mark.parametrize("rules", ["cpu", "mps"])
def test_mass_is_that_of_the_matrix(
    transformer: LTXVideoTransformer3DModel, inputs: dict, kind: str, count: int, rules: str
) -> None:
    columns = (torch.rand(2, TOKENS, count, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    truth = explicit(transformer, inputs, columns, kind)
    policy = choose_policy("cpu", "float32", rules)
    if rules == "mps":
        policy = replace(policy, attention_limit_bytes=1000)  # the queries go in several chunks
    with torch.no_grad(), AttentionProbe(transformer, columns, policy, kinds=(kind,)) as probe:
        transformer(**inputs)
    mass = probe.stacked(kind)
    assert mass.shape == (3, 2, 2, TOKENS, count)
    torch.testing.assert_close(mass, truth, rtol=0, atol=1e-5)
    assert truth.std() > 0.01  # attention is not flat here: a wrong mass would differ


def test_kinds_differ_and_layers_can_be_chosen(transformer: LTXVideoTransformer3DModel, inputs: dict) -> None:
    columns = torch.zeros(1, TOKENS, 1)
    columns[:, :5] = 1
    policy = choose_policy("cpu")
    with torch.no_grad(), AttentionProbe(transformer, columns, policy, kinds=("content", "positional")) as every:
        transformer(**inputs)
    with torch.no_grad(), AttentionProbe(transformer, columns, policy, layers=[2, 0]) as some:
        transformer(**inputs)
    assert not torch.allclose(every.stacked("content"), every.stacked("positional"), atol=1e-3)
    torch.testing.assert_close(some.stacked(), every.stacked()[[0, 2]])


def test_reduce_is_applied_layer_by_layer(transformer: LTXVideoTransformer3DModel, inputs: dict) -> None:
    columns = torch.ones(1, TOKENS, 2)
    policy = choose_policy("cpu")
    seen = []

    def largest(mass: torch.Tensor, kind: str, layer: int) -> torch.Tensor:
        seen.append((kind, layer))
        return mass.amax(1)

    with torch.no_grad(), AttentionProbe(transformer, columns, policy, layers=[0, 2], reduce=largest) as probe:
        transformer(**inputs)
    torch.testing.assert_close(probe.stacked(), torch.ones(2, 2, TOKENS, 2))  # all tokens: the whole mass
    assert seen == [("content", 0), ("content", 2)]


@pytest.mark.parametrize("rules", ["cpu", "mps"])
def test_the_model_is_left_as_it_was(transformer: LTXVideoTransformer3DModel, inputs: dict, rules: str) -> None:
    policy = choose_policy("cpu", "float32", rules)
    apply_policy(transformer, policy)
    own = [block.attn1.processor for block in transformer.transformer_blocks]
    with torch.no_grad():
        before = transformer(**inputs)[0]
        with AttentionProbe(transformer, torch.ones(1, TOKENS, 1), policy) as probe:
            during = transformer(**inputs)[0]
        after = transformer(**inputs)[0]
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert [block.attn1.processor for block in transformer.transformer_blocks] == own
    assert len(probe.masses["content"]) == 3


def test_processors_come_back_after_an_error(transformer: LTXVideoTransformer3DModel) -> None:
    own = [block.attn1.processor for block in transformer.transformer_blocks]
    with (
        pytest.raises(RuntimeError, match="stop"),
        AttentionProbe(transformer, torch.ones(1, TOKENS, 1), choose_policy("cpu")),
    ):
        raise RuntimeError("stop")
    assert [block.attn1.processor for block in transformer.transformer_blocks] == own
