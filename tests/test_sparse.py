"""Sparse passes: what is kept, when it is made anew, and how little that changes."""

from dataclasses import replace

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.engine.device import BACKENDS
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.passes import open_passes
from layerlift.engine.model.sparse import LoopAttention
from layerlift.engine.model.speed import (
    COMPILE_SPARSE_STEPS,
    COMPILE_STEPS,
    DEFAULT_REFRESH,
    PLAIN,
    Speed,
    bucket,
    choose_speed,
    full_passes,
)
from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.engine.schedule import linear_quadratic
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from layerlift.progress import QUIET
from tiny_model import tiny_transformer_config

SHAPE = (1, 8, 3, 4, 5)
TOKENS, UNKNOWN = 60, 13
SIGMAS = linear_quadratic(10)
ONCE = Speed(refresh=1.0)


def make_transformer(layers: int = 1) -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(**tiny_transformer_config(layers=layers)).eval()


def run(
    transformer: LTXVideoTransformer3DModel, speed: Speed, *, prompts: int = 2, together: bool = False, **given
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    unknown = torch.zeros(TOKENS, dtype=torch.bool)
    unknown[torch.randperm(TOKENS, generator=generator)[: given.pop("unknown", UNKNOWN)]] = True
    embeds = torch.randn(2, 6, 16, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]])
    return denoise(
        transformer,
        torch.randn(SHAPE, generator=generator),
        unknown.view(SHAPE[2:]),
        Prompts(embeds[:prompts], mask[:prompts], together),
        token_coordinates(SHAPE, Geometry(16, 4, 8), 24),
        settings=SamplingSettings(SIGMAS, 3.0 if prompts == 2 else 1.0, **given),
        generator=generator,
        progress=QUIET,
        speed=speed,
    )


def difference(made: torch.Tensor, expected: torch.Tensor) -> float:
    return ((made - expected).norm() / expected.norm()).item()


CASES = [{"together": True}, {"together": False}, {"prompts": 1}, {"stochastic": True}]


@pytest.mark.parametrize("given", CASES, ids=str)
@pytest.mark.parametrize("hoist", [True, False])
def test_exact_with_one_layer(given: dict, hoist: bool) -> None:
    """There the keys and values of known tokens depend on nothing that moves."""
    transformer = make_transformer()
    assert difference(run(transformer, replace(ONCE, hoist=hoist), **given), run(transformer, PLAIN, **given)) < 1e-5


def test_exact_by_the_rules_of_mps() -> None:
    transformer = make_transformer()
    expected = run(transformer, PLAIN)
    # 2 heads × 60 keys × 4 bytes: five queries at a time
    apply_policy(transformer, replace(BACKENDS["mps"], attention_limit_bytes=5 * 480))
    assert difference(run(transformer, ONCE), expected) < 1e-5


@pytest.mark.parametrize("given", [*CASES, {"cond_noise": 0.15}], ids=str)
def test_near_with_more_layers_and_exact_when_every_pass_is_full(given: dict) -> None:
    transformer = make_transformer(layers=3)
    expected = run(transformer, PLAIN, **given)
    errors = [difference(run(transformer, Speed(refresh=refresh), **given), expected) for refresh in (0.0, 0.05, 1.0)]
    assert errors[0] < 1e-6
    assert errors[1] < errors[2] < 0.05


def test_each_branch_keeps_its_own() -> None:
    transformer = make_transformer(layers=3)
    one_after_the_other, at_once = (run(transformer, ONCE, together=together) for together in (False, True))
    assert difference(one_after_the_other, at_once) < 1e-6


def test_only_unknown_tokens_are_run_between_full_passes() -> None:
    transformer = make_transformer()
    ran = []
    transformer.proj_in.register_forward_hook(lambda _, inputs, __: ran.append(inputs[0].shape[1]))
    run(transformer, Speed(refresh=0.2), prompts=1)
    plan = full_passes(SIGMAS, 0.2)
    assert ran == [TOKENS if full else UNKNOWN for full in plan]
    # Where nearly everything is unknown, and where it is asked for, every pass runs everything.
    for speed, unknown in ((Speed(refresh=0.2), 55), (PLAIN, UNKNOWN)):
        ran.clear()
        run(transformer, speed, prompts=1, unknown=unknown)
        assert ran == [TOKENS] * len(plan)


