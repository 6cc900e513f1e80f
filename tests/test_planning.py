"""How long windows are: no longer than memory has room for them to run as short ones do."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerlift.device import BACKENDS
from layerlift.device.needs import GIB, ModelFacts
from layerlift.errors import InputError
from layerlift.fit import Fit, Geometry, fit_size
from layerlift.model.catalogue import DEFAULT
from layerlift.model.checkpoint import Checkpoint, Component, bundled_config
from layerlift.model.facts import read_facts
from layerlift.stages.planning import longest_alike, means, plan_clip, window_lengths

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
        return means(plan) == (True, True, False, False)

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
    with pytest.raises(InputError, match=r"a window of 8 frames .* give at least 9"):
        window_lengths(model, 8)
