"""Models of the table that take few steps: at their own noise levels, without guidance, and no pass more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlift.engine.base import Denoise, Engine
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, catalogue, open_model
from layerlift.engine.schedule import linear_quadratic
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.removal import remove_frames
from support import around
from tiny_model import write_tiny_model

POLICY = choose_policy("cpu", resident=True)

DISTILLED = [name for name in catalogue.CATALOGUE if "distilled" in name]
OWN_LEVELS = {
    "ltx-2b-0.9.6-distilled": linear_quadratic(8)[:-1],
    "ltx-2b-0.9.8-distilled": [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250],
    "ltx-13b-0.9.8-distilled": [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250],
}


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return open_model(write_tiny_model(tmp_path))


def as_listed(tiny: Model, name: str) -> Model:
    """The tiny model, sampled as one of the table."""
    tiny.settings = replace(catalogue.CATALOGUE[name].settings, size=(64, 48), frames=9)
    return tiny


def remove(model: Engine, **options: object) -> np.ndarray:
    video = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    mask = np.zeros(video.shape[:3], bool)
    mask[:, 10:20, 10:20] = True
    chosen = RemovalOptions(evidence="off", dense=True, **options)  # type: ignore[arg-type]
    return np.stack(list(remove_frames(video, mask, chosen, runtime=Runtime(model=model, policy=POLICY))))


class Asked:
    """The highest timestep and the number of prompts of every pass of the model's transformer."""

    def __init__(self, model: Model) -> None:
        self.levels: list[float] = []
        self.prompts: list[int] = []
        with model.transformer(POLICY) as transformer:  # which stays
            transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: object, __: object, given: dict[str, torch.Tensor]) -> None:
        self.levels.append(float(given["timestep"].max()) / 1000)
        self.prompts.append(len(given["encoder_hidden_states"]))


def test_every_distilled_model_is_tested() -> None:
    assert set(OWN_LEVELS) == set(DISTILLED)


@pytest.mark.parametrize("name", DISTILLED)
def test_own_levels_and_no_guidance(name: str, tiny: Model) -> None:
    asked = Asked(tiny)
    remove(as_listed(tiny, name))
    assert asked.levels == pytest.approx(OWN_LEVELS[name], abs=1e-4)
    assert set(asked.prompts) == {1}


def test_the_others_are_led_by_two_prompts(tiny: Model) -> None:
    asked = Asked(tiny)
    remove(as_listed(tiny, "ltx-2b-0.9.5"), steps=3)
    assert asked.levels == pytest.approx([level for level in linear_quadratic(3)[:-1] for _ in range(2)])
    assert asked.prompts == [1] * 6


@pytest.mark.parametrize(("name", "stochastic"), [("ltx-2b-0.9.6-distilled", True), ("ltx-2b-0.9.8-distilled", False)])
def test_only_0_9_6_draws_noise_in_every_step(name: str, stochastic: bool, tiny: Model) -> None:
    drawn = []

    def denoise(run: Denoise, latents: np.ndarray, *given: Any) -> np.ndarray:
        noise = given[2]
        expected = torch.Generator().set_state(torch.from_numpy(noise.get_state()))
        made = run(latents, *given)
        count = 0
        while not (expected.get_state().numpy() == noise.get_state()).all() and count < 99:
            torch.randn(latents.shape, generator=expected)
            count += 1
        drawn.append(count)
        return made

    remove(around(as_listed(tiny, name), "denoising", denoise))
    steps = catalogue.CATALOGUE[name].settings.steps
    # Where it begins, and after every step but the last.
    assert drawn == [1 + steps - 1 if stochastic else 1]
