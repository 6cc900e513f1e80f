"""The denoising loop in MLX against torch's, number by number: sparse passes, guidance, and the same noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.engine.base import Context
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.mlx.passes import Loops
from layerlift.engine.mlx.quantised import load_transformer
from layerlift.engine.mlx.sampling import denoise
from layerlift.engine.model import open_model
from layerlift.engine.model.checkpoint import Component
from layerlift.engine.model.parts import noise
from layerlift.engine.model.schema import check_config
from layerlift.engine.model.speed import PLAIN, Speed
from layerlift.engine.sampling import Prompts, SamplingSettings
from layerlift.engine.sampling import denoise as torch_denoise
from layerlift.errors import PrecisionError
from layerlift.progress import QUIET
from tiny_model import tiny_transformer_config, write_tiny_model

WHOLE = 1e-4
SHAPE = (1, 8, 3, 4, 5)
SIGMAS = (1.0, 0.95, 0.9, 0.6, 0.3, 0.0)


@pytest.fixture(scope="module")
def theirs() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(**tiny_transformer_config()).eval()
    for name, value in model.named_parameters():
        if "attn1" in name or "scale_shift_table" in name:
            value.data *= 4  # a random model hardly looks at other tokens
    return model


@pytest.fixture(scope="module")
def component(theirs: LTXVideoTransformer3DModel, written: Callable[..., Component]) -> Component:
    return replace(made := written("transformer", theirs), config=check_config("transformer", made.config, "a test"))


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given(count: int) -> tuple[Prompts, torch.Tensor, torch.Tensor, np.ndarray]:
    """Prompts with padding, coordinates, latents, and a third of the tokens unknown."""
    mask = torch.ones(count, 6)
    mask[0, 4:] = 0
    places = torch.rand(1, 3, 60, generator=torch.Generator().manual_seed(1)) * torch.tensor([2.0, 480, 704])[:, None]
    unknown = np.zeros(SHAPE[2:], bool)
    unknown[:, 1:3, 1:4] = True
    return Prompts(random(count, 6, 16, seed=2), mask), places, random(*SHAPE, seed=3), unknown


@pytest.mark.parametrize("speed", [PLAIN, Speed(refresh=0.15)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"guidance": 3.0}, {"guidance": 2.0, "cond_noise": 0.1}, {"stochastic": True}],
)
def test_the_loop_is_torch_s(
    *,
    theirs: Any,
    component: Component,
    policy: Policy,
    settings: dict[str, Any],
    speed: Speed,
    off: Callable[..., float],
) -> None:
    sampling = SamplingSettings(SIGMAS, **settings)
    prompts, places, latents, unknown = given(2 if sampling.guidance != 1 else 1)
    expected = torch_denoise(
        theirs, latents, torch.from_numpy(unknown), prompts, places, settings=sampling, generator=noise(5),
        progress=QUIET, speed=speed,
    )  # fmt: skip
    batches = prompts.batches(like=torch.zeros(()))
    loops = Loops(load_transformer(component, policy), batches, SIGMAS, speed)
    found = denoise(loops, latents.numpy(), unknown, places, settings=sampling, noise=noise(5), progress=QUIET)
    assert off(expected, found) < WHOLE
    np.testing.assert_array_equal(found[:, :, ~unknown], latents.numpy()[:, :, ~unknown])


def test_sparse_passes_are_something_else(component: Component, policy: Policy) -> None:
    """They run the unknown tokens alone, and show it: or the test above would say nothing of them."""
    prompts, places, latents, unknown = given(1)
    batches, made = prompts.batches(like=torch.zeros(())), []
    for speed in (PLAIN, Speed(refresh=0.15)):
        loops = Loops(load_transformer(component, policy), batches, SIGMAS, speed)
        passes = loops.over(places, unknown.ravel())
        assert all(passes.plan) == (speed is PLAIN)
        made.append(
            denoise(
                loops,
                latents.numpy(),
                unknown,
                places,
                settings=SamplingSettings(SIGMAS),
                noise=noise(5),
                progress=QUIET,
            )
        )
    assert np.abs(made[0] - made[1]).max() > 10 * WHOLE * np.abs(made[0]).max()


def test_numbers_that_are_none_are_told(component: Component, policy: Policy) -> None:
    prompts, places, latents, unknown = given(1)
    transformer = load_transformer(component, policy)
    transformer.proj_out.bias = transformer.proj_out.bias * float("nan")
    loops = Loops(transformer, prompts.batches(like=torch.zeros(())), SIGMAS, PLAIN)
    with pytest.raises(PrecisionError, match="in step 1"):
        denoise(
            loops, latents.numpy(), unknown, places, settings=SamplingSettings(SIGMAS), noise=noise(5), progress=QUIET
        )


@pytest.mark.parametrize("speed", [PLAIN, Speed(refresh=0.15)])
def test_tokens_of_other_windows_are_shown_as_torch_shows_them(
    tmp_path: Path, policy: Policy, speed: Speed, off: Callable[..., float]
) -> None:
    model = open_model(write_tiny_model(tmp_path / "m", random=True))
    random = np.random.default_rng(0)
    latents, kept = (random.normal(size=(1, 8, *shape)).astype(np.float32) for shape in ((3, 3, 4), (5,)))
    places = random.uniform(-2, 60, size=(1, 3, 5)).astype(np.float32)
    unknown = np.zeros((3, 3, 4), bool)
    unknown[:, 1, 1:3] = True
    made = []
    for engine, rules in ((model, choose_policy("cpu")), (MlxModel(model), policy)):
        prompts = engine.prompts(["", "Empty"], rules, cache=False, progress=QUIET)
        sampling = SamplingSettings(SIGMAS, guidance=3.0)
        with engine.denoising(rules, prompts, sampling, speed) as generate:
            for context in (Context(kept, places), Context(kept, places + 9), None):
                made.append(generate(latents, unknown, context, engine.noise(0), QUIET))
    assert np.abs(made[0] - made[1]).max() > 10 * WHOLE * np.abs(made[0]).max()  # where they lie matters
    for theirs, ours in zip(made[:3], made[3:], strict=True):
        assert off(torch.from_numpy(theirs), ours) < WHOLE
