"""Whoever embeds layerlift can stop it at any step, from any thread, and nothing half-made is left."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layerlift import (
    CancelledError,
    RemovalOptions,
    RunOptions,
    Runtime,
    compose_latent_frames,
    remove_frames,
    run,
    suggest_references,
)
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from support import Steps
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), frames=9))


def inputs() -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(0).integers(0, 256, (10, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros((48, 64), bool)
    hidden[10:30, 20:40] = True
    return frames, hidden


def whole(runtime: Runtime, folder: Path) -> None:
    frames, hidden = inputs()
    options = RunOptions(RemovalOptions(steps=2, dilate=1))
    run(frames, [hidden], folder, onto=frames, options=options, runtime=runtime)


def removal(runtime: Runtime, folder: Path) -> None:
    frames, hidden = inputs()
    list(remove_frames(frames, hidden, RemovalOptions(steps=2, evidence="off"), runtime))


def latent(runtime: Runtime, folder: Path) -> None:
    frames, hidden = inputs()
    list(compose_latent_frames(frames, frames, hidden, hidden, frames, runtime=runtime))


def references(runtime: Runtime, folder: Path) -> None:
    list(suggest_references(*inputs(), runtime=runtime))


@pytest.mark.parametrize("job", [pytest.param(whole, marks=pytest.mark.slow), removal, latent, references])
def test_work_ends_at_the_step_at_which_that_is_asked_for(
    model: Model, tmp_path: Path, job: Callable[[Runtime, Path], None]
) -> None:
    everything = Steps()
    job(Runtime(model, choose_policy("cpu"), progress=everything.cancellation.watched(everything)), tmp_path / "whole")
    assert everything.count > 20
    for last in range(1, everything.count, max(1, everything.count // 5)):
        steps = Steps(last)
        with pytest.raises(CancelledError):
            job(Runtime(model, choose_policy("cpu"), progress=steps.cancellation.watched(steps)), tmp_path / str(last))
        # Two threads may have been at their steps.
        assert steps.count <= last + 1
        assert not (tmp_path / str(last)).exists()
        assert not list(tmp_path.glob(".*"))


def test_what_is_not_cancelled_goes_on() -> None:
    steps = Steps()
    with steps.cancellation.watched(steps).stage("look", 2) as bar:
        bar.advance()
        bar.advance(0)
    assert steps.count == 2  # the stage and one step: a question is no step
