"""Scenes: their truth is exact, their seeds are spread as promised, and they are hard."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from layerlift.bench.quality import telea_inpainted, temporal_median
from layerlift.metrics import psnr
from layerlift.scenes import Kind, draw, make_scene, render

BENCH_SEEDS = range(1000, 1032)


def test_the_same_seed_gives_the_same_clip_and_another_one_another() -> None:
    first, again, other = (make_scene(seed, 64, 48, 3).video for seed in (5, 5, 9))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_batch_renders_what_each_scene_renders_alone() -> None:
    together = render([draw(3), draw(6)], 64, 48, 3)
    for i, seed in enumerate((3, 6)):
        alone = render([draw(seed)], 64, 48, 3)
        assert (together.video[i] - alone.video[0]).abs().max() < 1 / 255


def test_kinds_objects_and_effects_are_spread_evenly() -> None:
    specs = [draw(seed) for seed in range(960)]
    assert all(spec.kind == list(Kind)[spec.seed % 4] for spec in specs)
    for kind in Kind:
        of_kind = [spec for spec in specs if spec.kind == kind]
        assert sum(spec.object_count == 2 for spec in of_kind) == len(of_kind) // 3
        assert sum(not spec.has_effects for spec in of_kind) == len(of_kind) // 8


@pytest.mark.parametrize("seed", [1000, 1001, 1002, 1003, 1005])
def test_layers_over_the_background_give_the_video(seed: int) -> None:
    scene = make_scene(seed, 96, 64, 5)
    composite = scene.background.astype(np.float32)
    for layer in scene.layers.astype(np.float32):
        alpha = layer[..., 3:] / 255
        composite = composite * (1 - alpha) + layer[..., :3] * alpha
    assert len(scene.layers) == scene.spec.object_count
    assert np.abs(composite - scene.video).max() < 3  # each of at most five roundings is half a level


@pytest.mark.parametrize("seed", [1000, 1002, 1005])
def test_beyond_the_total_mask_the_video_is_the_background(seed: int) -> None:
    scene = make_scene(seed, 96, 64, 5)
    difference = np.abs(scene.video.astype(int) - scene.background).max(-1)
    assert difference[~scene.total_mask].max() <= 6  # VISIBLE_ALPHA of 255, and rounding
    assert difference[scene.object_mask].mean() > 40
    assert not (scene.object_mask & scene.effect_masks.any(0) & ~scene.object_masks.any(0)).any()


def test_an_object_without_effects_has_none() -> None:
    seed = next(seed for seed in BENCH_SEEDS if not draw(seed).has_effects)
    assert not make_scene(seed, 96, 64, 3).effect_masks.any()


def test_still_scenes_stand_still_water_moves_and_cameras_pan() -> None:
    def change(kind: Kind) -> float:
        seed = next(seed for seed in BENCH_SEEDS if draw(seed).kind == kind)
        frames = make_scene(seed, 96, 64, 9).background.astype(int)
        return float(np.abs(np.diff(frames, axis=0)).mean())

    still, panning, water = change(Kind.STILL), change(Kind.PANNING), change(Kind.STILL_WATER)
    assert still == 0
    assert 0.1 < water < panning


def test_a_scene_looks_the_same_at_another_size() -> None:
    small, large = make_scene(1000, 96, 64, 3), make_scene(1000, 192, 128, 3)
    shrunk = np.stack([cv2.resize(frame, (96, 64), interpolation=cv2.INTER_AREA) for frame in large.video])
    assert psnr(shrunk, small.video) > 30


@pytest.mark.slow
def test_rendering_needs_neither_opencv_nor_pyav() -> None:
    code = (
        "import sys; sys.modules['cv2'] = sys.modules['av'] = None\n"
        "import layerlift.scenes; layerlift.scenes.make_scene(1, 32, 32, 2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("width", "height", "frames"), [(8, 64, 3), (64, 64, 0)])
def test_impossible_sizes_are_refused(width: int, height: int, frames: int) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        make_scene(0, width, height, frames)


@pytest.mark.slow
def test_the_benchmark_scenes_are_hard() -> None:
    """Bounds on the means over seeds 1000 … 1031 at 288×192×17, inside the total mask."""
    untouched, inpainted, panning_median = [], [], []
    for seed in BENCH_SEEDS:
        scene = make_scene(seed)
        mask = scene.total_mask
        untouched.append(psnr(scene.video, scene.background, mask))
        inpainted.append(psnr(telea_inpainted(scene.video, mask), scene.background, mask))
        if scene.spec.kind == Kind.PANNING:
            panning_median.append(psnr(temporal_median(scene.video, mask), scene.background, mask))
    assert np.mean(untouched) <= 14
    assert np.mean(inpainted) <= 28.5
    assert np.mean(panning_median) <= 30
