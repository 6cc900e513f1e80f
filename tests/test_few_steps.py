"""Models of the table that take few steps: at their own noise levels, without guidance, and no pass more."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerlift.engine import sampling
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, catalogue, open_model, parts, passes
from layerlift.engine.model.testing import write_tiny_model
from layerlift.engine.schedule import linear_quadratic
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.removal import remove_frames

DISTILLED = [name for name in catalogue.CATALOGUE if "distilled" in name]
OWN_LEVELS = {
    "ltx-2b-0.9.6-distilled": linear_quadratic(8)[:-1],
    "ltx-2b-0.9.8-distilled": [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250],
    "ltx-13b-0.9.8-distilled": [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250],
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny")))


def as_listed(tiny: Model, name: str) -> Model:
    """The tiny model, sampled as one of the table."""
    tiny.settings = replace(catalogue.CATALOGUE[name].settings, size=(64, 48), frames=9)
    return tiny


def remove(model: Model, **options: object) -> np.ndarray:
    video = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    mask = np.zeros(video.shape[:3], bool)
    mask[:, 10:20, 10:20] = True
    chosen = RemovalOptions(evidence="off", dense=True, **options)  # type: ignore[arg-type]
    return np.stack(list(remove_frames(video, mask, chosen, runtime=Runtime(model=model, policy=choose_policy("cpu")))))


class Asked:
    """The highest timestep and the number of prompts of every pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.levels: list[float] = []
        self.prompts: list[int] = []
        real = passes.predict_velocity

        def spy(transformer, tokens, timesteps, coordinates, batches):
            self.levels.append(float(timesteps.max()) / 1000)
            self.prompts.append(sum(len(embeds) for embeds, _ in batches))
            return real(transformer, tokens, timesteps, coordinates, batches)

        monkeypatch.setattr(passes, "predict_velocity", spy)


def test_every_distilled_model_is_tested() -> None:
    assert set(OWN_LEVELS) == set(DISTILLED)


@pytest.mark.parametrize("name", DISTILLED)
def test_own_levels_and_no_guidance(name: str, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    remove(as_listed(tiny, name))
    assert asked.levels == pytest.approx(OWN_LEVELS[name], abs=1e-4)
    assert set(asked.prompts) == {1}


def test_the_others_are_led_by_two_prompts(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    remove(as_listed(tiny, "ltx-2b-0.9.5"), steps=3)
    assert asked.levels == pytest.approx([level for level in linear_quadratic(3)[:-1] for _ in range(2)])
    assert asked.prompts == [1] * 6


@pytest.mark.parametrize(("name", "stochastic"), [("ltx-2b-0.9.6-distilled", True), ("ltx-2b-0.9.8-distilled", False)])
def test_only_0_9_6_draws_noise_in_every_step(
    name: str, stochastic: bool, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = sampling.torch.randn

    def counting(*shape: object, **named: object) -> torch.Tensor:
        drawn.append(shape)
        return real(*shape, **named)  # type: ignore[call-overload, no-any-return]

    def denoise(*given: object, **named: object) -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(sampling.torch, "randn", counting)
            return sampling.denoise(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(parts, "denoise", denoise)
    remove(as_listed(tiny, name))
    steps = catalogue.CATALOGUE[name].settings.steps
    # Where it begins, and after every step but the last.
    assert len(drawn) == (1 + steps - 1 if stochastic else 1)
