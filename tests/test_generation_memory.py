"""Generation in little memory: the same result, and going on when memory runs out all the same."""

from dataclasses import replace

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.engine import planning
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.device.needs import GIB
from layerlift.engine.model import Model, latents, open_model, parts
from layerlift.engine.model.testing import FailsAt, write_tiny_model
from layerlift.errors import InputError, LayerliftError
from layerlift.options import RemovalOptions
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.removal import remove_frames

CPU = choose_policy("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3, frames=9))


def run(model: Model, report: Report | None = None, policy: Policy = CPU, memory: float = 8.0) -> np.ndarray:
    """A clip of two windows, removed from."""
    frames = np.random.default_rng(0).integers(0, 256, (14, 48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:40] = True
    made = remove_frames(
        Clip.from_array(frames),
        mask,
        RemovalOptions(evidence="off", seed=3, guidance=3.0),
        runtime=Runtime(model=model, policy=policy, report=report or Report(), memory_bytes=int(memory * GIB)),
    )
    return np.stack(list(made))


def test_plan_is_in_the_report(model: Model) -> None:
    report = Report()
    run(model, report)
    assert list(report.results["planned_bytes"]) == ["encode", "text", "denoise", "decode"]


def test_too_little_memory_is_refused_before_a_weight_is_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlift.engine.model.weights.read_tensors", lambda *_: pytest.fail("a weight was read"))
    with pytest.raises(InputError, match=r"give --memory 0\.4"):
        run(model, memory=0.1)


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
def test_same_result_in_less_memory(model: Model, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]) -> None:
    whole = run(model)
    real, under = planning.make_plan, []

    def narrow(request):  # type: ignore[no-untyped-def]
        plan = real(request)
        return replace(plan, policy=replace(plan.policy, **changes))

    def watched(self: Model, policy: Policy) -> object:
        under.append(policy)
        return decoder(self, policy)

    # For the whole picture, and for what lies around the mask.
    monkeypatch.setattr(planning, "make_plan", narrow)
    decoder = Model.vae_decoder
    monkeypatch.setattr(Model, "vae_decoder", watched)
    # Rounding of float32 may cross half a grey level.
    assert np.abs(run(model).astype(int) - whole).max() <= 1
    assert [{name: getattr(policy, name) for name in changes} for policy in under] == [changes]


@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
@pytest.mark.parametrize("calls", [{1}, {2}, {1, 2}])
def test_memory_that_runs_out(model: Model, monkeypatch: pytest.MonkeyPatch, stage: str, calls: set[int]) -> None:
    """In the first or the second window, or twice: the job goes on, says so, and makes what it would have made."""
    whole = run(model)
    place = parts if stage == "denoise" else latents
    monkeypatch.setattr(place, stage, FailsAt(getattr(place, stage), calls))
    report = Report()
    made = run(model, report)
    assert np.abs(made.astype(int) - whole).max() <= 1
    notes = [
        note for note in report.notes if note.startswith(f"memory ran out in stage {stage}; continuing with less: ")
    ]
    assert len(notes) == len(calls)


def test_memory_that_is_never_enough(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "denoise", FailsAt(parts.denoise, set(range(1, 999))))
    with pytest.raises(LayerliftError, match="memory ran out in stage denoise, which was planned to take"):
        run(model)
