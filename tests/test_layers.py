"""Extraction on scenes whose layers are known, and everything that can be wrong about its input."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, write_clip, write_mask
from layerlift.clip.rgba import LayerClip, to_linear, to_whole
from layerlift.errors import InputError
from layerlift.masks import Mask
from layerlift.report import Report
from layerlift.scenes import Scene, make_scene
from layerlift.stages.layers import calmed, extract, extract_frames

SHADOW, REFLECTION, TWO, NO_EFFECT = 1000, 1019, 1008, 1003
FRAMES = 5


@pytest.fixture(scope="module")
def scenes() -> dict[int, Scene]:
    return {seed: make_scene(seed, 144, 96, FRAMES) for seed in (SHADOW, REFLECTION, TWO, NO_EFFECT)}


def layers_of(scene: Scene, **options: Any) -> list[np.ndarray]:
    """Front to back, (F, H, W, 4) float32 each."""
    masks = list(scene.object_masks[::-1])
    return [layer.numpy() for layer in extract(scene.video, scene.background, masks, scene.total_mask, **options)]


def over(layers: list[np.ndarray], plate: np.ndarray) -> np.ndarray:
    """Layers, the frontmost first, over a plate (F, H, W, 3) in [0, 1]."""
    for layer in reversed(layers):
        plate = layer[..., :3] * layer[..., 3:] + (1 - layer[..., 3:]) * plate
    return plate


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(a - b)) + 1e-12))


def edges(masks: np.ndarray) -> np.ndarray:
    """Pixels of masks (F, H, W) within 3 of their outline."""
    return masks & ~np.stack([cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0 for mask in masks])


@pytest.mark.parametrize("seed", [SHADOW, REFLECTION, TWO])
def test_layers_over_their_plate_give_back_the_clip(scenes: dict[int, Scene], seed: int) -> None:
    scene = scenes[seed]
    video, plate = scene.video / 255, scene.background / 255
    layers = layers_of(scene)
    assert psnr(over(layers, plate), video) > 50
    assert psnr(over([to_whole(layer, 8) / 255 for layer in layers], plate), video) > 48
    linear = layers_of(scene, linear=True)
    assert psnr(over(linear, to_linear(plate)), to_linear(video)) > 50
    assert np.abs(linear[0][..., 3] - layers[0][..., 3]).max() > (0.05 if seed == SHADOW else 0)


def test_alpha_is_the_truth(scenes: dict[int, Scene]) -> None:
    for seed in (SHADOW, NO_EFFECT):
        scene = scenes[seed]
        alpha, truth = layers_of(scene)[0][..., 3], (scene.object_alphas + scene.effect_alphas)[0]
        assert np.abs(alpha - truth)[scene.object_mask].mean() < 0.008
        assert alpha[truth < 1 / 512].mean() < 0.001
        shadow = scene.effect_masks[0] & ~scene.object_mask
        if shadow.any():
            assert np.abs(alpha - truth)[shadow].mean() < 0.01
            assert truth[shadow].mean() > 0.1


def test_layers_over_another_plate(scenes: dict[int, Scene]) -> None:
    """The true composite, where a reflection's own alpha cannot be known."""
    other = scenes[NO_EFFECT].background / 255
    for seed, least in ((SHADOW, 42), (REFLECTION, 30)):
        scene = scenes[seed]
        through = np.prod(1 - scene.object_alphas - scene.effect_alphas, 0)[..., None]
        truth = scene.video / 255 + through * (other - scene.background / 255)
        made = over(layers_of(scene), other)
        assert psnr(made[scene.object_mask], truth[scene.object_mask]) > 42
        assert psnr(made[scene.effect_masks[0]], truth[scene.effect_masks[0]]) > least


def test_every_object_has_its_own_layer(scenes: dict[int, Scene]) -> None:
    scene = scenes[TWO]
    front, back = layers_of(scene)
    truth = (scene.object_alphas + scene.effect_alphas)[::-1]
    hidden = scene.object_masks[::-1][0]
    assert np.abs(front[..., 3] - truth[0])[scene.object_masks[1]].mean() < 0.02
    assert np.abs(back[..., 3] - truth[1])[scene.object_masks[0] & ~hidden].mean() < 0.06
    assert back[..., 3][hidden & ~edges(hidden)].max() < 0.05


