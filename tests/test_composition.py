"""A layer over a background: pixels, placement, timing and sound."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip
from layerlift.clip.rgba import LayerClip, from_linear, to_linear
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import write_layer
from layerlift.clip.view import HLG
from layerlift.errors import InputError
from layerlift.options import CompositionOptions
from layerlift.report import Report
from layerlift.scenes import make_scene
from layerlift.stages.composition import compose, plan_composition, run_composition
from layerlift.stages.layers import extract
from support import add_tone

HEIGHT, WIDTH = 20, 32


def layer_of(frame_count: int = 3, rate: Fraction | int = 10, *, linear: bool = False, size: int = 8) -> LayerClip:
    """A red square of alpha 0.5 whose blue says the frame's number, nothing around it."""
    frames = np.zeros((frame_count, HEIGHT, WIDTH, 4), np.float32)
    frames[:, 4 : 4 + size, 6 : 6 + size] = (1, 0, 0, 0.5)
    frames[:, 4 : 4 + size, 6 : 6 + size, 2] = np.arange(frame_count)[:, None, None] / 10
    return LayerClip.from_array(frames, rate=rate, linear=linear)


def background_of(frame_count: int = 3, rate: Fraction | int = 10, width: int = WIDTH, height: int = HEIGHT) -> Clip:
    """Grey that says the frame's number."""
    frames = np.broadcast_to(
        np.arange(frame_count, dtype=np.uint8)[:, None, None, None] * 10 + 50, (frame_count, height, width, 3)
    )
    return Clip.from_array(frames.copy(), rate)


def background_numbers(made: Clip) -> list[int]:
    return [int(frame[0, 0, 0] - 50) // 10 for frame in made.frames()]


def test_over_is_in_display_values_and_leaves_the_rest_alone() -> None:
    made = compose(layer_of(), background_of()).numpy()
    inside = made[:, 4:12, 6:14]
    expected = np.rint(255 * (0.5 * np.array([1, 0, 0.1]) + 0.5 * 60 / 255))
    np.testing.assert_array_equal(inside[1], np.broadcast_to(expected, inside[1].shape))
    inside[:] = background_of().numpy()[:, 4:12, 6:14]
    np.testing.assert_array_equal(made, background_of().numpy())


def test_linear_layers_are_composed_in_linear_light() -> None:
    made = compose(layer_of(linear=True), background_of()).numpy()[0, 5, 7]
    grey = to_linear(np.float32([50 / 255]))
    expected = from_linear(np.float32([0.5, 0, 0]) + 0.5 * grey)
    np.testing.assert_allclose(made, 255 * expected, atol=0.51)
    assert abs(int(made[0]) - int(compose(layer_of(), background_of()).numpy()[0, 5, 7, 0])) > 20


@pytest.mark.parametrize("linear", [False, True])
def test_extracted_layers_over_their_plate_are_the_clip(linear: bool) -> None:
    scene = make_scene(1008, 144, 96, 3)
    layers = extract(scene.video, scene.background, list(scene.object_masks[::-1]), scene.total_mask, linear=linear)
    made = compose(layers, scene.background).numpy().astype(np.float64)
    assert 10 * np.log10(255**2 / np.mean(np.square(made - scene.video))) > 45
    back_to_front = compose(layers[::-1], scene.background).numpy()
    assert (back_to_front != made).any()


def test_layers_of_another_size_are_fitted_into_the_middle() -> None:
    plan = plan_composition(layer_of(), background_of(width=96, height=80))
    assert (plan.size, plan.corner) == ((96, 60), (0, 10))
    made = compose(layer_of(), background_of(width=96, height=80)).numpy()
    assert (made.shape[1:3]) == (80, 96)
    changed = (made[0] != 50).any(-1)
    assert changed[10 + 12 + 1 : 10 + 36 - 1, 19:41].all()
    assert not changed[:20].any()
    assert not changed[48:].any()


def test_offset_and_scale() -> None:
    options = CompositionOptions(offset=(-10, 3), scale=1)
    plan = plan_composition(layer_of(), background_of(width=96, height=80), options)
    assert (plan.size, plan.corner) == ((WIDTH, HEIGHT), (32 - 10, 30 + 3))
    made = compose(layer_of(), background_of(width=96, height=80), offset=(-10, 3), scale=1).numpy()
    changed = (made[0] != 50).any(-1)
    assert np.flatnonzero(changed.any(0)).tolist() == list(range(28, 36))
    assert np.flatnonzero(changed.any(1)).tolist() == list(range(37, 45))
    half = compose(layer_of(), background_of(), scale=0.5, offset=(14, 0)).numpy()[0]
    assert np.flatnonzero((half != 50).any((0, 2))).tolist() == list(range(8 + 14 + 3, 8 + 14 + 7))


def test_a_layer_that_reaches_over_the_border_is_cut_off() -> None:
    made = compose(layer_of(), background_of(), offset=(-8, -6)).numpy()
    changed = (made[0] != 50).any(-1)
    assert np.flatnonzero(changed.any(0)).tolist() == list(range(6))
    assert np.flatnonzero(changed.any(1)).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("options", "backgrounds", "layer_begins"),
    [
        ({}, [0, 1, 2, 2, 2], 0),
        ({"length": "loop"}, [0, 1, 2, 0, 1], 0),
        ({"length": "cut"}, [0, 1, 2], 0),
        ({"length": "background"}, [0, 1, 2], 0),
        ({"start": 1}, [0, 1, 2, 2, 2, 2], 1),
        ({"start": 2, "length": "cut"}, [0, 1, 2], 2),
        ({"start": 4}, [0, 1, 2, 2, 2, 2, 2, 2, 2], 4),
    ],
)
def test_short_backgrounds(options: dict, backgrounds: list[int], layer_begins: int) -> None:
    made = compose(layer_of(5), background_of(3), **options)
    assert background_numbers(made) == backgrounds
    blue = made.numpy()[:, 5, 7, 2].astype(int)
    red = made.numpy()[:, 5, 7, 0].astype(int)
    assert (red > 100).tolist() == [index >= layer_begins for index in range(len(backgrounds))]
    numbers = [round((2 * b / 255 - (50 + 10 * g) / 255) * 10) for b, g in zip(blue, backgrounds, strict=True)]
    assert numbers[layer_begins:] == list(range(len(backgrounds) - layer_begins))


