"""The demo model end to end with both engines: the same noise, and so the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlift import compose_latent, mask, remove
from layerlift.engine.mlx import parts
from layerlift.engine.model import Model, open_model
from layerlift.scenes import Scene, make_scene
from mlx_device import MLX
from tiny_model import write_tiny_model

# What may differ, in levels of 255: on the mean, and at the most.
MEAN, MOST = 0.25, 4
WHOLE = {"weights": "full", "dtype": "float32"}
# The same for the pixels that were hidden, on the mean, where weights or numbers have fewer bits.
NEAR = {"8bit": 0.05, "4bit": 0.6, "bfloat16": 0.9, "float16": 0.15}
WIDTH, HEIGHT, FRAMES = 96, 64, 5


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(1000, WIDTH, HEIGHT, FRAMES)


@pytest.fixture(scope="module")
def demo() -> Model:
    return open_model("demo")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that MLX ran, in their order."""
    seen: list[str] = []
    for name in ("encoding", "decoding", "denoising", "scoring"):
        usual = getattr(parts, name)

        def watched(*given: Any, name: str = name, usual: Callable[..., Any] = usual) -> Any:
            seen.append(name)
            return usual(*given)

        monkeypatch.setattr(parts, name, watched)
    return seen


def both(run: Callable[..., Any], used: list[str]) -> tuple[Any, Any]:
    """What torch makes and what MLX makes."""
    theirs = run(engine="torch", device="cpu")
    assert not used
    return theirs, run(**MLX)


def check_alike(theirs: np.ndarray, ours: np.ndarray) -> None:
    apart = np.abs(theirs.astype(np.int16) - ours)
    assert apart.mean() <= MEAN
    assert apart.max() <= MOST


@pytest.mark.slow
def test_removal(demo: Model, scene: Scene, used: list[str]) -> None:
    def run(**engine: Any) -> np.ndarray:
        return remove(scene.video, scene.total_mask, model=demo, evidence="off", dense=True, **engine).numpy()

    theirs, ours = both(run, used)
    assert used == ["encoding", "denoising", "decoding"]
    assert (theirs[scene.total_mask] != scene.video[scene.total_mask]).mean() > 0.5
    check_alike(theirs, ours)


@pytest.mark.slow
def test_effect_masks(demo: Model, used: list[str]) -> None:
    scene = make_scene(1000, 128, 96, FRAMES)  # smaller ones have no effects that it sees

    def run(**engine: Any) -> Any:
        return mask(scene.video, list(scene.object_masks), model=demo, witnesses="model", **engine)

    theirs, ours = both(run, used)
    assert used == ["encoding", "scoring"]
    one, other = theirs.effects, ours.effects
    assert one.any()
    assert (one & other).sum() >= 0.995 * (one | other).sum()
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_latent_composition(demo: Model, scene: Scene, used: list[str]) -> None:
    onto = make_scene(1003, WIDTH, HEIGHT, FRAMES).background

    def run(**engine: Any) -> np.ndarray:
        return compose_latent(
            scene.video,
            scene.background,
            list(scene.object_masks),
            scene.total_mask,
            onto,
            model=demo,
            steps=1,
            **engine,
        ).numpy()

    theirs, ours = both(run, used)
    assert used.count("denoising") == 1
    assert used.count("encoding") == 2
    check_alike(theirs, ours)


@pytest.mark.parametrize("choices", [
    {}, {"guidance": 1.0}, {"window": 9, "context": 1}, {"weights": "8bit"}, {"weights": "4bit"}, {"dtype": "bfloat16"},
    {"dtype": "float16"},
])  # fmt: skip
def test_every_way_to_run_a_tiny_model(tmp_path: Path, used: list[str], choices: dict[str, Any], policy: Any) -> None:
    """Sparse passes with guidance, other windows' tokens as context, fewer bits: against torch where it can, and
    without a failure in any case."""
    model = open_model(write_tiny_model(tmp_path / "m", steps=4, random=True))
    clip = np.random.default_rng(0).integers(0, 256, (13, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros(clip.shape[:3], bool)
    hidden[:, 16:30, 20:34] = True

    def run(**engine: Any) -> np.ndarray:
        return remove(clip, hidden, model=model, evidence="off", cache=False, **{**choices, **engine}).numpy()

    ours = run(**{**MLX, **choices})
    assert "denoising" in used
    # What torch cannot do alike lies near what it does with whole weights in float32, and is something else.
    fewer = choices.keys() & {"weights", "dtype"}
    theirs = run(
        engine="torch", device="cpu", **{name: {"weights": "full", "dtype": "float32"}[name] for name in fewer}
    )
    if not fewer:
        check_alike(theirs, ours)
        return
    apart = np.abs(theirs[hidden].astype(np.int16) - ours[hidden])
    assert 0 < apart.mean() <= NEAR[choices.get("weights") or choices["dtype"]]
