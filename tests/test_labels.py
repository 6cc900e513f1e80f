"""Label images: masks whose palette, values or colours say which object is where, and what is none of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.masks import Mask, match_mask, open_mask, open_object_masks
from layerlift.stages.layers import extract

WIDTH, HEIGHT, COUNT = 320, 240, 4
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756


@pytest.fixture
def clip() -> Clip:
    return Clip.from_array(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8), name="clip")


def ids(objects: int = 3, count: int = COUNT) -> np.ndarray:
    """(F, H, W) uint8: discs 1 … `objects` on 0 that move down; 1 and 2 touch."""
    out = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    for index in range(count):
        for number in range(objects):
            centre = (30 + number * 24 % 264, 30 + 10 * index + 45 * (number * 24 // 264))
            cv2.circle(out[index], centre, 12, number + 1, -1)
    return out


def coloured(labels: np.ndarray, colours: dict[int, tuple[int, ...]]) -> np.ndarray:
    """(F, H, W) labels as (F, H, W, 3 or 4); those without a colour black, or transparent."""
    out = np.zeros((*labels.shape, len(next(iter(colours.values())))), np.uint8)
    for label, colour in colours.items():
        out[labels == label] = colour
    return out


def folder(path: Path, frames: np.ndarray, ending: str = "png", palette: list[int] | None = None, **how: Any) -> Path:
    path.mkdir()
    for index, frame in enumerate(frames):
        image = Image.fromarray(frame)
        if palette is not None:
            image = Image.frombytes("P", (WIDTH, HEIGHT), frame.tobytes())
            image.putpalette(palette)
        image.save(path / f"{index:05d}.{ending}", **how)
    return path


def video(path: Path, frames: np.ndarray, codec: str = "ffv1", pixel_format: str = "bgr0") -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for frame in frames:
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(made.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


def check(path: Path, clip: Clip, names: list[str], wanted: np.ndarray | None = None) -> None:
    """`path` holds the objects of these names, 1 … n of `wanted`; one by one, by ID, and together."""
    wanted = ids(len(names)) if wanted is None else wanted
    masks = open_object_masks(path, clip)
    said = f"{len(names)} object{'s' if len(names) > 1 else ''} in {path}: {', '.join(names)}."
    assert [mask.notes for mask in masks] == [(said,)] * len(names)
    for number, (mask, name) in enumerate(zip(masks, names, strict=True), 1):
        np.testing.assert_array_equal(mask.numpy(), wanted == number)
        if 1 < number < len(names):
            continue
        (one,) = open_object_masks(f"{path}:{name}", clip)
        np.testing.assert_array_equal(one.numpy(), wanted == number)
        assert one.notes == (f"{said[:-1]}; using {name}.",)
    np.testing.assert_array_equal(open_mask(path, clip).numpy(), wanted > 0)
    np.testing.assert_array_equal(open_mask(path, clip).cut(1, 3).numpy(), wanted[1:3] > 0)


def check_matte(path: Path, clip: Clip, wanted: np.ndarray, how: str = "everything brighter than half") -> None:
    (mask,) = open_object_masks(path, clip)
    assert mask.notes == (f"1 object in {path}: {how}.",)
    assert (mask.numpy() != wanted).mean() < 0.002
    with pytest.raises(InputError, match="without IDs, so it has no object 1"):
        open_object_masks(f"{path}:1", clip)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_a_palette_holds_an_object_an_index(tmp_path: Path, clip: Clip, ending: str) -> None:
    path = folder(tmp_path / "m", ids(), ending, DAVIS)
    check(path, clip, ["1", "2", "3"])
    (named,) = open_object_masks(f"{path}:#008000", clip)  # by its colour
    np.testing.assert_array_equal(named.numpy(), ids() == 2)


@pytest.mark.slow
def test_palettes_of_few_bits_many_entries_and_blacks(tmp_path: Path, clip: Clip) -> None:
    check(folder(tmp_path / "four_bits", ids(), palette=DAVIS[:12], bits=4), clip, ["1", "2", "3"])
    check(folder(tmp_path / "all_black", ids(), palette=[0] * 768), clip, ["1", "2", "3"])
    many = ids(40)
    rainbow = [0, 0, 0] + [level for i in range(1, 256) for level in (i, 255 - i, i * 7 % 256)]
    check(folder(tmp_path / "many", many, palette=rainbow), clip, [str(i) for i in range(1, 41)], many)
    greys = [level for i in range(256) for level in (i, i, i)]
    check(folder(tmp_path / "ids_as_greys", many, palette=greys), clip, [str(i) for i in range(1, 41)], many)


def test_the_background_of_a_palette(tmp_path: Path, clip: Clip) -> None:
    """The first entry, unless another is black and it is not: optimisers sort palettes."""
    check(
        folder(tmp_path / "grey", ids(2), palette=[200, 200, 200, 255, 0, 0, 0, 0, 255] + [9] * 759), clip, ["1", "2"]
    )
    swapped = np.where(ids(1) == 1, 0, 1).astype(np.uint8)
    path = folder(tmp_path / "white_first", swapped, palette=[255, 255, 255, 0, 0, 0] + [0] * 762)
    check(path, clip, ["0"], ids(1))


def test_a_palette_that_changes_means_colours(tmp_path: Path, clip: Clip) -> None:
    path = folder(tmp_path / "m", ids(2)[:2], palette=DAVIS)
    other = DAVIS[:3] + DAVIS[6:9] + DAVIS[3:6] + [0] * 759
    for index, frame in enumerate(ids(2)[2:], 2):
        image = Image.frombytes("P", (WIDTH, HEIGHT), np.array([0, 2, 1], np.uint8)[frame].tobytes())
        image.putpalette(other)
        image.save(path / f"{index:05d}.png")
    check(path, clip, ["#008000", "#800000"], np.array([0, 2, 1])[ids(2)])
    Image.fromarray(coloured(ids(2)[3:], {1: (128, 0, 0), 2: (0, 128, 0)})[0]).save(path / "00003.png")
    check(path, clip, ["#008000", "#800000"], np.array([0, 2, 1])[ids(2)])


def test_what_is_transparent_in_a_palette_is_no_object(tmp_path: Path, clip: Clip) -> None:
    path = folder(tmp_path / "m", ids(2), palette=[9, 9, 9, 0, 0, 0, 0, 128, 0], transparency=0)
    check(path, clip, ["1", "2"])


@pytest.mark.parametrize("animated", [False, True])
def test_gifs(tmp_path: Path, clip: Clip, animated: bool) -> None:
    if animated:
        path, images = tmp_path / "m.gif", []
        for frame in ids():
            image = Image.frombytes("P", (WIDTH, HEIGHT), frame.tobytes())
            image.putpalette(DAVIS)
            images.append(image)
        images[0].save(path, save_all=True, append_images=images[1:], duration=40, optimize=False)
    else:
        path = folder(tmp_path / "m", ids(), "gif", DAVIS, optimize=False)
    check(path, clip, ["1", "2", "3"])
    (named,) = open_object_masks(f"{path}:#808000", clip)
    np.testing.assert_array_equal(named.numpy(), ids() == 3)


@pytest.mark.parametrize("ending", ["png", "gif", "bmp"])
def test_a_soft_matte_with_a_palette_is_a_matte(tmp_path: Path, clip: Clip, ending: str) -> None:
    soft = np.stack([cv2.GaussianBlur((frame > 0) * np.uint8(255), (0, 0), 4) for frame in ids(1)])
    greys = [level for i in range(256) for level in (i, i, i)]
    check_matte(folder(tmp_path / "m", soft, ending, greys), clip, soft > 127)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("objects", [1, 2, 3, 32 - 1])
def test_ids_as_grey_values(tmp_path: Path, clip: Clip, ending: str, objects: int) -> None:
    path = folder(tmp_path / "m", ids(objects), ending, **{"lossless": True} if ending == "webp" else {})
    check(path, clip, [str(i) for i in range(1, objects + 1)])


def test_grey_of_other_depths_and_in_colour_pictures(tmp_path: Path, clip: Clip) -> None:
    check(folder(tmp_path / "sixteen", ids().astype(np.uint16)), clip, ["1", "2", "3"])
    check(folder(tmp_path / "rgb", ids()[..., None].repeat(3, 3)), clip, ["1", "2", "3"])
    opaque = np.concatenate([ids()[..., None].repeat(3, 3), np.full((*ids().shape, 1), 255, np.uint8)], 3)
    check(folder(tmp_path / "rgba", opaque), clip, ["1", "2", "3"])
    check(folder(tmp_path / "spread", ids() * np.uint8(42)), clip, ["42", "84", "126"])
    check_matte(folder(tmp_path / "bilevel", ids(1) > 0), clip, ids(1) > 0)
    check_matte(folder(tmp_path / "deep", (ids(1) > 0) * np.uint16(65535)), clip, ids(1) > 0)


def test_grey_is_a_matte_where_any_frame_is_bright_or_has_many_values(tmp_path: Path, clip: Clip) -> None:
    bright = ids() * np.uint8(42)
    bright[3][bright[3] == 126] = 128
    for name, frames in (("grey", bright), ("rgb", bright[..., None].repeat(3, 3))):
        check_matte(folder(tmp_path / name, frames), clip, bright > 127)
    many = ids(32) + np.uint8(60) * (ids(32) > 0)  # 33 values with the background's, the brightest 92
    with pytest.raises(InputError, match=r"no pixel is brighter than half \(the brightest is 92 of 255\)"):
        open_mask(folder(tmp_path / "many", many), clip)


RED_GREEN = {1: (0, 255, 0), 2: (255, 0, 0)}


@pytest.mark.parametrize(
    "save",
    [
        folder,
        lambda path, frames: folder(path, frames, "tif"),
        lambda path, frames: folder(path, frames, "bmp"),
        lambda path, frames: folder(path, frames, "webp", lossless=True),
        lambda path, frames: video(path.with_suffix(".mkv"), frames),
        lambda path, frames: video(path.with_suffix(".mov"), frames, "png", "rgb24"),
        lambda path, frames: video(path.with_suffix(".avi"), frames, "huffyuv", "rgb24"),
    ],
)
def test_flat_colours(tmp_path: Path, clip: Clip, save: Callable[[Path, np.ndarray], Path]) -> None:
    path = save(tmp_path / "m", coloured(ids(2), RED_GREEN))
    check(path, clip, ["#00FF00", "#FF0000"])
    (named,) = open_object_masks(f"{path}:#ff0000", clip)
    np.testing.assert_array_equal(named.numpy(), ids(2) == 2)


def test_flat_colours_with_alpha(tmp_path: Path, clip: Clip) -> None:
    """What is transparent is no object, and what is black may be one."""
    rgba = coloured(ids(2), {1: (0, 0, 0, 255), 2: (255, 255, 255, 255)})
    check(folder(tmp_path / "m", rgba), clip, ["#000000", "#FFFFFF"])
    one = coloured(ids(1), {1: (200, 0, 0, 255)})
    check_matte(folder(tmp_path / "one", one), clip, ids(1) > 0, "everything opaque")


def test_more_colours_than_a_label_image_has_are_a_matte(tmp_path: Path, clip: Clip) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    photo = np.where((ids(1) > 0)[..., None], photo // 8 + 200, photo // 8)
    check_matte(folder(tmp_path / "rgb", photo), clip, ids(1) > 0)
    cutout = np.concatenate([photo, (ids(1) > 0)[..., None] * np.uint8(255)], 3)
    check_matte(folder(tmp_path / "rgba", cutout), clip, ids(1) > 0, "everything opaque")


def test_lossy_pictures_are_mattes(tmp_path: Path, clip: Clip) -> None:
    white = (ids(1) > 0) * np.uint8(255)
    check_matte(folder(tmp_path / "jpeg", white, "jpg", quality=90), clip, white > 0)
    check_matte(folder(tmp_path / "webp", white, "webp", quality=90), clip, white > 0)
    check_matte(video(tmp_path / "m.mp4", white[..., None].repeat(3, 3), "libx264", "yuv420p"), clip, white > 0)
    for path in (
        folder(tmp_path / "ids", ids(), "jpg", quality=100),
        video(tmp_path / "red.mp4", coloured(ids(1), {1: (200, 0, 0)}), "libx264", "yuv420p"),
    ):
        with pytest.raises(InputError, match="is empty: no pixel is brighter than half"):
            open_mask(path, clip)


def test_colours_that_a_lossy_mask_loses_are_said(tmp_path: Path, clip: Clip) -> None:
    path = video(tmp_path / "m.mp4", coloured(ids(2), RED_GREEN), "libx264", "yuv444p")
    mask = open_mask(path, clip)
    assert (mask.numpy() != (ids(2) == 1)).mean() < 0.002  # green is brighter than half, red is not
    assert mask.notes[0] == f"1 object in {path}: everything brighter than half."
    assert "has colours darker than half brightness, which do not count as masked" in mask.notes[1]
    tinted = video(tmp_path / "t.mp4", coloured(ids(1), {1: (250, 255, 240)}), "libx264", "yuv420p")
    assert len(open_mask(tinted, clip).notes) == 1


def test_a_label_image_is_scaled_object_by_object(tmp_path: Path) -> None:
    large = Clip.from_array(np.zeros((COUNT, HEIGHT * 2, WIDTH * 2, 3), np.uint8))
    masks = open_object_masks(folder(tmp_path / "m", ids(), palette=DAVIS), large)
    for number, mask in enumerate(masks, 1):
        wanted = (ids() == number).repeat(2, 1).repeat(2, 2)
        assert (mask.numpy() != wanted).mean() < 0.002


def test_ids_that_are_not_there(tmp_path: Path, clip: Clip) -> None:
    path = folder(tmp_path / "m", ids(), palette=DAVIS)
    for unknown in ("7", "#123456", "red", "0"):
        with pytest.raises(InputError, match=rf"has no object {unknown}; choose from 1, 2, 3"):
            open_object_masks(f"{path}:{unknown}", clip)
    with pytest.raises(InputError, match=r"nothing\.png:2 does not exist"):
        open_object_masks(tmp_path / "nothing.png:2", clip)


def test_a_file_that_has_the_whole_name_is_meant(tmp_path: Path, clip: Clip) -> None:
    Image.fromarray(ids(3)[0]).save(tmp_path / "m.png")
    Image.fromarray((ids(1)[0] > 0) * np.uint8(255)).save(tmp_path / "m.png:2", "PNG")
    assert len(open_object_masks(tmp_path / "m.png", clip)) == 3
    np.testing.assert_array_equal(open_mask(tmp_path / "m.png:2", clip).numpy()[0], ids(1)[0] > 0)
    np.testing.assert_array_equal(open_mask(f"{tmp_path}/m.png:3", clip).numpy()[2], ids(3)[0] == 3)


def test_objects_outside_the_frames_asked_for_are_left_out(tmp_path: Path, clip: Clip) -> None:
    labels = ids()
    labels[2:][labels[2:] == 2] = 0
    for name, palette in (("index", DAVIS), ("grey", None)):
        path = folder(tmp_path / name, labels, palette=palette)
        masks = open_object_masks(path, clip.cut(2, 4))
        assert [mask.notes for mask in masks] == [(f"2 objects in {path}: 1, 3.",)] * 2
        np.testing.assert_array_equal(masks[1].numpy(), labels[2:] == 3)
        with pytest.raises(InputError, match=r"object 2 of .* is in none of the selected frames"):
            open_object_masks(f"{path}:2", clip.cut(2, 4))
    path = folder(tmp_path / "colour", coloured(labels, RED_GREEN | {3: (0, 0, 9)}))
    assert len(open_object_masks(path, clip.cut(2, 4))) == 2


def test_extraction_makes_a_layer_of_each(tmp_path: Path) -> None:
    labels = ids(2)
    plate = np.full((COUNT, HEIGHT, WIDTH, 3), 90, np.uint8)
    frames = np.where((labels > 0)[..., None], np.uint8(200), plate)
    layers = extract(frames, plate, folder(tmp_path / "m", labels, palette=DAVIS))
    assert len(layers) == 2
    for number, layer in enumerate(layers, 1):
        alpha = layer.numpy()[..., 3]
        assert alpha[cv2_eroded(labels == number)].min() > 0.9
        assert alpha[cv2_eroded(labels != number)].max() < 0.1


def cv2_eroded(masks: np.ndarray) -> np.ndarray:
    return np.stack([cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) for mask in masks]) > 0


@pytest.mark.parametrize(("margin", "warned"), [(3, True), (12, False)])
def test_a_mask_that_is_almost_all_white_gets_a_warning(tmp_path: Path, clip: Clip, margin: int, warned: bool) -> None:
    white = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    white[:, margin:-margin, margin:-margin] = 255
    path = folder(tmp_path / "m", white)
    for mask in (open_mask(path, clip), match_mask(Mask.from_array(white), clip)):
        assert any("white over more than 90% of every frame" in note for note in mask.notes) is warned
    white[2, :120] = 0  # one frame is not
    assert not match_mask(Mask.from_array(white), clip).notes


@pytest.mark.slow
def test_id_passes_of_renderers_are_label_images(tmp_path: Path, clip: Clip) -> None:
    """OpenEXR with objects' numbers as floating-point values, as renderers write them."""
    OpenEXR = pytest.importorskip("OpenEXR")
    labels = ids(3)
    labels[1][labels[1] > 1] = 0  # a frame with the first object alone
    for channels in ("Y", "RGB"):
        for kind in (np.float16, np.float32):
            path = tmp_path / f"{channels}{np.dtype(kind).name}"
            path.mkdir()
            for index, frame in enumerate(labels):
                values = frame.astype(kind) if channels == "Y" else np.dstack([frame.astype(kind)] * 3)
                header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
                OpenEXR.File(header, {channels: values}).write(str(path / f"{index}.exr"))
            check(path, clip, ["1", "2", "3"], labels)


