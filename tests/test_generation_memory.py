"""Generation in little memory: the same result, and going on when memory runs out all the same."""

import math
from dataclasses import replace

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.engine.base import Engine
from layerlift.engine.device import choose_policy
from layerlift.engine.device.needs import GIB
from layerlift.engine.device.plan import least_memory
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError, LayerliftError
from layerlift.options import RemovalOptions
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.removal import RemovalPlan, plan_removal, run_removal
from support import failing, watched
from tiny_model import write_tiny_model

CPU = choose_policy("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3, frames=9))


def planned(
    model: Engine, report: Report | None = None, memory_bytes: int = 8 * GIB, crop: bool = False
) -> RemovalPlan:
    """A removal from a clip of two windows."""
    frames = np.random.default_rng(0).integers(0, 256, (14, 48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:40] = True
    return plan_removal(
        Clip.from_array(frames),
        mask,
        RemovalOptions(evidence="off", seed=3, guidance=3.0, crop=crop),
        runtime=Runtime(model=model, policy=CPU, report=report or Report(), memory_bytes=memory_bytes),
    )


def run(model: Engine, report: Report | None = None, crop: bool = False) -> np.ndarray:
    return np.stack(list(run_removal(planned(model, report, crop=crop))))


def test_plan_is_in_the_report(model: Model) -> None:
    report = Report()
    run(model, report)
    assert list(report.results["planned_bytes"]) == ["encode", "text", "denoise", "decode"]


def test_too_little_memory_is_refused_before_a_weight_is_read(model: Model) -> None:
    engine, opened = watched(model)
    with pytest.raises(InputError, match=r"give --memory 0\.4"):
        planned(engine, memory_bytes=GIB // 10)
    assert opened == []


@pytest.mark.parametrize(
    "changes",
    [
        {"streamed_blocks": 2},
        {"vae_frames": 1},
        {"vae_frames": 4, "vae_streamed": True},
        {"batched_guidance": True},
        {"attention_limit_bytes": 2**12},
    ],
)
def test_same_result_in_less_memory(model: Model, changes: dict[str, int]) -> None:
    engine, opened = watched(model)
    plan = planned(engine)
    assert plan.job is not None
    ways = replace(plan.job.plan, policy=replace(plan.job.policy, **changes))  # type: ignore[arg-type]
    made = np.stack(list(run_removal(replace(plan, job=replace(plan.job, plan=ways)))))
    # Rounding of float32 may cross half a grey level.
    assert np.abs(made.astype(int) - run(model)).max() <= 1
    assert [part for part, _ in opened] == ["encoding", "denoising", "decoding"]
    assert [{name: getattr(policy, name) for name in changes} for _, policy in opened] == [changes] * 3


def test_the_least_memory_there_is_a_plan_for_is_enough(model: Model) -> None:
    """For the whole picture, and for what lies around the mask."""
    job = planned(model).job
    assert job is not None
    least = math.ceil(least_memory(job.plan.request))
    for crop in (False, True):
        plan = planned(model, memory_bytes=least, crop=crop)
        assert plan.job is not None
        assert plan.job.policy.streamed_blocks == 3
        assert np.abs(np.stack(list(run_removal(plan))).astype(int) - run(model, crop=crop)).max() <= 1
    with pytest.raises(InputError, match="give --memory"):
        planned(model, memory_bytes=least - 1)


@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
@pytest.mark.parametrize("calls", [{1}, {2}, {1, 2}])
def test_memory_that_runs_out(model: Model, stage: str, calls: set[int]) -> None:
    """In the first or the second window, or twice: the job goes on, says so, and makes what it would have made."""
    report = Report()
    part = {"encode": "encoding", "denoise": "denoising", "decode": "decoding"}[stage]
    made = run(failing(model, part, calls), report)
    assert np.abs(made.astype(int) - run(model)).max() <= 1
    notes = [
        note for note in report.notes if note.startswith(f"memory ran out in stage {stage}; continuing with less: ")
    ]
    assert len(notes) == len(calls)


def test_memory_that_is_never_enough(model: Model) -> None:
    with pytest.raises(LayerliftError, match="memory ran out in stage denoise, which was planned to take"):
        run(failing(model, "denoising", set(range(1, 999))))
