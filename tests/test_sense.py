"""A result that is finite and no picture stops, or is made again in float32 where there is memory for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.engine.base import Engine
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.device.plan import least_memory, make_plan
from layerlift.engine.model import Model, open_model
from layerlift.errors import PrecisionError
from layerlift.options import LatentCompositionOptions, RemovalOptions
from layerlift.pixels.sense import look, nonsense
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition
from layerlift.stages.removal import RemovalPlan, plan_removal, run_removal
from support import Instead
from tiny_model import write_tiny_model

HALF = replace(choose_policy("cpu"), transformer_dtype="bfloat16")
EXACT = choose_policy("cpu")
HEIGHT, WIDTH, COUNT = 48, 64, 9


def footage() -> np.ndarray:
    """A smooth picture with an edge, (F, H, W, 3) uint8."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([60 + x, 200 - 2 * y, 90 + 40 * (x > 30)], -1).astype(np.uint8)
    return np.repeat(picture[None], COUNT, 0)


def flat() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 127.4, np.float32) + np.random.default_rng(0).normal(0, 0.1, 3).astype(
        np.float32
    )


def saturated() -> np.ndarray:
    return np.where(footage()[0] > 120, np.float32(255), np.float32(0))


def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


BAD: dict[str, Callable[[], np.ndarray]] = {
    "of a single colour": flat,
    "black and white in": saturated,
    "noise: its neighbouring pixels differ": noise,
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_picture(said: str) -> None:
    own = look(footage()[0].astype(np.float32))
    assert str(nonsense(look(BAD[said]()), own)).startswith(said)
    # Of a clip that is like that itself, it is one.
    assert nonsense(look(BAD[said]()), look(BAD[said]())) is None


def test_a_picture_is_one() -> None:
    clip = footage()[0].astype(np.float32)
    blurred = (clip + np.roll(clip, 3, 1) + np.roll(clip, -3, 0)) / 3
    grainy = clip + np.random.default_rng(0).normal(0, 12, clip.shape).astype(np.float32)
    for made in (clip, blurred, grainy.clip(0, 255)):
        assert nonsense(look(made), look(clip)) is None


def test_what_was_removed_does_not_count() -> None:
    """A sign on a wall of one colour leaves the wall."""
    wall, hides = np.full((HEIGHT, WIDTH, 3), 90, np.float32), np.zeros((HEIGHT, WIDTH), bool)
    hides[10:30, 10:40] = True
    sign = wall.copy()
    sign[hides] = np.random.default_rng(0).uniform(0, 255, (hides.sum(), 3))
    assert nonsense(look(wall), look(sign, ~hides)) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), random=False))


def decoding_as(engine: Engine, made: Callable[[Policy], np.ndarray]) -> tuple[Engine, list[str]]:
    """The engine, but its decoder makes the pictures that are given for a policy; and the dtypes it was opened in."""
    opened: list[str] = []

    @contextmanager
    def decoding(policy: Policy) -> Iterator[Any]:
        opened.append(policy.transformer_dtype)
        yield lambda latents, noise: iter([made(policy)] * COUNT)

    return Instead(engine, decoding=decoding), opened


def planned(engine: Engine, policy: Policy, report: Report | None = None) -> RemovalPlan:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 20:40] = True
    runtime = Runtime(model=engine, policy=policy, report=report or Report())
    return plan_removal(Clip.from_array(footage()), mask, RemovalOptions(evidence="off"), runtime)


@pytest.mark.parametrize("said", BAD)
def test_nonsense_is_made_again_in_float32(model: Model, said: str) -> None:
    good = footage()[0].astype(np.float32)
    engine, opened = decoding_as(model, lambda policy: good if policy.transformer_dtype == "float32" else BAD[said]())
    report = Report()
    made = np.stack(list(run_removal(planned(engine, HALF, report))))
    assert np.abs(made.astype(int) - footage()).max() <= 1
    assert opened == ["bfloat16", "float32"]
    (note,) = [note for note in report.notes if "trying again in float32" in note]
    assert said.split(":", maxsplit=1)[0] in note


@pytest.mark.parametrize("said", BAD)
def test_nonsense_in_float32_stops(model: Model, said: str) -> None:
    engine, opened = decoding_as(model, lambda policy: BAD[said]())
    with pytest.raises(PrecisionError, match=rf"made a frame that is {said}.*its weights are damaged; choose another"):
        list(run_removal(planned(engine, EXACT)))
    assert opened == ["float32"]


def test_what_is_not_finite_is_made_again_too(model: Model) -> None:
    dtypes: list[str] = []

    @contextmanager
    def denoising(policy: Policy, *rest: Any) -> Iterator[Any]:
        dtypes.append(policy.transformer_dtype)
        if policy.transformer_dtype != "float32":
            raise PrecisionError("the model returned NaN or infinity in step 1: try --dtype float32")
        with model.denoising(policy, *rest) as denoise:
            yield denoise

    good = footage()[0].astype(np.float32)
    engine = Instead(decoding_as(model, lambda policy: good)[0], denoising=denoising)
    report = Report()
    assert len(list(run_removal(planned(engine, HALF, report)))) == COUNT
    assert dtypes == ["bfloat16", "float32"]
    assert "the model returned NaN or infinity in step 1; trying again in float32" in report.notes


def test_a_model_of_random_numbers_may_make_noise(tmp_path: Path) -> None:
    engine, _ = decoding_as(open_model(write_tiny_model(tmp_path / "tiny")), lambda policy: noise())
    assert len(list(run_removal(planned(engine, EXACT)))) == COUNT


def test_there_is_no_more_precise_plan_than_fits(model: Model) -> None:
    job = planned(model, HALF).job
    assert job is not None
    exact = job.plan.precise()
    assert exact is not None
    assert (exact.policy.transformer_dtype, exact.policy.vae_dtype) == ("float32", "float32")
    assert exact.precise() is None
    least = least_memory(replace(job.plan.request, policy=EXACT))
    assert least > least_memory(job.plan.request)
    assert make_plan(replace(job.plan.request, memory=least - 1)).precise() is None


@pytest.mark.parametrize("refine", [True, False])
def test_a_composition_is_made_again_in_float32(model: Model, refine: bool) -> None:
    good = footage()[0].astype(np.float32)
    engine, opened = decoding_as(
        model, lambda policy: good if policy.transformer_dtype == "float32" else BAD["of a single colour"]()
    )
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 20:40] = True
    runtime = Runtime(model=engine, policy=HALF, report=Report())
    options = LatentCompositionOptions(refine=refine)
    plan = plan_latent_composition(footage(), footage(), mask, mask, footage(), options, runtime)
    kept = list[str]()
    made = np.stack(list(run_latent_composition(plan, lambda name, frame: kept.append(name))))
    assert np.abs(made.astype(int) - footage()).max() <= 1
    assert opened == ["bfloat16", "float32"] if not refine else ["bfloat16"] * 2 + ["float32"] * 2
    assert kept.count("latent") == kept.count("injected") == COUNT
    assert [note for note in runtime.report.notes if "trying again in float32" in note]
