"""Looking for effects in little memory: planned before a weight is read, the same scores, and less when it runs out."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import layerlift
from layerlift.engine.base import Encode, Engine
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.device.needs import GIB
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError, LayerliftError
from layerlift.options import EffectOptions
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.effects import EffectPlan, find_effects, plan_effects, run_effects
from support import Instead, failing, watched
from tiny_model import write_tiny_model

CPU = choose_policy("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3, frames=9))


ALONE = EffectOptions(witnesses="model")


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """A clip of two windows, and an object."""
    frames = np.random.default_rng(0).integers(0, 256, (14, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros((48, 64), bool)
    hidden[10:30, 20:40] = True
    return frames, hidden


def planned(model: Engine, report: Report | None = None) -> EffectPlan:
    frames, hidden = inputs()
    runtime = Runtime(model=model, policy=CPU, report=report or Report(), memory_bytes=8 * GIB)
    return plan_effects(frames, [hidden], EffectOptions(seed=3, witnesses="model"), runtime)


def scores(model: Engine, report: Report | None = None) -> np.ndarray:
    return np.stack([frame.scores for frame in run_effects(planned(model, report))])


def test_plan_is_in_the_report(model: Model) -> None:
    report = Report()
    scores(model, report)
    assert list(report.results["planned_bytes"]) == ["encode", "text", "denoise", "decode"]


def test_too_little_memory_is_refused_before_a_weight_is_read(model: Model) -> None:
    engine, opened = watched(model)
    frames, hidden = inputs()
    with pytest.raises(InputError, match=r"give --memory 0\.4"):
        layerlift.mask(frames, hidden, model=engine, device="cpu", memory=0.1)
    with pytest.raises(InputError, match="--memory -1"):
        layerlift.mask(frames, hidden, model=engine, device="cpu", memory=-1)
    assert opened == []


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"streamed_blocks": 2}, 1e-6),
        ({"vae_frames": 1}, 1e-4),
        ({"vae_frames": 4, "vae_streamed": True}, 1e-4),
        ({"attention_limit_bytes": 4096}, 1e-5),
        ({"int8": True}, 0.1),
    ],
)
def test_same_scores_in_less_memory(model: Model, changes: dict[str, int], tolerance: float) -> None:
    engine, opened = watched(model)
    plan = planned(engine)
    looking = plan.attention
    assert looking is not None
    ways = replace(looking.memory, policy=replace(looking.memory.policy, **changes))  # type: ignore[arg-type]
    found = np.stack([f.scores for f in run_effects(replace(plan, attention=replace(looking, memory=ways)))])
    assert np.abs(found - scores(model)).max() <= tolerance
    assert [part for part, _ in opened] == ["encoding", "scoring"]
    assert [{name: getattr(policy, name) for name in changes} for _, policy in opened] == [changes] * 2


def test_the_user_s_weights(model: Model) -> None:
    """8 bits differ a little; asked for in full they are."""
    frames, hidden = inputs()

    def found(weights: str) -> np.ndarray:
        given = {"model": model, "device": "cpu", "seed": 3, "memory": 8, "witnesses": "model"}
        return layerlift.mask(frames, hidden, weights=weights, **given).scores

    assert np.array_equal(found("auto"), found("full"))
    assert 0 < np.abs(found("8bit") - found("full")).max() < 0.1


@pytest.mark.parametrize(("part", "stage"), [("encoding", "encode"), ("scoring", "look")])
@pytest.mark.parametrize("calls", [{1}, {2}, {1, 2}])
def test_memory_that_runs_out(model: Model, part: str, stage: str, calls: set[int]) -> None:
    """In the first or the second window, or twice: the job goes on, says so, and finds what it would have found."""
    report = Report()
    assert np.abs(scores(failing(model, part, calls), report) - scores(model)).max() <= 0.05
    notes = [
        note for note in report.notes if note.startswith(f"memory ran out in stage {stage}; continuing with less: ")
    ]
    assert len(notes) == len(calls)


def test_memory_that_is_never_enough(model: Model) -> None:
    with pytest.raises(LayerliftError, match="memory ran out in stage look, which was planned to take"):
        scores(failing(model, "scoring", set(range(1, 999))))


def test_the_allocator_is_capped_only_where_it_has_to_be(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator is the machine's: a stand-in tells what was asked of it, and when the model was opened."""
    caps: list[float] = []

    class Cap:
        def __init__(self, policy: Policy, memory: float) -> None:
            caps.append(memory / GIB)

        def __enter__(self) -> None:
            caps.append(0)

        def __exit__(self, *_: object) -> None:
            caps.append(-1)

    def encoding(policy: Policy) -> AbstractContextManager[Encode]:
        caps.append(1)
        return model.encoding(policy)

    monkeypatch.setattr("layerlift.engine.device.budget.capped", Cap)
    engine = Instead(model, encoding=encoding)
    frames, hidden = inputs()
    list(find_effects(frames, [hidden], ALONE, runtime=Runtime(model=engine, policy=CPU)))
    assert caps == [1]
    list(find_effects(frames, [hidden], ALONE, runtime=Runtime(model=engine, policy=CPU, memory_bytes=3 * GIB)))
    assert caps == [1, 3, 0, 1, -1]
    caps.clear()
    list(find_effects(frames, [hidden], ALONE, runtime=Runtime(model=engine, policy=replace(CPU, cap_memory=True))))
    assert caps[1:] == [0, 1, -1]


def test_scores_that_are_no_numbers_end_the_run(tmp_path: Path) -> None:
    """Before anything is drawn or written: half precision overflows on some backends without a word."""
    model, policy = open_model(write_tiny_model(tmp_path)), replace(CPU, resident=True)
    with model.transformer(policy) as transformer:  # which stays
        transformer.proj_in.weight.data[0, 0] = float("nan")
    frames, hidden = inputs()
    with pytest.raises(LayerliftError, match=r"NaN or infinity.*torch\.float32 overflows on cpu"):
        next(find_effects(frames, [hidden], ALONE, runtime=Runtime(model=model, policy=policy)))