def test_known_effects_go_to_whoever_causes_them(scenes: dict[int, Scene]) -> None:
    """Each object's own total mask says whose shadow a pixel is, where one mask for all leaves it to nearness."""
    scene = scenes[TWO]
    truth = (scene.object_alphas + scene.effect_alphas)[::-1]
    masks = list(scene.object_masks[::-1])
    totals = [*(scene.object_masks | scene.effect_masks)[::-1]]

    def errors(total: object) -> list[float]:
        layers = extract(scene.video, scene.background, masks, total)  # type: ignore[arg-type]
        effects = scene.total_mask & ~scene.object_mask
        return [
            float(np.abs(layer.numpy()[..., 3] - own)[effects].mean()) for layer, own in zip(layers, truth, strict=True)
        ]

    swapped = [masks[0] | totals[1] & ~masks[1], masks[1] | totals[0] & ~masks[0]]
    together, known, wrong = errors(scene.total_mask), errors(totals), errors(swapped)
    assert sum(known) < 0.8 * sum(together)
    assert sum(wrong) > 3 * sum(known)


def test_a_plates_own_errors_do_not_become_fog(scenes: dict[int, Scene]) -> None:
    """A blurred, noisy plate inside a generous total mask, as removal makes it."""
    scene = scenes[SHADOW]
    rng = np.random.default_rng(0)
    reach = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0 for mask in scene.total_mask])
    plate = scene.background.copy()
    for frame, mask in zip(plate, reach, strict=True):
        noise = cv2.GaussianBlur(rng.normal(size=frame.shape).astype(np.float32), (0, 0), 1.5)
        blurred = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1) + 3 * noise / noise.std()
        frame[mask] = np.clip(np.rint(blurred), 0, 255)[mask]
    report = Report()
    layer = extract(scene.video, plate, scene.object_masks[0], reach, report=report)[0].numpy()
    truth = (scene.object_alphas + scene.effect_alphas)[0]
    nothing = reach & (truth < 1 / 512)
    assert 3 < report.sizes["noise"] < 20
    assert layer[..., 3][nothing].mean() < 0.01
    shadow = scene.effect_masks[0] & ~scene.object_mask
    assert np.abs(layer[..., 3] - truth)[shadow].mean() < 0.03
    # The same plate, taken at its word, is fog: the test can fail.
    trusted = extract(scene.video, plate, scene.object_masks[0], reach, noise=0.8)[0].numpy()
    assert trusted[..., 3][nothing].mean() > 0.02


def test_without_a_total_mask_effects_are_where_clip_and_plate_differ(scenes: dict[int, Scene]) -> None:
    scene = scenes[SHADOW]
    alpha = extract(scene.video, scene.background, scene.object_masks[0])[0].numpy()[..., 3]
    truth = (scene.object_alphas + scene.effect_alphas)[0]
    assert np.abs(alpha - truth)[scene.total_mask].mean() < 0.01
    assert alpha[truth < 1 / 512].mean() < 0.001


def test_alpha_is_calm_where_the_clip_stands_still() -> None:
    """A plate that flickers behind a still shadow, beside a shadow that moves."""
    rng = np.random.default_rng(1)
    ground = rng.uniform(110, 150, (48, 64, 3)).astype(np.float32)
    clip = np.repeat(ground[None], 8, 0)
    clip[:, 10:30, 6:26] *= 0.6
    for t in range(8):
        clip[t, 10:30, 34 + 3 * t : 38 + 3 * t] *= 0.6
    mask = np.zeros((48, 64), bool)
    mask[30:36, 10:20] = True
    clip[:, mask] = (250, 20, 20)
    plate = np.repeat(ground[None], 8, 0) + np.array([-6, 6] * 4)[:, None, None, None]
    reach = np.zeros((48, 64), bool)
    reach[8:38, 4:62] = True
    video, background = (np.rint(frames).astype(np.uint8) for frames in (clip, plate))
    alpha = extract(video, background, mask, reach)[0].numpy()[..., 3]
    still, moving = np.s_[:, 14:26, 10:22], np.s_[4, 15:25, 47:49]
    calm = np.abs(np.diff(alpha[still], axis=0)).mean()
    assert alpha[still].mean() == pytest.approx(0.4, abs=0.05)
    assert alpha[moving].mean() > 0.3  # not smeared
    assert alpha[4, 15:25, 56:].mean() < 0.05
    # A frame by itself has no neighbours that calm it.
    alone = [extract(video[t : t + 1], background[t : t + 1], mask, reach)[0].numpy() for t in range(8)]
    raw = np.concatenate(alone)[..., 3]
    assert calm < 0.25 * np.abs(np.diff(raw[still], axis=0)).mean()