def test_long_backgrounds_end_with_the_layer_unless_asked() -> None:
    assert background_numbers(compose(layer_of(2), background_of(4))) == [0, 1]
    whole = compose(layer_of(2), background_of(4), start=1, length="background")
    assert background_numbers(whole) == [0, 1, 2, 3]
    assert (whole.numpy()[:, 5, 7, 0] > 100).tolist() == [False, True, True, False]


def test_backgrounds_of_another_rate_show_the_frame_that_is_due() -> None:
    made = compose(layer_of(6, rate=10), background_of(3, rate=5))
    assert (made.rate, background_numbers(made)) == (10, [0, 0, 1, 1, 2, 2])
    made = compose(layer_of(3, rate=10), background_of(9, rate=30))
    assert (made.rate, background_numbers(made)) == (10, [0, 3, 6])
    late = compose(layer_of(3, rate=10), background_of(9, rate=30), start=3)
    assert background_numbers(late) == [0, 3, 6, 8]
    assert (late.numpy()[:, 5, 7, 0] > 100).tolist() == [False, True, True, True]


def test_pictures_are_backgrounds_of_any_length() -> None:
    for length in ("hold", "loop", "cut"):
        assert compose(layer_of(4), background_of(1), length=length).frame_count == 4


def test_untimed_layers_follow_the_background() -> None:
    layer = replace(layer_of(3, rate=24), timed=False)
    made = compose(layer, background_of(5, rate=50))
    assert (made.rate, background_numbers(made)) == (50, [0, 1, 2])


