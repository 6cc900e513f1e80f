"""The denoising loop with models whose answer is known."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from layerlift.engine.sampling import Prompts, SamplingSettings, denoise
from layerlift.engine.schedule import linear_quadratic
from layerlift.errors import LayerliftError
from layerlift.progress import QUIET

SHAPE = (1, 4, 3, 2, 2)


class Fake(torch.nn.Module):
    """Stands for the transformer: leads every token to `target` (1, S, C), and remembers what it was asked."""

    def __init__(self, target: torch.Tensor, prompted: float = 0.0) -> None:
        super().__init__()
        self.proj_in = torch.nn.Linear(1, 1)
        self.target, self.prompted = target, prompted
        self.asked: list[dict[str, torch.Tensor]] = []

    def forward(self, **asked: torch.Tensor) -> tuple[torch.Tensor]:
        self.asked.append(asked)
        sigma = asked["timestep"][..., None] / 1000
        # velocity = noise − x0 = (x − x0) / sigma
        velocity = (asked["hidden_states"] - self.target) / sigma.clamp(min=1e-6)
        return (velocity + self.prompted * asked["encoder_hidden_states"].mean((1, 2))[:, None, None],)


class Counter:
    steps = 0

    def advance(self, steps: int = 1) -> None:
        self.steps += steps


def run(model: Fake, sigmas: list[float], seed: int = 0, latents: torch.Tensor | None = None, **given) -> torch.Tensor:
    unknown = given.pop("unknown", torch.ones(SHAPE[2:], dtype=torch.bool))
    prompts = given.pop("prompts", Prompts(torch.zeros(1, 2, 3), torch.ones(1, 2)))
    progress = given.pop("progress", QUIET)
    return denoise(
        model, torch.zeros(SHAPE) if latents is None else latents, unknown, prompts, torch.zeros(1, 3, 12),
        settings=SamplingSettings(tuple(sigmas), **given),
        generator=torch.Generator().manual_seed(seed), progress=progress,
    )  # fmt: skip


def random(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_known() -> torch.Tensor:
    unknown = torch.ones(SHAPE[2:], dtype=torch.bool)
    unknown[:, 0] = False
    return unknown


@pytest.mark.parametrize("stochastic", [False, True])
def test_reaches_what_the_model_points_at(stochastic: bool) -> None:
    target = random(1, 12, 4)
    made = run(Fake(target), linear_quadratic(5), stochastic=stochastic)
    torch.testing.assert_close(made.flatten(2).transpose(1, 2), target, atol=1e-4, rtol=1e-4)


def test_known_tokens_stay_bit_for_bit_and_have_timestep_zero() -> None:
    clip, unknown = random(*SHAPE, seed=8), half_known()
    model, counter = Fake(random(1, 12, 4)), Counter()
    made = run(model, linear_quadratic(4), latents=clip, unknown=unknown, cond_noise=0.5, progress=counter)
    assert torch.equal(made[:, :, ~unknown], clip[:, :, ~unknown])
    assert not torch.isclose(made[:, :, unknown], clip[:, :, unknown]).any()
    assert counter.steps == 4
    for asked, sigma in zip(model.asked, linear_quadratic(4), strict=False):
        torch.testing.assert_close(asked["timestep"][0], 1000 * sigma * unknown.flatten().float())


def test_known_tokens_are_shown_with_noise_that_falls_with_sigma_squared() -> None:
    clip, known = random(*SHAPE), ~half_known().flatten()
    model = Fake(random(1, 12, 4))
    run(model, [1.0, 0.5, 0.0], latents=clip, unknown=half_known(), cond_noise=0.1)
    shown = [(asked["hidden_states"] - clip.flatten(2).transpose(1, 2))[0, known] for asked in model.asked]
    assert shown[0].std() == pytest.approx(0.1, rel=0.4)
    assert shown[1].std() == pytest.approx(0.1 * 0.25, rel=0.4)


def test_stochastic_steps_are_the_flow_match_schedulers() -> None:
    sigmas, target = linear_quadratic(4), random(1, 12, 4)
    made = run(Fake(target, 1.0), sigmas, stochastic=True, prompts=Prompts(torch.ones(1, 2, 3), torch.ones(1, 2)))

    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    scheduler.set_timesteps(sigmas=list(sigmas[:-1]))
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(SHAPE, generator=generator).flatten(2).transpose(1, 2)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        velocity = (sample - target) / sigma + 1.0
        sample = scheduler.step(velocity, t, sample, generator=generator).prev_sample
    torch.testing.assert_close(made.flatten(2).transpose(1, 2), sample, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("together", [True, False])
def test_guidance_goes_past_the_prompt_away_from_the_negative_one(together: bool) -> None:
    # The model adds the prompt's value to its velocity: 1 for the negative prompt, 2 for the prompt.
    embeds = torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 2, 3)
    target = random(1, 12, 4)
    prompts = Prompts(embeds, torch.ones(2, 2), together=together)
    model = Fake(target, 1.0)
    made = run(model, [1.0, 0.0], guidance=3.0, prompts=prompts)
    # One step from sigma 1 to 0: x0 = target − (1 + 3·(2 − 1)).
    torch.testing.assert_close(made.flatten(2).transpose(1, 2), target - 4, atol=1e-5, rtol=1e-5)
    assert len(model.asked) == (1 if together else 2)


def test_starts_from_noised_latents_below_sigma_one() -> None:
    clip = random(*SHAPE)
    model = Fake(random(1, 12, 4))
    run(model, [0.3, 0.0], latents=clip, seed=5)
    expected = 0.7 * clip + 0.3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(model.asked[0]["hidden_states"], expected.flatten(2).transpose(1, 2))


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    sigmas = [*linear_quadratic(3)[:-1], 0.01]
    first, again, other = (run(Fake(torch.zeros(1, 12, 4)), sigmas, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nan_is_an_error_that_names_the_step() -> None:
    with pytest.raises(LayerliftError, match="step 1"):
        run(Fake(torch.full((1, 12, 4), float("nan"))), [1.0, 0.5, 0.0])
