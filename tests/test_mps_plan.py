"""Plans by the rules of MPS: what fused attention spares, and the arrays that torch for Metal joins wrongly."""

from dataclasses import replace

import pytest

from layerlift.cli.plan import describe
from layerlift.engine.device import BACKENDS, choose_policy
from layerlift.engine.device.mps import FusedAttention
from layerlift.engine.device.needs import GIB, DenoiseRun, ModelFacts, Request, denoise_need
from layerlift.engine.device.plan import denoise_runs, least_memory, make_plan
from layerlift.engine.model import open_model
from layerlift.errors import InputError

FUSED = FusedAttention((64,), fewest_queries=9)
OTHER = FusedAttention((128,), fewest_queries=9)


@pytest.fixture(scope="module")
def facts() -> ModelFacts:
    """Those of the demo model, which has heads of 64 as LTX-Video 2B."""
    found = open_model("demo").facts(["Empty"], choose_policy("cpu"))
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