def test_a_matte_in_openexr_stays_one(tmp_path: Path, clip: Clip) -> None:
    OpenEXR = pytest.importorskip("OpenEXR")
    hard = (ids(1)[:, :, :, None] > 0).astype(np.float32).repeat(3, 3)
    for index, frame in enumerate(hard):
        soft = cv2.GaussianBlur(frame, (0, 0), 2) if index else frame
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGB": soft}).write(str(tmp_path / f"{index}.exr"))
    (mask,) = open_object_masks(tmp_path, clip)
    assert mask.notes == (f"1 object in {tmp_path}: everything brighter than half.",)
    assert (mask.numpy()[0] == (hard[0, ..., 0] > 0)).all()


LOSSLESS: list[tuple[str, dict[str, str], str, bool]] = [
    ("libx264", {"qp": "0"}, "yuv444p", True),
    ("libx264", {"qp": "0"}, "gray", True),
    ("libx264", {"qp": "10"}, "gray", False),
    ("libx264", {"crf": "18"}, "yuv444p", False),
    ("libx265", {"x265-params": "log-level=none:lossless=1"}, "gray", True),
    ("libx265", {"x265-params": "log-level=none:crf=18"}, "gray", False),
]


@pytest.mark.parametrize("how", LOSSLESS, ids=str)
def test_h264_and_hevc_that_say_they_are_lossless(
    tmp_path: Path, clip: Clip, how: tuple[str, dict[str, str], str, bool]
) -> None:
    codec, options, pixel_format, lossless = how
    path = tmp_path / "m.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.codec_context.options = options
        stream.codec_context.color_range = 2
        for frame in 20 * ids(3):
            made = av.VideoFrame.from_ndarray(frame, format="gray")
            made.color_range = 2
            made = made if pixel_format == "gray" else made.reformat(format=pixel_format, dst_color_range=2)
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    if lossless:
        check(path, clip, ["20", "40", "60"], ids(3))
    else:
        with pytest.raises(InputError, match="empty"):  # a matte whose brightest is darker than half
            open_object_masks(path, clip)