def test_tokens_listed_twice_to_fill_a_bucket_change_nothing() -> None:
    transformer = make_transformer(layers=3)
    attention = LoopAttention(transformer)
    moving = torch.arange(TOKENS) < UNKNOWN
    tokens = torch.randn(1, TOKENS, 8)
    coordinates = token_coordinates(SHAPE, Geometry(16, 4, 8), 24)
    batches = [(torch.randn(2, 6, 16), torch.ones(2, 6))]
    made = []
    with (
        torch.no_grad(),
        open_passes(transformer, batches, coordinates, moving, sigmas=SIGMAS, speed=Speed(refresh=1.0)) as passes,
    ):
        passes(tokens, 0)
        made.append(passes(tokens, 1))
        passes.fresh = torch.cat([passes.fresh, passes.fresh[-1:].expand(3)])
        made.append(passes(tokens, 1))
    torch.testing.assert_close(made[1], made[0], rtol=0, atol=1e-6)
    assert attention.kept_bytes() == 0


@pytest.mark.parametrize("sizes", [[2], [1, 1], [1]])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kept_bytes_are_known_beforehand(sizes: list[int], dtype: str) -> None:
    transformer = make_transformer(layers=3)
    attention = LoopAttention(transformer)
    with attention.installed():
        attention.keep(sizes, TOKENS, getattr(torch, dtype), torch.device("cpu"))
        taken = attention.kept_bytes()
    width, size = 32, getattr(torch, dtype).itemsize
    assert taken == 2 * 3 * sum(sizes) * TOKENS * width * size
    assert attention.kept_bytes() == 0


def test_full_passes_follow_sigma_not_steps() -> None:
    sigmas = (1.0, 0.99, 0.98, 0.97, 0.5, 0.45, 0.4, 0.0)
    assert full_passes(sigmas, 0.1) == (True, False, False, False, True, False, True)
    assert full_passes(sigmas, 0.0) == (True,) * 7
    assert full_passes(sigmas, None) == (True,) * 7
    assert full_passes(sigmas, 1.0) == (True,) + (False,) * 6
    # The linear-quadratic schedule's first half moves by 2.5% and is one full pass.
    assert sum(full_passes(linear_quadratic(30)[:16], 0.1)) == 1


def test_buckets() -> None:
    counts = range(1, 5000)
    assert all(count <= bucket(count, 5000) <= 1.125 * count for count in counts)
    assert len({bucket(count, 5000) for count in counts}) < 100
    assert bucket(4200, 4290) == 4290


def test_choosing_speed() -> None:
    cuda, cpu = BACKENDS["cuda"], BACKENDS["cpu"]
    assert choose_speed(cuda, 30) == Speed(DEFAULT_REFRESH, hoist=True, compile=False, graphs=True)
    assert choose_speed(cuda, COMPILE_STEPS, dense=True).compile
    assert not choose_speed(cuda, COMPILE_STEPS).compile
    assert choose_speed(cuda, COMPILE_SPARSE_STEPS).compile
    assert not choose_speed(cuda, COMPILE_SPARSE_STEPS, compile=False).compile
    assert choose_speed(cuda, 30, compile=True).compile
    assert choose_speed(cpu, 10**6, refresh=0.3) == Speed(0.3, hoist=True)
    assert choose_speed(cpu, 30, dense=True).refresh is None


@pytest.mark.parametrize(
    ("given", "words"),
    [({"refresh": -0.1}, "0 to 1"), ({"refresh": float("nan")}, "0 to 1"), ({"compile": True}, "not supported on cpu")],
)
def test_speed_that_cannot_be(given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_speed(BACKENDS["cpu"], 30, **given)
