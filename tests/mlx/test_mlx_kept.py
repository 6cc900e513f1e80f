"""A model that MLX runs stays in memory where rules or a worker say so, and another engine takes its place."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from layerlift import open_runtime, remove
from layerlift.engine.base import SamplingSettings
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.speed import Speed
from layerlift.options import RuntimeOptions
from layerlift.progress import QUIET
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from layerlift.stages.choose_model import OPEN, require_model, run_by
from layerlift.workers.kept import Models
from support import layerlift
from tiny_model import write_tiny_model


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts whose weights MLX reads."""
    seen: list[str] = []
    usual = MlxModel._load

    def load(self: MlxModel, kind: str, policy: Policy) -> Any:
        seen.append(kind)
        return usual(self, kind, policy)

    monkeypatch.setattr(MlxModel, "_load", load)
    return seen


def test_either_engine_runs_an_opened_model(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path / "m"))
    assert run_by(model, "torch") is model
    ours = run_by(model, "mlx")
    assert isinstance(ours, MlxModel)
    assert run_by(ours, "mlx") is ours
    assert run_by(ours, "torch") is model
    assert (ours.name, ours.path, ours.settings, ours.geometry) == (
        model.name, model.path, model.settings, model.geometry,
    )  # fmt: skip
    assert run_by(None, "mlx") is None


def test_plans_are_made_while_parts_stay(tmp_path: Path, loaded: list[str]) -> None:
    """As a run and a benchmark make them, one after the other."""
    model = MlxModel(open_model(write_tiny_model(tmp_path / "m", random=True)))
    runtime = open_runtime(RuntimeOptions(model=model, device="cpu", engine="mlx"))
    runtime = replace(runtime, policy=replace(runtime.policy, resident=True))
    clip = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros(clip.shape[:3], bool)
    hidden[:, 16:30, 20:34] = True
    found = [remove(clip, hidden, runtime=runtime, evidence="off").numpy() for _ in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert sorted(loaded) == ["decoder", "encoder", "transformer"]
    model.close()
    assert not model._kept


@pytest.mark.slow
def test_a_worker_keeps_it_from_clip_to_clip(tmp_path: Path, loaded: list[str]) -> None:
    write_scene(make_scene(0, 64, 48, 5), tmp_path / "scene")
    model = write_tiny_model(tmp_path / "m", random=True)
    run = "run", tmp_path / "scene", "--model", model, "--steps", 1, "--evidence", "off", "--lossless"
    models = Models()
    token = OPEN.set(models.open)
    try:
        for name in ("first", "second"):
            assert layerlift(*run, "--device", "cpu", "--engine", "mlx", "-o", tmp_path / name) == 0
        assert sorted(loaded) == ["decoder", "encoder", "transformer"]
        kept = models.open(model, None)
        mine = kept._model
        assert isinstance(mine, MlxModel)
        assert len(mine._kept) == 3
        assert layerlift(*run, "--device", "cpu", "--engine", "torch", "-o", tmp_path / "third") == 0
        assert models.open(model, None) is kept
        assert type(kept._model) is Model
        assert not mine._kept  # what MLX held is gone
    finally:
        OPEN.reset(token)
        models.free()
    assert layerlift(*run, "--device", "cpu", "--engine", "mlx", "-o", tmp_path / "alone") == 0
    for name in ("first", "second"):
        same = (tmp_path / name / "background.mkv").read_bytes() == (tmp_path / "alone" / "background.mkv").read_bytes()
        assert same, name


def test_a_worker_s_model_is_run_by_what_is_asked_for(tmp_path: Path) -> None:
    """And not by torch under MLX's rules."""
    models = Models()
    token = OPEN.set(models.open)
    try:
        runtime = open_runtime(RuntimeOptions(model=write_tiny_model(tmp_path / "m"), device="cpu", engine="mlx"))
        opened = require_model(runtime, "a test")
        with opened.encoding(choose_policy("cpu", engine="mlx")):
            pass
        assert isinstance(opened._model, MlxModel)  # type: ignore[attr-defined]
    finally:
        OPEN.reset(token)


def test_parts_that_one_thread_opened_run_in_another(tmp_path: Path) -> None:
    """MLX evaluates nothing that is left over from another thread."""
    model = MlxModel(open_model(write_tiny_model(tmp_path / "m", random=True)))
    rules = choose_policy("cpu", engine="mlx")
    clip = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    unknown = np.zeros((3, 3, 4), bool)
    unknown[:, 1, 1:3] = True
    sampling = SamplingSettings((1.0, 0.9, 0.5, 0.0), guidance=3.0)

    def made(run: Callable[[Callable[[], Any]], Any]) -> np.ndarray:
        with model.encoding(rules) as encode:
            latents = run(lambda: encode(clip))
        prompts = model.prompts(["", "Empty"], rules, cache=False, progress=QUIET)
        with model.denoising(rules, prompts, sampling, Speed(refresh=0.3)) as denoise:
            latents = run(lambda: denoise(latents, unknown, None, model.noise(0), QUIET))
        with model.decoding(rules) as decode:
            frames = decode(latents, model.noise(1))
            return np.stack([run(lambda: next(frames)) for _ in clip])

    with ThreadPoolExecutor(1) as other:
        elsewhere = made(lambda work: other.submit(work).result())
    np.testing.assert_array_equal(elsewhere, made(lambda work: work()))


@pytest.mark.parametrize("kind", ["encoder", "transformer", "decoder"])
def test_weights_go_with_their_stage(tmp_path: Path, policy: Policy, kind: str) -> None:
    """Although the caller still refers to the part; and the allocator keeps none of their memory."""
    model = MlxModel(open_model(write_tiny_model(tmp_path / "m")))
    gc.collect()
    before = mx.get_active_memory()
    with model.part(kind, policy) as part:
        assert mx.get_active_memory() > before
    assert part is not None
    assert mx.get_active_memory() < before + 2**15  # constants that MLX keeps for itself, which take pages on a GPU
    assert mx.get_cache_memory() == 0
