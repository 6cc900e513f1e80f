"""Noise levels against diffusers' own."""

from dataclasses import replace
from itertools import pairwise

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

from layerlift.engine.model.settings import Settings
from layerlift.engine.schedule import linear_quadratic, listed, model_sigmas, shifted_linear
from layerlift.errors import InputError


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 20, 40, 50])
def test_linear_quadratic_is_diffusers(steps: int) -> None:
    sigmas = linear_quadratic(steps)
    assert sigmas[:-1] == tuple(linear_quadratic_schedule(steps).tolist())
    assert sigmas[-1] == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_shifted_linear_is_the_flow_match_scheduler(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - i / 10 for i in range(10)])
    assert shifted_linear(10, shift) == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("sigmas", [linear_quadratic(12), shifted_linear(12, 2.5), listed((1.0, 0.9, 0.7, 0.4))])
def test_levels_fall_from_one_to_zero(sigmas: tuple[float, ...]) -> None:
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert all(after < before for before, after in pairwise(sigmas))


def test_listed_levels_can_be_thinned_but_not_invented() -> None:
    levels = (1.0, 0.9, 0.7, 0.4)
    assert listed(levels, 2) == pytest.approx((1.0, 0.7, 0.0))
    with pytest.raises(InputError, match="at most 4 steps"):
        listed(levels, 5)


def test_a_models_settings_choose_its_schedule() -> None:
    settings = Settings(steps=6, guidance=1.0, size=(64, 48), frames=9, rate=24.0, licence="none")
    assert model_sigmas(settings) == linear_quadratic(6)
    assert model_sigmas(settings, 4) == linear_quadratic(4)
    assert model_sigmas(replace(settings, shift=2.0), 5) == shifted_linear(5, 2.0)
    levels = (1.0, 0.9, 0.7, 0.4)
    assert model_sigmas(replace(settings, sigmas=levels, shift=2.0)) == listed(levels)
