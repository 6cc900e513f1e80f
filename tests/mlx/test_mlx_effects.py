"""What attention says of effects, by MLX and by torch: the same scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.effect_score import HEADS_FILE
from layerlift.errors import PrecisionError
from layerlift.progress import QUIET
from tiny_model import write_tiny_model

WHOLE = 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """With weights for every head, layer and kind of attention: so "auto" asks for all of it."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3, random=True)
    weights = torch.randn(2, 2, 3, 2, generator=torch.Generator().manual_seed(0))  # kinds, columns, layers, heads
    save_file({"weights": weights}, folder / HEADS_FILE, {"bias": "0", "threshold": "0.5"})
    return open_model(folder)


def scores(model: Model, rules: Policy, layers: str | Sequence[int], sigmas: Sequence[float], latents: Any) -> Any:
    """For two objects of a small clip, (2, F, h, w)."""
    objects = np.zeros((2, 9, 48, 64), bool)
    objects[0, :, :16, :20] = objects[1, :5, 30:, 32:48] = True
    coverage, _ = model.cover(objects, rules)
    prompts = model.prompts([model.scoring_prompt()], rules, cache=False, progress=QUIET)
    with model.scoring(rules, prompts, model.scorer(layers), sigmas) as score:
        return score(latents, coverage, model.noise(0))


@pytest.mark.parametrize(
    ("layers", "sigmas"), [("auto", (0.4,)), ("all", (0.4,)), ("all", (0.2, 0.7)), ([0, 2], (0.4,))]
)
def test_scores_are_torch_s(
    model: Model, policy: Policy, layers: str | Sequence[int], sigmas: Sequence[float], off: Callable[..., float]
) -> None:
    latents = np.random.default_rng(0).normal(size=(1, 8, 3, 3, 4)).astype(np.float32)
    theirs = scores(model, choose_policy("cpu"), layers, sigmas, latents)
    assert theirs.std() > 0.01
    assert off(torch.from_numpy(theirs), scores(MlxModel(model), policy, layers, sigmas, latents)) < WHOLE


def test_numbers_that_are_none_are_told(model: Model, policy: Policy) -> None:
    with pytest.raises(PrecisionError, match="returned NaN or infinity"):
        scores(MlxModel(model), policy, "all", (0.4,), np.full((1, 8, 3, 3, 4), np.nan, np.float32))