def test_only_five_frames_are_held() -> None:
    alive: list[int] = []

    def mattes():
        for index in range(20):
            alive.append(index)
            frame = type("F", (), {"clip": np.zeros((4, 4, 3), np.float32), "reach": np.ones((4, 4), bool)})()
            yield frame, np.full((1, 4, 4), float(index), np.float32)

    made = []
    for index, (_, alphas) in enumerate(calmed(mattes())):
        assert len(alive) - index <= 3  # the frame itself and two to come
        made.append(float(alphas.mean()))
    assert made[0] == pytest.approx(1)  # 0, 1, 2
    assert made[10] == pytest.approx(10)
    assert made[19] == pytest.approx(18)


def test_frames_come_as_they_are_asked_for(scenes: dict[int, Scene]) -> None:
    scene = scenes[SHADOW]
    frames = extract_frames(scene.video, scene.background, scene.object_masks[0], scene.total_mask)
    whole = layers_of(scene)[0]
    np.testing.assert_array_equal(next(frames)[0], whole[0])
    assert len(list(frames)) == FRAMES - 1


def test_paths_stills_and_timing(scenes: dict[int, Scene], tmp_path: Path) -> None:
    scene = scenes[NO_EFFECT]
    like = Clip.from_array(scene.video, 30)
    video = write_clip(tmp_path / "video.mkv", scene.video, like, lossless=True)
    plate = write_clip(tmp_path / "plate.mkv", scene.background, like, lossless=True)
    mask = write_mask(tmp_path / "mask.mkv", scene.object_masks[0], like)
    (layer,) = extract(str(video), plate, mask, mask)
    assert isinstance(layer, LayerClip)
    assert (layer.rate, layer.frame_count, layer.clip.path) == (30, FRAMES, video)
    np.testing.assert_array_equal(layer.numpy(), layers_of(scene)[0])
    still = extract(scene.video, scene.background[:1], scene.object_masks[0])[0]
    assert still.frame_count == FRAMES
    cut = Clip.from_array(scene.video).cut(1, 3)
    assert extract(cut, scene.background, Mask.from_array(scene.object_masks[0]))[0].frame_count == 2


@pytest.mark.parametrize("pixels", [-2, 2, 4])
def test_masks_that_are_too_small_or_too_large(scenes: dict[int, Scene], pixels: int) -> None:
    scene, other = scenes[SHADOW], scenes[NO_EFFECT].background / 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    mask = np.stack([change(frame.astype(np.uint8), kernel) > 0 for frame in scene.object_masks[0]])
    layer = extract(scene.video, scene.background, mask, mask | scene.total_mask)[0].numpy()
    through = (1 - scene.object_alphas - scene.effect_alphas)[0][..., None]
    truth = scene.video / 255 + through * (other - scene.background / 255)
    assert psnr(over([layer], other)[scene.total_mask], truth[scene.total_mask]) > 32


def test_empty_frames_are_empty(scenes: dict[int, Scene]) -> None:
    scene = scenes[NO_EFFECT]
    masks = scene.object_masks[0].copy()
    masks[2] = False
    video = scene.video.copy()
    video[2] = scene.background[2]
    layer = extract(video, scene.background, masks, masks)[0].numpy()
    assert layer[2, ..., 3].max() < 0.002
    assert layer[1, ..., 3].max() == 1


def test_what_cannot_be_used(scenes: dict[int, Scene]) -> None:
    scene = scenes[SHADOW]
    video, plate, mask = scene.video, scene.background, scene.object_masks[0]
    elsewhere = np.zeros_like(mask)
    elsewhere[:, :10, :10] = True
    half = mask.copy()
    half[:, :, : int(np.nonzero(mask.any((0, 1)))[0].mean())] = False
    cases = {
        "143x96": (video, plate[:, :, 1:], mask, None, {}),
        "4 frames": (video, plate[1:], mask, None, {}),
        "outside the total mask": (video, plate, mask, elsewhere, {}),
        "lies outside": (video, plate, mask, half, {}),
        "no object mask": (video, plate, [], None, {}),
        "3 total masks were given for 1 object masks": (video, plate, mask, [mask] * 3, {}),
        "edge is -1": (video, plate, mask, None, {"edge": -1}),
        "--noise is 300": (video, plate, mask, None, {"noise": 300}),
        "empty": (video, plate, np.zeros_like(mask), None, {}),
    }
    for said, (clip, background, objects, total, options) in cases.items():
        with pytest.raises(InputError, match=said):
            extract(clip, background, objects, total, **options)
