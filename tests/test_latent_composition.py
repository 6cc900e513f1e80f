"""Latent composition: arithmetic on latents, what is put in and back, refinement in the sampler of removal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from layerlift.clip import Clip
from layerlift.engine.base import Decode, Denoise, Engine, SamplingSettings
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.latents import denormalize, encode
from layerlift.engine.model.speed import Speed
from layerlift.engine.schedule import refine_sigmas
from layerlift.errors import InputError
from layerlift.geometry.fit import fit_windows
from layerlift.options import LatentCompositionOptions
from layerlift.pixels.arrays import grow
from layerlift.progress import QUIET
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.composition.latent import (
    compose_latent,
    compose_latent_frames,
    covering,
    plan_latent_composition,
    sum_latents,
)
from support import Instead, around, failing, watched
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 5, 40, 56
OBJECT, TOTAL = np.s_[10:22, 16:30], np.s_[8:30, 14:34]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny")))


def noise(seed: int, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def still(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[place] = True
    return mask


def compose(model: Engine, onto: np.ndarray | None = None, **options: object) -> np.ndarray:
    onto = noise(2) if onto is None else onto
    named = options if "runtime" in options else {"model": model, "device": "cpu", **options}
    return compose_latent(noise(0), noise(1), still(OBJECT), still(TOTAL), onto, **named).numpy()  # type: ignore[arg-type]


@pytest.mark.parametrize("refine", [True, False])
def test_pixels_are_the_clip_s_in_the_object_and_the_background_s_beyond(model: Model, refine: bool) -> None:
    made = compose(model, refine=refine, steps=2)
    np.testing.assert_array_equal(made[:, *OBJECT], noise(0)[:, *OBJECT])
    beyond = ~grow(still(TOTAL), 2)
    np.testing.assert_array_equal(made[:, beyond], noise(2)[:, beyond])
    effects = still(TOTAL) & ~still(OBJECT)
    for other in (noise(0), noise(2)):
        assert (made[:, effects] != other[:, effects]).any(-1).mean() > 0.9


def test_refinement_changes_effects_and_follows_the_seed(model: Model) -> None:
    plain, refined = compose(model, refine=False), compose(model, steps=1)
    assert (plain != refined).any()
    np.testing.assert_array_equal(compose(model, steps=1), refined)
    assert (compose(model, steps=1, seed=1) != refined).any()
    assert (compose(model, steps=1, strength=0.9) != refined).any()


def test_sum_of_normalised_latents_is_the_raw_sum_normalised(model: Model) -> None:
    clips = [noise(seed, 5, 48, 64) for seed in range(3)]
    job = plan_latent_composition(
        *(clips[0], clips[1], np.pad(still(OBJECT), ((0, 8), (0, 8))), np.pad(still(TOTAL), ((0, 8), (0, 8)))),
        clips[2],
        LatentCompositionOptions(),
        Runtime(model, choose_policy("cpu")),
    ).job
    with model.encoding(job.policy) as encode_clip, QUIET.stage("", 1) as bar:
        one, two, three = (lambda start, clip=clip: clip[start:] for clip in clips)
        (summed,) = sum_latents(encode_clip, [(one, 1), (two, -1), (three, 1)], job, Runtime(), progress=bar)
        with pytest.raises(ValueError, match="sum to one"):
            sum_latents(encode_clip, [(one, 1), (two, 1)], job, Runtime(), progress=bar)
    with model.vae_encoder(job.policy) as vae:
        raw = [denormalize(vae, encode(vae, clip)) for clip in clips]
        made = denormalize(vae, torch.from_numpy(summed))
        torch.testing.assert_close(made, raw[0] - raw[1] + raw[2], atol=1e-4, rtol=1e-4)


def test_where_clip_and_plate_agree_the_latents_are_the_background_s(model: Model) -> None:
    """With a plate that is the clip itself nothing is moved: the result is the background through the VAE."""
    kept: dict[str, list[np.ndarray]] = {"latent": [], "injected": []}
    frames = compose_latent_frames(
        *(noise(0), noise(0), still(OBJECT), still(TOTAL), noise(2)),
        options=LatentCompositionOptions(refine=False),
        runtime=Runtime(model=model, policy=choose_policy("cpu")),
        keep=lambda name, frame: kept[name].append(frame),
    )
    assert len(list(frames)) == FRAMES
    again: list[np.ndarray] = []
    list(
        compose_latent_frames(
            *(noise(3), noise(3), still(OBJECT), still(TOTAL), noise(2)),
            options=LatentCompositionOptions(refine=False),
            runtime=Runtime(model=model, policy=choose_policy("cpu")),
            keep=lambda name, frame: again.append(frame) if name == "latent" else None,
        )
    )
    difference = np.abs(np.stack(again).astype(int) - np.stack(kept["latent"]))
    assert difference.max() <= 1
    injected = np.stack(kept["injected"])
    np.testing.assert_array_equal(injected[:, *OBJECT], noise(0)[:, *OBJECT])
    outside = ~still(OBJECT)
    np.testing.assert_array_equal(injected[:, outside], np.stack(kept["latent"])[:, outside])


def test_windows_share_what_was_refined_and_no_token_else_is_known(model: Model) -> None:
    seen, sampled = [], []

    @contextmanager
    def denoising(policy: Policy, prompts: Any, sampling: SamplingSettings, speed: Speed) -> Iterator[Denoise]:
        sampled.append(sampling)
        with model.denoising(policy, prompts, sampling, speed) as denoise:

            def noted(latents: np.ndarray, unknown: np.ndarray, *rest: Any) -> np.ndarray:
                seen.append(unknown)
                return denoise(latents, unknown, *rest)

            yield noted

    frames = 12
    made = compose_latent(
        *(noise(0, frames), noise(1, frames), still(OBJECT), still(TOTAL), noise(2, frames)),
        model=Instead(model, denoising=denoising),
        steps=3,
        strength=0.4,
        device="cpu",
    )
    assert made.frame_count == frames
    assert len(seen) > 1
    assert seen[0].all()
    window = fit_windows(frames, model.settings.frames, model.geometry.time)[1]
    assert not seen[1][1 : 1 + window.carried].any()
    assert seen[1][0].all()
    assert seen[1][1 + window.carried :].all()
    assert sampled[0].sigmas[0] == pytest.approx(0.4)
    assert (sampled[0].steps, sampled[0].guidance) == (3, 1.0)


def test_only_one_part_of_the_model_is_there_at_a_time_and_the_encoder_is_read_twice(model: Model) -> None:
    report = Report()
    parts = []

    real = model._component

    def watch(kind: str, policy: object, load: object) -> object:
        parts.append(kind)
        return real(kind, policy, load)  # type: ignore[arg-type]

    model._component = watch  # type: ignore[method-assign, assignment]
    try:
        compose(model, report=report, steps=1)
    finally:
        del model._component
    assert parts == ["encoder", "decoder", "encoder", "transformer", "decoder"]
    assert list(report.stages) == ["encode", "decode", "text", "denoise"]


def test_pictures_are_decoded_to_the_host_where_pixels_are_worked_on_there(model: Model) -> None:
    """By the rules of CUDA removal leaves them on the device; here numpy goes on with them."""
    kinds = set()

    def noted(decode: Decode, *given: Any) -> Iterator[Any]:
        for picture in decode(*given):
            kinds.add(type(picture))
            yield picture

    policy = replace(choose_policy("cpu"), device_pixels=True)
    compose(model, runtime=Runtime(around(model, "decoding", noted), policy), steps=1)
    assert kinds == {np.ndarray}


def test_background_of_another_size_and_length(model: Model) -> None:
    onto = noise(2, 2, 80, 200)
    made = compose(model, onto, refine=False)
    beyond = ~grow(still(TOTAL), 2)
    for frame, shown in zip(made, [onto[0], *[onto[1]] * 4], strict=True):
        np.testing.assert_array_equal(frame[beyond], covering(shown, (WIDTH, HEIGHT))[beyond])


def test_cover_scales_until_nothing_is_bare_and_crops_to_the_middle() -> None:
    wide = np.zeros((20, 100, 3), np.uint8)
    wide[:, 40:60] = 255
    covered = covering(wide, (20, 20))
    assert covered.shape == (20, 20, 3)
    assert (covered == 255).all()
    assert covering(wide, (30, 50)).shape == (50, 30, 3)
    assert covering(wide, (100, 20)) is wide


def test_masks_that_come_and_go(model: Model) -> None:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[1:3, *OBJECT] = True
    made = compose_latent(noise(0), noise(1), mask, mask, noise(2), model=model, refine=False, device="cpu").numpy()
    np.testing.assert_array_equal(made[[0, 3, 4]], noise(2)[[0, 3, 4]])
    np.testing.assert_array_equal(made[1:3, *OBJECT], noise(0)[1:3, *OBJECT])


def test_result_keeps_the_clip_s_timing(model: Model) -> None:
    clip = Clip.from_array(noise(0), 30, "walk")
    made = compose_latent(
        *(clip, noise(1), still(OBJECT), still(TOTAL), noise(2)), model=model, refine=False, device="cpu"
    )
    assert (made.rate, made.name, made.frame_count) == (30, "walk", FRAMES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"background": noise(1, height=HEIGHT + 2)}, "clean plate"),
        ({"background": noise(1, frames=3)}, "clean plate"),
        ({"objects": still(np.s_[0:6, 40:50])}, "outside the total mask"),
        ({"objects": []}, "object mask"),
        ({"total": np.zeros((HEIGHT, WIDTH), bool)}, "empty"),
        ({"onto": "nothing.mp4"}, "does not exist"),
        ({"strength": 0.0}, "--refine-strength is 0.0"),
        ({"strength": float("nan")}, "--refine-strength is nan"),
        ({"strength": 1.1}, "--refine-strength is 1.1"),
        ({"steps": 0}, "--refine-steps is 0"),
        ({"size": (8, 8)}, "8x8"),
        ({"model": "no-such-model"}, "no-such-model"),
    ],
)
def test_mistakes_are_said_before_a_weight_is_read(changes: dict[str, object], said: str, model: Model) -> None:
    engine, opened = watched(model)
    given = {"background": noise(1), "objects": still(OBJECT), "total": still(TOTAL), "onto": noise(2), "model": engine}
    given |= changes
    with pytest.raises(InputError, match=said):
        compose_latent(noise(0), device="cpu", **given)  # type: ignore[arg-type]
    assert opened == []


@pytest.mark.parametrize("stage", ["encode", "decode", "denoise"])
@pytest.mark.parametrize("calls", [{1}, {3}])
def test_memory_that_runs_out(model: Model, stage: str, calls: set[int]) -> None:
    """It goes on with less, says so, and makes what it would have made."""
    frames = 12  # in two windows, so that a stage fails in its middle as well
    given = (noise(0, frames), noise(1, frames), still(OBJECT), still(TOTAL), noise(2, frames))
    options: dict[str, Any] = {"steps": 2, "device": "cpu", "memory": 8.0}
    whole = compose_latent(*given, model=model, **options).numpy()
    part = {"encode": "encoding", "decode": "decoding", "denoise": "denoising"}[stage]
    calls = calls if stage != "denoise" else {min(2, *calls)}
    report = Report()
    made = compose_latent(*given, model=failing(model, part, calls), report=report, **options).numpy()
    assert np.abs(made.astype(int) - whole).max() <= 1
    assert [
        note for note in report.notes if note.startswith(f"memory ran out in stage {stage}; continuing with less: ")
    ]


def test_too_little_memory_is_refused_before_a_weight_is_read(model: Model) -> None:
    engine, opened = watched(model)
    with pytest.raises(InputError, match="give --memory"):
        compose(engine, memory=0.1)
    assert opened == []


def test_plan_is_made_for_the_memory(model: Model) -> None:
    report = Report()
    made = compose(model, memory=8.0, report=report, steps=1)
    assert list(report.results["planned_bytes"]) == ["encode", "text", "denoise", "decode"]
    np.testing.assert_array_equal(made, compose(model, steps=1))


def test_refine_sigmas() -> None:
    assert refine_sigmas(0.3, 3) == pytest.approx((0.3, 0.2, 0.1, 0.0))
    assert refine_sigmas(1.0, 1) == (1.0, 0.0)
