"""Rendered scenes from light that is known: what Mitsuba makes of a world is stood in for by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import open_clip
from layerlift.metrics import psnr
from layerlift.scenes import Effect, RenderedSpec
from layerlift.scenes.rendered import RenderedScene, draw_world, rendered_scene
from layerlift.scenes.rendered.film import compressed, developed, exposure, grainy, softened
from layerlift.scenes.rendered.frames import FrameLight, frame_path
from layerlift.scenes.rendered.tracer import FAR, projected, rays
from layerlift.scenes.rendered.world import View
from support import layerlift

STREET, MEADOW, WIDTH, HEIGHT, FRAMES = 2000, 2004, 64, 48, 5


def light(index: int, *, effect: bool = True, things: int = 1) -> FrameLight:
    """A wall, a bright square that moves four pixels a frame, and its shadow to the right of it; other things cannot be
    seen."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wall = 0.2 + 0.1 * np.sin(columns / 3)[..., None] * np.sin(rows / 4)[..., None] * np.ones(3)
    left = 8 + 4 * index
    square = (rows >= 14) & (rows < 34) & (columns >= left) & (columns < left + 12)
    shadow = (rows >= 28) & (rows < 34) & (columns >= left + 12) & (columns < left + 22)
    after = np.where(square[..., None], (1.4, 0.3, 0.1), wall * np.where(shadow & effect, 0.4, 1.0)[..., None])
    covered = np.stack([square, *[np.zeros_like(square)] * (things - 1)]).astype(np.float16)
    return FrameLight(
        clip=(after + np.random.default_rng(index).normal(0, 0.002, after.shape)).astype(np.float16),
        plates=np.stack([wall, *[after] * things]).astype(np.float16),
        coverage=covered,
        opaque=covered,
        depth=np.full((HEIGHT, WIDTH), 7.0, np.float16),
        flow=np.full((HEIGHT, WIDTH, 2), (1.5, 0.0), np.float16),
    )


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Finished frames of two scenes in a cache, on a machine that cannot render."""
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    for seed in (STREET, MEADOW):
        for index in range(FRAMES):
            light(index, effect=seed == STREET).write(frame_path(seed, (WIDTH, HEIGHT), index))
    return tmp_path


def scene(seed: int = STREET, *, film: bool = False) -> RenderedScene:
    return rendered_scene(seed, WIDTH, HEIGHT, FRAMES, film=film)


def test_truth_of_a_square_and_its_shadow(cached: Path) -> None:
    made = scene()
    assert made.spec == RenderedSpec(STREET, "street", ((Effect.SHADOW,),), moves=True, blurred=False)
    assert made.video.shape == made.background.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert made.object_masks[0, 2, 20, 16:28].all()
    assert not made.object_masks[0, 2, 20, 32:].any()
    assert made.effect_masks[0, 2, 31, 30:36].all()
    assert not made.effect_masks[0, 2, :24].any()
    assert not (made.effect_masks & made.object_masks).any()
    assert made.strength[0, 2, 31, 32] > 0.15
    assert not made.strength[~made.effect_masks].any()
    assert made.depth.shape == (FRAMES, HEIGHT, WIDTH)
    assert made.flow[..., 0].mean() == pytest.approx(1.5)


def test_layers_laid_over_the_plate_give_the_clip(cached: Path) -> None:
    made = scene()
    alpha, colour = made.layers[0, ..., 3:] / 255, made.layers[0, ..., :3]
    over = made.background * (1 - alpha) + alpha * colour
    assert psnr(np.rint(over).astype(np.uint8), made.video) > 40
    np.testing.assert_allclose(made.object_alphas[0, 2, 20, 18:26], 1)
    assert 0.1 < made.effect_alphas[0, 2, 31, 32] < 0.9  # a shadow lets the wall show
    assert not made.layers[0, 2, :10].any()


def test_things_without_effects_have_none(cached: Path) -> None:
    made = scene(MEADOW)
    assert not made.spec.has_effects
    assert not made.effect_masks.any()


def test_film_adds_grain_and_compression_to_the_clip_alone(cached: Path) -> None:
    plain, film = scene(), scene(film=True)
    far = ~plain.total_mask & ~film.total_mask
    assert psnr(plain.video, plain.background, far) > 48
    assert 28 < psnr(film.video, film.background, far) < 42
    np.testing.assert_array_equal(film.video, scene(film=True).video)
    # The plate is softer, and has no grain: two frames of the wall are the same.
    assert (
        np.abs(np.diff(film.background[0].astype(int), axis=1)).mean()
        < np.abs(np.diff(plain.background[0].astype(int), axis=1)).mean()
    )
    np.testing.assert_array_equal(film.background[0], film.background[3])


def test_frames_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "scenes" / "0000.npz"
    assert FrameLight.read(path) is None
    light(1).write(path)
    again = FrameLight.read(path)
    assert again is not None
    np.testing.assert_array_equal(again.plates, light(1).plates)
    assert [file.name for file in path.parent.iterdir()] == ["0000.npz"]
    path.write_bytes(path.read_bytes()[:-200])
    assert FrameLight.read(path) is None


def test_scene_command_writes_the_truth(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cached / "out"
    flags = ["scene", "--rendered", "--seed", str(STREET), "--size", f"{WIDTH}x{HEIGHT}", "--frames", str(FRAMES)]
    assert layerlift(*flags, "-o", folder) == 0
    made = scene()
    np.testing.assert_array_equal(open_clip(folder / "video.mkv").numpy(), made.video)
    np.testing.assert_array_equal(open_clip(folder / "truth" / "background.mkv").numpy(), made.background)
    shown = open_clip(folder / "truth" / "strength_0.mkv").numpy()[..., 0]
    np.testing.assert_array_equal(shown, np.rint(made.strength[0] * 255))
    np.testing.assert_array_equal(np.load(folder / "truth" / "depth.npy"), made.depth)
    np.testing.assert_array_equal(np.load(folder / "truth" / "flow.npy"), made.flow)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("scene --rendered --seed 5 -o out", "rendered scenes need Mitsuba 3, which is not installed: run pip install"),
        ("bench quality --rendered", "rendered scenes need Mitsuba 3"),
        ("bench layers --film", "--film works only on rendered scenes: add --rendered."),
        ("scene --film -o out", "--film works only on rendered scenes: add --rendered."),
        ("scene --rendered --film --size 65x48 -o out", "--film writes H.264, which takes even sizes"),
        ("bench layers --rendered --model demo", "leave out --rendered or --model"),
        ("demo -o out --size 64x48", "--size applies to a drawn scene, and none was asked for: add --seed."),
    ],
)
def test_what_cannot_be_had_is_said_at_once(
    flags: str, said: str, cached: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cached)
    assert layerlift(*flags.split()) == 2
    shown = capsys.readouterr().err
    assert said in " ".join(shown.split())
    assert "Traceback" not in shown
    assert not (cached / "out").exists()


@pytest.mark.slow
def test_bench_layers_measures_rendered_scenes(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--size", f"{WIDTH}x{HEIGHT}", "--frames", str(FRAMES), "--seeds", f"{STREET}:{STREET + 1}"]
    for index in range(FRAMES):  # what layers are laid over is the next scene's plate
        light(index, things=2).write(frame_path(STREET + 1, (WIDTH, HEIGHT), index))
    assert layerlift("bench", "layers", "--rendered", *size, "--report", cached / "report.json") == 0
    shown = capsys.readouterr().out
    assert "moving camera (1)" in shown
    assert "street (1)" in shown
    assert "another plate, shadows" in shown
    assert json.loads((cached / "report.json").read_text())["command"] == "bench layers"


def test_projection_is_what_rays_undo() -> None:
    view, size = View((1.0, -5.0, 1.6), (0.2, 2.0, 1.0), 44.0), (WIDTH, HEIGHT)
    points = np.asarray(view.eye) + 9.0 * rays(view, size)
    across, down = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    np.testing.assert_allclose(projected(points, view, size), np.stack([across, down], -1), atol=1e-6)
    # A camera that turns to the right sees everything go to the left, near and far alike.
    turned = View(view.eye, (0.4, 2.0, 1.0), 44.0)
    for distance in (3.0, FAR):
        moved = projected(np.asarray(view.eye) + distance * rays(view, size), turned, size)
        assert (moved[..., 0] < across).all()


def test_developing_keeps_the_order_of_brightness() -> None:
    steps = np.linspace(0, 20, 200, dtype=np.float32)[:, None].repeat(3, 1)
    shown = developed(steps, exposure(steps[None], 0.18))
    assert (np.diff(shown[:, 0]) >= 0).all()
    assert shown.min() == 0
    assert shown.max() <= 1
    assert exposure(steps[None] * 4, 0.18) == pytest.approx(exposure(steps[None], 0.18) / 4, rel=0.02)


def test_grain_is_new_in_each_frame_and_little_in_black() -> None:
    grey = np.full((3, 64, 64, 3), 128, np.uint8)
    made = grainy(grey, 1).astype(int)
    assert 1 < made.std() < 4
    assert abs(made.mean() - 128) < 0.3
    assert np.abs(made[0] - made[1]).mean() > 1
    assert grainy(np.full_like(grey, 2), 1).astype(int).std() < made.std()


def test_compression_loses_little() -> None:
    rows, columns = np.mgrid[:48, :64]
    ramp = np.stack([rows * 4, columns * 3, rows + columns], -1).astype(np.uint8)[None].repeat(4, 0)
    again = compressed(ramp, 24)
    assert again.shape == ramp.shape
    assert 30 < psnr(again, ramp) < 60
    noise = np.random.default_rng(0).integers(0, 256, (12, 96, 128, 3), dtype=np.uint8)
    assert all((compressed(noise, 24) == compressed(noise, 24)).all() for _ in range(3))


def test_softening_keeps_the_mean() -> None:
    picture = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    soft = softened(picture, 1.0)
    assert soft.mean() == pytest.approx(picture.mean(), abs=0.01)
    assert soft.std() < 0.6 * picture.std()
    assert softened(picture[..., 0], 1.0).shape == (32, 32)


def test_worlds_say_what_tables_are_grouped_by() -> None:
    assert draw_world(STREET).moves
    assert draw_world(STREET).place == "street"
