"""Noise levels against diffusers' own."""

from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

from layerlift.engine.model.settings import Settings
from layerlift.engine.schedule import linear_quadratic, listed, model_sigmas, shifted_linear
from layerlift.errors import InputError


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 20, 40, 50])
def test_linear_quadratic_is_diffusers(steps: int) -> None:
    sigmas = linear_quadratic(steps)
    assert sigmas.dtype == torch.float32
    assert torch.equal(sigmas[:-1], linear_quadratic_schedule(steps))
    assert sigmas[-1] == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_shifted_linear_is_the_flow_match_scheduler(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - i / 10 for i in range(10)])
    torch.testing.assert_close(shifted_linear(10, shift), scheduler.sigmas, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sigmas", [linear_quadratic(12), shifted_linear(12, 2.5), listed((1.0, 0.9, 0.7, 0.4))])
def test_levels_fall_from_one_to_zero(sigmas: torch.Tensor) -> None:
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_listed_levels_can_be_thinned_but_not_invented() -> None:
    levels = (1.0, 0.9, 0.7, 0.4)
    torch.testing.assert_close(listed(levels, 2), torch.tensor([1.0, 0.7, 0.0]))
    with pytest.raises(InputError, match="at most 4 steps"):
        listed(levels, 5)


def test_a_models_settings_choose_its_schedule() -> None:
    settings = Settings(steps=6, guidance=1.0, size=(64, 48), frames=9, rate=24.0, licence="none")
    assert torch.equal(model_sigmas(settings), linear_quadratic(6))
    assert torch.equal(model_sigmas(settings, 4), linear_quadratic(4))
    assert torch.equal(model_sigmas(replace(settings, shift=2.0), 5), shifted_linear(5, 2.0))
    levels = (1.0, 0.9, 0.7, 0.4)
    assert torch.equal(model_sigmas(replace(settings, sigmas=levels, shift=2.0)), listed(levels))
