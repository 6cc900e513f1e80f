"""What is constant is computed once, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.engine.device import BACKENDS
from layerlift.engine.model import record
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.hoist import PARTS, trim_text
from layerlift.engine.model.speed import PLAIN, Speed
from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.engine.schedule import linear_quadratic
from layerlift.geometry.fit import Geometry
from layerlift.progress import QUIET
from tiny_model import tiny_transformer_config

SHAPE = (1, 8, 3, 4, 5)
STEPS = 6
HOIST = Speed(hoist=True)


def make_transformer(layers: int = 2) -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(**tiny_transformer_config(layers=layers)).eval()


def run(transformer: LTXVideoTransformer3DModel, speed: Speed, *, prompts: int = 2, together: bool = False, **given):
    """Denoise random latents with `unknown` of the 60 tokens unknown."""
    generator = torch.Generator().manual_seed(1)
    unknown = torch.zeros(60, dtype=torch.bool)
    unknown[torch.randperm(60, generator=generator)[: given.pop("unknown", 18)]] = True
    mask = torch.zeros(2, 40)
    mask[0, :7] = mask[1, :3] = 1
    embeds = torch.randn(2, 40, 16, generator=generator)
    return denoise(
        transformer,
        torch.randn(SHAPE, generator=generator),
        unknown.view(SHAPE[2:]),
        Prompts(embeds[:prompts], mask[:prompts], together),
        token_coordinates(SHAPE, Geometry(16, 4, 8), 24),
        settings=SamplingSettings(linear_quadratic(STEPS), 3.0 if prompts == 2 else 1.0, **given),
        generator=generator,
        progress=QUIET,
        speed=speed,
    )


def difference(made: torch.Tensor, expected: torch.Tensor) -> float:
    return ((made - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(
    "given",
    [
        {"together": True},
        {"together": False},
        {"prompts": 1},
        {"cond_noise": 0.15},
        {"stochastic": True},
        {"unknown": 60},
    ],
    ids=str,
)
def test_the_same_result(given: dict) -> None:
    transformer = make_transformer()
    assert difference(run(transformer, HOIST, **given), run(transformer, PLAIN, **given)) < 1e-6


def test_the_same_result_by_the_rules_of_mps() -> None:
    transformer = make_transformer()
    expected = run(transformer, PLAIN)
    apply_policy(transformer, replace(BACKENDS["mps"], attention_limit_bytes=2000))
    assert difference(run(transformer, HOIST), expected) < 1e-6


@pytest.mark.parametrize(("speed", "times"), [(HOIST, 1), (PLAIN, STEPS)])
def test_constant_work_is_done_once_and_can_be_switched_off(speed: Speed, times: int) -> None:
    transformer = make_transformer()
    calls = dict.fromkeys(["rope", "time_embed", "caption_projection", "text keys"], 0)

    def count(name: str):
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    for name in PARTS:
        getattr(transformer, name).register_forward_hook(count(name))
    for block in transformer.transformer_blocks:
        block.attn2.to_k.register_forward_hook(count("text keys"))
    run(transformer, speed, together=True)
    assert calls == {"rope": times, "time_embed": times, "caption_projection": times, "text keys": 2 * times}


def test_the_transformer_is_left_as_it_was_even_after_an_error() -> None:
    transformer = make_transformer()
    before = list(transformer.named_modules()), transformer.attn_processors
    run(transformer, Speed(hoist=True, refresh=0.2))
    assert (list(transformer.named_modules()), transformer.attn_processors) == before
    transformer.transformer_blocks[1].ff.forward = None
    with pytest.raises(TypeError):
        run(transformer, Speed(hoist=True, refresh=0.2))
    assert (list(transformer.named_modules()), transformer.attn_processors) == before


def test_weights_that_are_elsewhere_are_not_touched_before_their_pass() -> None:
    """As with offloading: what is constant is then computed in every pass, through the modules that have hooks."""
    transformer = make_transformer()
    expected = run(transformer, PLAIN)
    block = transformer.transformer_blocks[0]
    weights = block.state_dict()
    block.to("meta")
    block.register_forward_pre_hook(lambda *_: block.load_state_dict(weights, assign=True) and None)
    block.register_forward_hook(lambda *_: block.to("meta") and None)
    assert difference(run(transformer, HOIST), expected) < 1e-6


def test_padding_is_left_out() -> None:
    embeds, mask = torch.randn(2, 50, 3), torch.zeros(2, 50)
    mask[0, 1:9] = mask[1, 40] = 1
    for batches in ([(embeds, mask)], [(embeds[:1], mask[:1]), (embeds[1:], mask[1:])]):
        trimmed = trim_text(batches)
        both, kept = torch.cat([batch[0] for batch in trimmed]), torch.cat([batch[1] for batch in trimmed])
        assert both.shape[1] == 16
        assert torch.equal(both[kept > 0], embeds[mask > 0])
    ((one, none),) = trim_text([(embeds[:1], (torch.arange(50) < 16)[None].long())])
    assert torch.equal(one, embeds[:1, :16])
    assert none is None
    # a prompt of padding alone attends to all of it
    assert trim_text([(embeds[:1], mask[:1]), (embeds[1:], torch.zeros(1, 50))])[0][0].shape[1] == 50


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Blocks are compiled by a backend that only collects what it is given."""
    torch._dynamo.reset()
    graphs = []

    def collect(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setitem(record.COMPILE, "backend", collect)
    yield graphs
    torch._dynamo.reset()


def test_compiled_blocks_are_compiled_once_for_all_of_them(compilations: list) -> None:
    transformer = make_transformer(layers=3)
    expected = run(transformer, PLAIN, together=True)
    speed = Speed(hoist=True, compile=True)
    for _ in range(2):
        assert difference(run(transformer, speed, together=True), expected) < 1e-6
    assert len(compilations) == 1
    assert not any(block._compiled_call_impl for block in transformer.transformer_blocks)


@pytest.mark.slow
def test_sparse_passes_of_near_counts_share_what_is_compiled(compilations: list) -> None:
    transformer = make_transformer(layers=3)
    for unknown in (19, 20):
        expected = run(transformer, Speed(hoist=True, refresh=0.2), unknown=unknown)
        made = run(transformer, Speed(hoist=True, refresh=0.2, compile=True), unknown=unknown)
        assert difference(made, expected) < 1e-6
    assert len(compilations) == 2  # a full pass that keeps, and a sparse one


@pytest.mark.slow
def test_compiled_for_real() -> None:
    transformer = make_transformer(layers=3)
    for refresh in (None, 0.2):
        expected = run(transformer, Speed(refresh=refresh))
        assert difference(run(transformer, Speed(refresh=refresh, hoist=True, compile=True)), expected) < 1e-5
