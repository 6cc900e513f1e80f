"""How long windows are: no longer than memory has room for them to run as short ones do."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlift.engine.device import BACKENDS
from layerlift.engine.device.needs import GIB, ModelFacts
from layerlift.engine.model.catalogue import DEFAULT
from layerlift.engine.model.checkpoint import Checkpoint, Component, bundled_config
from layerlift.engine.model.facts import read_facts
from layerlift.engine.planning import longest_alike, means, plan_clip, window_lengths
from layerlift.engine.sampling import SamplingSettings
from layerlift.errors import InputError
from layerlift.geometry.fit import Fit, Geometry, fit_size
from layerlift.geometry.focus import whole_view
from layerlift.stages.generation import Job
from layerlift.stages.removal import narrow

CUDA = replace(BACKENDS["cuda"], device="cuda")
# 15 × 9 tokens of the 22 × 15 that LTX-Video works at: 233 frames have as many pixels.
SMALL = fit_size((480, 270), (704, 480), 32)


@pytest.fixture(scope="module")
def model() -> Any:
    """LTX-Video 2B, as far as a plan looks at it."""
    parts = [
        Component(kind, bundled_config(name), {})
        for kind, name in (("transformer", "transformer_2b"), ("vae", "vae_0.9.5"))
    ]
    geometry = Geometry(32, 8, 128)
    facts: ModelFacts = read_facts("ltx", Checkpoint(Path("x"), *parts), geometry, None)
    return SimpleNamespace(settings=DEFAULT.settings, geometry=geometry, facts=lambda *_: facts)


def lengths(model: Any, gib: float, *, fit: Fit = SMALL, count: int = 200, **given: Any) -> list[int]:
    windows, plan = plan_clip(model, fit, count, ["", ""], CUDA, memory=int(gib * GIB), **given)
    assert plan.request.frames == max(window.frame_count for window in windows)
    assert plan.peak <= gib * GIB
    return [window.frame_count for window in windows]


def test_a_small_picture_has_long_windows(model: Any) -> None:
    assert lengths(model, 20) == [201]
    assert lengths(model, 20, window=97) == [89, 89, 89]
    assert lengths(model, 20, fit=fit_size((1280, 720), (704, 480), 32)) == [89, 89, 89]


def test_long_windows_are_no_reason_to_run_every_token_in_every_pass(model: Any) -> None:
    """Keys and values of all tokens are kept for sparse passes: those of 201 frames take more than those of 89."""

    def short_ones_are_sparse(gib: float) -> bool:
        _, plan = plan_clip(model, SMALL, 200, ["", ""], CUDA, memory=int(gib * GIB), window=97)
        return means(plan) == (True, True, False, False, False, False)

    gib = next(tenths / 10 for tenths in range(30, 80) if short_ones_are_sparse(tenths / 10))
    short = lengths(model, gib)
    assert len(short) > 1
    windows, long = plan_clip(model, SMALL, 200, ["", ""], CUDA, memory=int(gib * GIB), window=201)
    assert len(windows) == 1
    assert not long.sparse
    assert lengths(model, gib + 3) == [201]


def test_windows_that_do_not_fit_are_not_asked_for(model: Any) -> None:
    _, own = plan_clip(model, SMALL, 200, ["", ""], CUDA, memory=20 * GIB, window=97)
    tried = []

    def planned(most: int) -> tuple[int, Any]:
        tried.append(most)
        if most > 121:
            raise InputError("too much")
        return most, own

    assert longest_alike(planned, 97, 137, 8)[0] == 121
    assert tried == [97, 137, 129, 121]


def test_the_user_s_window(model: Any) -> None:
    assert window_lengths(model, None) == (97, 257)
    assert window_lengths(model, 33) == (33, 33)
    other = SimpleNamespace(settings=replace(DEFAULT.settings, longest=None), geometry=model.geometry)
    assert window_lengths(other, None) == (97, 97)
    with pytest.raises(InputError, match=r"--window is 8 frames.* give at least 9"):
        window_lengths(model, 8)


@given(
    runs=st.tuples(st.integers(1, 200), st.integers(1, 100)),
    side=st.integers(40, 600),
    gib=st.sampled_from([2.5, 2.6, 2.8, 3.0, 4.0, 5.0, 6.0, 8.0]),
    context=st.sampled_from([0, 8, 40]),
)
@settings(max_examples=60)
def test_nothing_is_refused_once_the_hole_is_known(
    model: Any, runs: tuple[int, int], side: int, gib: float, context: int
) -> None:
    """By then the evidence has been looked for; and with room enough a crop has no more tokens than at the most."""
    native, count = (1280, 690), sum(runs) + 60
    fit = fit_size(native, (704, 480), 32)
    asked = {"memory": int(gib * GIB), "context": context}
    try:
        windows, plan = plan_clip(model, fit, count, ["", ""], CUDA, **asked)
    except InputError:
        return
    job = Job(model, plan, ["", ""], SamplingSettings((1.0, 0.0), 3.0), whole_view(fit, windows), context=context)
    hole = np.zeros(native[::-1], bool)
    hole[40 : 40 + side, 100 : 100 + side] = True
    wanted = [hole] * runs[0] + [np.zeros_like(hole)] * 60 + [hole] * runs[1]
    near = narrow(job, wanted, feather=6)
    assert near.plan.peak <= gib * GIB
    assert near.plan.request.size == near.view.size
    assert near.plan.request.frames == max(window.frame_count for window in near.windows)
    assert near.plan.request.context == (context if len(near.windows) > 1 else 0)


def test_what_would_not_fit_around_the_hole_is_done_as_it_was_planned(model: Any) -> None:
    """Two windows at the ends of a clip of one are shown more of each other than there is room for."""
    fit = fit_size((1280, 690), (704, 480), 32)
    windows, plan = plan_clip(model, fit, 60, ["", ""], CUDA, memory=int(2.6 * GIB), context=40)
    job = Job(model, plan, ["", ""], SamplingSettings((1.0, 0.0), 3.0), whole_view(fit, windows), context=40)
    hole = np.zeros((690, 1280), bool)
    hole[40:650, 60:1220] = True
    ends = [hole] * 10 + [np.zeros_like(hole)] * 40 + [hole] * 10
    assert narrow(job, ends, feather=6) == job
    assert len(narrow(replace(job, context=0), ends, feather=6).windows) == 2


def test_windows_of_a_crop_may_be_longer_than_those_the_clip_is_cut_into(model: Any) -> None:
    """98 frames are two windows of 65; the 72 of them in which something is hidden, and some more, are one of 89."""
    fit = fit_size((1408, 960), (704, 480), 32)
    windows, plan = plan_clip(model, fit, 98, ["", ""], CUDA, memory=20 * GIB)
    assert [window.frame_count for window in windows] == [65, 65]
    job = Job(model, plan, ["", ""], SamplingSettings((1.0, 0.0), 3.0), whole_view(fit, windows))
    hole = np.zeros((960, 1408), bool)
    hole[50:850, 50:1250] = True
    near = narrow(job, [hole] * 72 + [np.zeros_like(hole)] * 26, feather=6)
    assert [window.frame_count for window in near.windows] == [89]