def test_uneven_timing_is_kept() -> None:
    layer = layer_of(4)
    uneven = replace(layer.clip, time_base=Fraction(1, 1000), timestamps=(0, 100, 300, 350), last_duration=50)
    made = compose(replace(layer, clip=uneven), background_of(4))
    assert made.timestamps == (0, 100, 300, 350)
    assert background_numbers(made) == [0, 1, 3, 3]
    cut = compose(replace(layer, clip=uneven), background_of(3), length="cut")
    assert (cut.timestamps, cut.last_duration) == ((0, 100), 200)
    late = compose(replace(layer, clip=uneven), background_of(8), start=1)
    assert late.timestamps is None
    assert background_numbers(late) == [0, 1, 2, 3, 4]


def test_timing_colours_and_sound_reach_the_file(tmp_path: Path) -> None:
    layer = write_layer(tmp_path / "layer.mkv", layer_of().frames(), layer_of().clip)
    onto = write_clip(tmp_path / "onto.mkv", background_of(5).frames(), background_of(5), lossless=True)
    report = Report()
    made = compose(layer, onto, report=report)
    back = open_clip(write_clip(tmp_path / "out.mkv", made.frames(), made, lossless=True))
    np.testing.assert_array_equal(back.numpy(), made.numpy())
    assert (back.frame_count, back.rate) == (3, 10)
    assert report.sizes["frames"] == 3
    assert list(report.stages) == ["compose"]


def test_an_sdr_layer_over_an_hdr_background_is_as_bright_as_the_background_s_white() -> None:
    onto = replace(background_of(), color=replace(background_of().color, transfer=HLG))
    white = LayerClip.from_array(np.ones((3, HEIGHT, WIDTH, 4), np.float32), rate=10)
    made = compose(white, onto).numpy()
    assert np.abs(made - 0.75 * 255.0).max() < 2  # BT.2408
    # The same where the layers are made after the plan.
    plan = plan_composition(layer_of(), onto).with_layers([white])
    np.testing.assert_array_equal(list(run_composition(plan)), made)
    with pytest.raises(InputError, match="is HDR, but the background"):
        compose(replace(white, clip=replace(white.clip, color=onto.color)), background_of())


def test_whose_sound(tmp_path: Path) -> None:
    silent, heard, behind = (tmp_path / name for name in ("silent.mov", "heard.mov", "onto.mkv"))
    write_clip(behind, background_of().frames(), background_of(), lossless=True)
    write_layer(silent, layer_of().frames(), layer_of().clip)
    add_tone(silent, heard)
    layer, onto = open_layer(silent), open_clip(behind)
    assert plan_composition(layer, onto).like.path == behind
    sounding = open_layer(heard)
    sounding = replace(sounding, clip=replace(sounding.clip, start_time=Fraction(1)))
    like = plan_composition(sounding, onto, CompositionOptions(start=2)).like
    assert (like.path, like.start_time) == (heard, Fraction(8, 10))
    assert plan_composition(sounding, onto, CompositionOptions(sound="background")).like.path == behind
    assert plan_composition(sounding, onto, CompositionOptions(sound="none")).like.path is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CompositionOptions(start=-1), "--start is -1"),
        (CompositionOptions(scale=0), "--scale is 0"),
        (CompositionOptions(scale=float("nan")), "--scale is nan"),
        (CompositionOptions(scale=1000), "smaller scale"),
        (CompositionOptions(offset=(40, 0)), "off the 32x20 background"),
        (CompositionOptions(length="stretch"), "hold, loop, cut, background"),  # type: ignore[arg-type]
        (CompositionOptions(sound="both"), "layer, background, none"),  # type: ignore[arg-type]
        (CompositionOptions(start=3, length="cut"), "only 3"),
    ],
)
def test_choices_that_cannot_be(options: CompositionOptions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan_composition(layer_of(), background_of(), options)


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", background_of().frames(), background_of())
    with pytest.raises(InputError, match="no alpha"):
        compose(clip, clip)
    with pytest.raises(InputError, match="of the same clip"):
        compose([layer_of(3), layer_of(4)], background_of())
    with pytest.raises(InputError, match="no layer"):
        compose([], background_of())
    with pytest.raises(InputError, match="does not exist"):
        compose(layer_of(), tmp_path / "nothing.mp4")
