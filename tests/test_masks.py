"""Masks: every way to give one, and an error of its own for every way to give a wrong one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.masks import Mask, layout_masks, match_mask, open_mask, union_masks
from support import CLIPS

WIDTH, HEIGHT, COUNT = 96, 64, 6


@pytest.fixture
def clip() -> Clip:
    return Clip.from_array(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8), name="clip")


def boxes(count: int = COUNT, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(F, H, W) bool: a box that moves right."""
    out = np.zeros((count, height, width), np.bool_)
    for index in range(count):
        left = width // 4 + index * width // 48
        out[index, height // 4 : height // 2, left : left + width // 3] = True
    return out


def save(path: Path, masks: np.ndarray) -> Path:
    like = Clip.from_array(np.zeros((*masks.shape, 3), np.uint8))
    return write_mask(path, iter(masks), like)


def png(path: Path, picture: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def test_what_was_checked_is_not_read_again_but_its_parts_are(tmp_path: Path, clip: Clip) -> None:
    masks = boxes()
    masks[3:] = False
    mask = open_mask(save(tmp_path / "m.mkv", masks), clip)
    assert match_mask(mask, clip) is mask
    with pytest.raises(InputError, match="is empty"):
        match_mask(mask.cut(3, 6), clip.cut(3, 6))


@pytest.mark.parametrize("name", ["m.mkv", "m"])
def test_video_and_folder(tmp_path: Path, clip: Clip, name: str) -> None:
    mask = open_mask(save(tmp_path / name, boxes()), clip)
    assert (mask.width, mask.height, mask.frame_count, mask.still) == (WIDTH, HEIGHT, COUNT, False)
    np.testing.assert_array_equal(mask.numpy(), boxes())
    np.testing.assert_array_equal(np.stack(list(mask.frames(2, 4))), boxes()[2:4])
    np.testing.assert_array_equal(mask.cut(2, 5).cut(1, 2).numpy(), boxes()[3:4])


def test_lossy_video(tmp_path: Path, clip: Clip) -> None:
    mask = open_mask(save(tmp_path / "m.mp4", boxes()), clip)
    assert (mask.numpy() != boxes()).mean() < 0.002


def test_still_for_all_frames(tmp_path: Path, clip: Clip) -> None:
    mask = open_mask(png(tmp_path / "m.png", boxes()[0] * np.uint8(255)), clip)
    assert (mask.still, mask.frame_count) == (True, COUNT)
    np.testing.assert_array_equal(mask.numpy(), np.repeat(boxes()[:1], COUNT, axis=0))
    assert mask.cut(1, 3).frame_count == 2


@pytest.mark.parametrize("scale", [2, 0.5])
def test_another_scale_is_fitted(tmp_path: Path, clip: Clip, scale: float) -> None:
    small = boxes(COUNT, int(WIDTH * scale), int(HEIGHT * scale))
    mask = open_mask(save(tmp_path / "m.mkv", small), clip)
    assert (mask.width, mask.height) == (WIDTH, HEIGHT)
    got = mask.numpy()
    assert abs(got.mean() - small.mean()) < 0.01
    assert (got != boxes()).mean() < 0.02


def test_half_is_the_threshold(tmp_path: Path, clip: Clip) -> None:
    grey = np.full((HEIGHT, WIDTH), 127, np.uint8)
    grey[:, 40:] = 128
    mask = open_mask(png(tmp_path / "m.png", grey), clip)
    np.testing.assert_array_equal(next(mask.frames()), grey > 127)


def test_alpha_decides_when_it_varies(tmp_path: Path, clip: Clip) -> None:
    inside = boxes()[0]
    rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)  # white everywhere: brightness says nothing
    rgba[..., 3] = inside * np.uint8(200)
    np.testing.assert_array_equal(next(open_mask(png(tmp_path / "a.png", rgba), clip).frames()), inside)
    rgba[..., :3] = (inside * np.uint8(255))[..., None]
    rgba[..., 3] = 255  # opaque: brightness decides
    np.testing.assert_array_equal(next(open_mask(png(tmp_path / "b.png", rgba), clip).frames()), inside)


def test_alpha_that_varies_only_between_frames(tmp_path: Path, clip: Clip) -> None:
    frames = np.full((COUNT, HEIGHT, WIDTH, 4), 255, np.uint8)
    frames[2:, ..., 3] = 0
    path = write_clip(tmp_path / "m.mkv", Clip.from_array(frames).rgba_frames(), Clip.from_array(frames), lossless=True)
    assert open_mask(path, clip).numpy().mean(axis=(1, 2)).tolist() == [1, 1, 0, 0, 0, 0]


def test_cut_clip_takes_the_same_span_of_a_whole_mask(tmp_path: Path, clip: Clip) -> None:
    path = save(tmp_path / "m.mkv", boxes())
    np.testing.assert_array_equal(open_mask(path, clip.cut(2, 5)).numpy(), boxes()[2:5])
    short = save(tmp_path / "s.mkv", boxes()[2:5])
    np.testing.assert_array_equal(open_mask(short, clip.cut(2, 5)).numpy(), boxes()[2:5])
    np.testing.assert_array_equal(match_mask(Mask.from_array(boxes()), clip.cut(2, 5)).numpy(), boxes()[2:5])


WRONG = {
    "length": (boxes(5), r"has 5 frames, but the clip clip has 6"),
    "empty": (np.zeros_like(boxes()), "is empty: no pixel is white"),
    "full": (np.ones_like(boxes()), "is white everywhere"),
    "shape": (boxes(COUNT, 64, 64), "is 64x64, which does not match the shape of the clip, 96x64"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_masks_each_have_their_error(tmp_path: Path, clip: Clip, kind: str) -> None:
    masks, message = WRONG[kind]
    path = save(tmp_path / "m.mkv", masks)
    with pytest.raises(InputError, match=message) as caught:
        open_mask(path, clip)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match=message):
        match_mask(Mask.from_array(masks), clip)


def test_unreadable_mask(tmp_path: Path, clip: Clip) -> None:
    (tmp_path / "m.mp4").write_text("no mask")
    with pytest.raises(InputError, match="cannot be read"):
        open_mask(tmp_path / "m.mp4", clip)
    with pytest.raises(InputError, match="does not exist; give the path of a mask"):
        open_mask(tmp_path / "nothing.png", clip)


def test_a_frame_may_be_empty_or_full(clip: Clip) -> None:
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.bool_)
    masks[3] = True
    np.testing.assert_array_equal(match_mask(Mask.from_array(masks), clip).numpy(), masks)


def test_rounded_sizes_are_the_same_shape() -> None:
    clip = Clip.from_array(np.zeros((1, 690, 1280, 3), np.uint8))
    masks = boxes(1, 640, 344)
    assert match_mask(Mask.from_array(masks), clip).height == 690


def test_from_array() -> None:
    values = np.array([[0, 127], [128, 255]], np.uint8)
    still = Mask.from_array(values)
    assert (still.still, still.frame_count) == (True, 1)
    np.testing.assert_array_equal(still.numpy()[0], values > 127)
    for wrong in (np.zeros((2, 2)), np.zeros((1, 2, 2, 3), np.uint8), np.zeros((0, 2, 2), np.bool_)):
        with pytest.raises(InputError, match="a mask is"):
            Mask.from_array(wrong)


def test_still_from_memory_is_fitted(clip: Clip) -> None:
    mask = match_mask(Mask.from_array(boxes()[0]), clip)
    assert (mask.still, mask.frame_count) == (True, COUNT)


def test_union(clip: Clip) -> None:
    other = np.roll(boxes(), 20, axis=1)
    union = union_masks([match_mask(Mask.from_array(m), clip) for m in (boxes(), other)])
    np.testing.assert_array_equal(union.numpy(), boxes() | other)
    np.testing.assert_array_equal(np.stack(list(union.frames(4))), (boxes() | other)[4:])
    with pytest.raises(ValueError, match="differ in size"):
        union_masks([Mask.from_array(boxes()), Mask.from_array(boxes(5))])


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are not here")
@pytest.mark.parametrize("name", ["swan_lake", "cat_reflection", "camel"])
def test_shared_masks(name: str) -> None:
    clip = open_clip(CLIPS / name)
    layout = layout_masks(CLIPS / name)
    for path in (*layout.object_masks, layout.total_mask):
        if path is not None:
            first = next(open_mask(path, clip).frames())
            assert first.shape == (clip.height, clip.width)
            assert 0 < first.mean() < 0.9


MERGED = [0, 1, 1, 1, 2, 3, 4, 4]  # which of the boxes each frame shows; Pillow writes runs as one frame


def animation(path: Path, shown: list[int], milliseconds: int | list[int] = 40) -> Path:
    """One of Pillow's animated files, with fewer pictures than `shown` where neighbours are equal."""
    pictures = [Image.fromarray(boxes(max(shown) + 1)[index] * np.uint8(255)) for index in shown]
    pictures = [picture.convert("P" if path.suffix == ".gif" else "RGB") for picture in pictures]
    more = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, **more)
    return path


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
@pytest.mark.parametrize(("rate", "milliseconds"), [
    (Fraction(25), 40),
    (Fraction(24), 40),  # a writer that rounds 41.7 ms to what a GIF can say, every time alike
    (Fraction(24), [40, 40, 50] * 2 + [40, 40]),  # and one that rounds times, not durations
])  # fmt: skip
def test_frames_that_an_animation_merged_are_held_for_their_times(
    tmp_path: Path, ending: str, rate: Fraction, milliseconds: int | list[int]
) -> None:
    path = animation(tmp_path / f"m{ending}", MERGED, milliseconds)
    assert open_clip(path).frame_count == 5
    clip = Clip.from_array(np.zeros((len(MERGED), HEIGHT, WIDTH, 3), np.uint8), rate, name="clip")
    mask = open_mask(path, clip)
    np.testing.assert_array_equal(mask.numpy(), boxes()[MERGED])
    np.testing.assert_array_equal(np.stack(list(mask.frames(2, 5))), boxes()[MERGED[2:5]])
    assert any("5 pictures" in note and "8 frames" in note for note in mask.notes)
    # Five frames of the clip are not the file's five pictures.
    np.testing.assert_array_equal(open_mask(path, clip.cut(2, 7)).numpy(), boxes()[MERGED[2:7]])


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_pairs_that_an_animation_merged(tmp_path: Path, ending: str) -> None:
    shown = [0, 0, 1, 1, 2, 2]
    path = animation(tmp_path / f"m{ending}", shown)
    assert open_clip(path).frame_count == 3
    clip = Clip.from_array(np.zeros((6, HEIGHT, WIDTH, 3), np.uint8), 25)
    np.testing.assert_array_equal(open_mask(path, clip).numpy(), boxes()[shown])


@pytest.mark.parametrize(("ending", "kind"), [(".gif", "GIF"), (".webp", "WebP"), (".png", "APNG")])
def test_an_animation_that_fits_no_time_of_the_clip(tmp_path: Path, ending: str, kind: str) -> None:
    path = animation(tmp_path / f"m{ending}", MERGED)
    for count, rate in ((9, 25), (8, 50), (7, 25)):
        clip = Clip.from_array(np.zeros((count, HEIGHT, WIDTH, 3), np.uint8), rate, name="clip")
        message = rf"5 frames \(0.32 s\).* clip has {count} \({count / rate:.2f} s\).*{kind}.*merge.*PNGs or a video"
        with pytest.raises(InputError, match=message):
            open_mask(path, clip)
