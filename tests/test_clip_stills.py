"""Images: their format is what is in them, whatever they are called, and they are shown the way up they ask for."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from heif_files import box, write_heic, write_tiles
from layerlift.clip import Clip, open_clip
from layerlift.clip.rgba import to_linear
from layerlift.clip.rgba_encode import LayerFormat
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import write_layer
from layerlift.errors import InputError
from layerlift.masks import open_mask
from layerlift.stages.composition import compose

WIDTH, HEIGHT = 320, 240
ENDINGS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "avif": "AVIF"}
LOSSY = {"jpg": 8, "avif": 8, "gif": 12}  # levels that a pixel of these pictures may be off


def picture(seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: coarse patches with a fine texture, no symmetry; 20 KB as a JPEG."""
    rng = np.random.default_rng(seed)
    patches = cv2.resize(rng.integers(40, 216, (6, 8, 1), dtype=np.uint8), (WIDTH, HEIGHT))
    grain = rng.integers(-12, 13, (HEIGHT, WIDTH))
    return np.clip(patches.astype(int) + grain, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def save(path: Path, pixels: np.ndarray, kind: str | None = None, **options: Any) -> Path:
    """An image of a format that need not be what its name says."""
    kind = kind or ENDINGS[path.suffix[1:].lower()]
    if kind in ("JPEG", "AVIF"):
        options.setdefault("quality", 95)
    if kind == "WEBP":
        options.setdefault("lossless", True)
    Image.fromarray(pixels).save(path, format=kind, **options)
    return path


def write_exr(path: Path, light: np.ndarray, names: str = "RGB") -> Path:
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {names: np.ascontiguousarray(light.astype(np.float16))}).write(str(path))
    return path


def off(got: np.ndarray, wanted: np.ndarray) -> float:
    """Mean difference of two pictures of one size, in levels."""
    assert got.shape == wanted.shape
    return float(np.abs(got.astype(int) - wanted).mean())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["plain", "shot%03d", "100%", "a:b", "%d"])
def test_a_still_of_every_kind_under_every_name(tmp_path: Path, ending: str, name: str) -> None:
    path = save(tmp_path / f"{name}.{ending}", picture())
    assert path.stat().st_size > 2048
    clip = open_clip(path)
    assert (clip.width, clip.height, clip.frame_count) == (WIDTH, HEIGHT, 1)
    assert off(next(clip.frames()), picture()) < LOSSY.get(ending, 0.001)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.exr", "a.mp4", "a", "a.txt"])
def test_the_name_may_lie(tmp_path: Path, kind: str, name: str) -> None:
    path = save(tmp_path / name, picture(), kind)
    assert off(next(open_clip(path).frames()), picture()) < 12


@pytest.mark.parametrize("name", ["clip.jpg", "clip%02d.png", "clip.tif", "clip"])
def test_a_video_that_is_called_an_image_is_a_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for seed in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(seed), format="rgb24")))
        container.mux(stream.encode(None))
    assert open_clip(path.rename(tmp_path / name)).frame_count == 3


def test_folders_of_every_kind_and_mixed_ones(tmp_path: Path) -> None:
    for ending in ENDINGS:
        folder = tmp_path / ending
        folder.mkdir()
        for index in range(3):
            save(folder / f"{index}.{ending}", picture(index))
        clip = open_clip(folder)
        assert (clip.frame_count, clip.rate) == (3, Fraction(24))
        for index, frame in enumerate(clip.frames()):
            assert off(frame, picture(index)) < LOSSY.get(ending, 0.001), ending
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for index, ending in enumerate(ENDINGS):
        save(mixed / f"{index}.{ending}", picture(index))
    save(mixed / "8.png", picture(8), "JPEG")
    save(mixed / "9", picture(9), "PNG")
    (mixed / "Thumbs.db").write_bytes(b"no image")
    frames = open_clip(mixed).numpy()
    assert [off(frame, picture(index)) < 12 for index, frame in zip([*range(7), 8, 9], frames, strict=True)] == [
        True
    ] * 9


def test_openexr_is_linear_light(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    for index in range(2):
        write_exr(tmp_path / "e" / f"{index}.exr", to_linear(picture(index) / 255))
    for index, frame in enumerate(open_clip(tmp_path / "e").frames()):
        assert np.abs(frame.astype(int) - picture(index)).max() <= 1
    still = open_clip((tmp_path / "e" / "1.exr").rename(tmp_path / "one.png"))
    assert np.abs(next(still.frames()).astype(int) - picture(1)).max() <= 1


def test_openexr_colours_are_premultiplied(tmp_path: Path) -> None:
    light = np.dstack([to_linear(picture() / 255), np.full((HEIGHT, WIDTH), 0.5, np.float32)])
    light[..., :3] *= 0.5
    clip = open_clip(write_exr(tmp_path / "a.exr", light, "RGBA"))
    frame = next(clip.rgba_frames())
    assert clip.has_alpha
    assert np.abs(frame[..., :3].astype(int) - picture()).max() <= 1
    assert set(np.unique(frame[..., 3])) == {128}


def test_photos_that_carry_more_than_one_picture_are_one_frame(tmp_path: Path) -> None:
    """A phone's JPEG has its gain map or its second lens behind it (CIPA DC-007), a burst of JPEGs is a video."""
    first, second = (save(tmp_path / f"{seed}.jpg", picture(seed)).read_bytes() for seed in (0, 1))
    index = b"\xff\xe2" + struct.pack(">H", 12) + b"MPF\0" + bytes(6)
    (tmp_path / "phone.jpg").write_bytes(first[:2] + index + first[2:] + second)
    (tmp_path / "motion_photo.jpg").write_bytes(first + b"\0\0\0\x18ftypmp42" + bytes(5000))
    (tmp_path / "burst.jpg").write_bytes(first + second + first)
    assert open_clip(tmp_path / "phone.jpg").frame_count == 1
    assert open_clip(tmp_path / "motion_photo.jpg").frame_count == 1
    burst = open_clip(tmp_path / "burst.jpg")
    assert burst.frame_count == 3
    assert off(list(burst.frames())[1], picture(1)) < 8


def test_a_photo_with_a_thumbnail(tmp_path: Path) -> None:
    """The thumbnail inside is a whole JPEG of its own."""
    small = save(tmp_path / "small.jpg", picture()[::4, ::4]).read_bytes()
    whole = save(tmp_path / "a.jpg", picture()).read_bytes()
    for marker in (b"\xff\xe1", b"\xff\xe2"):
        segment = marker + struct.pack(">H", len(small) + 2 + 6) + b"Exif\0\0" + small
        (tmp_path / "b.jpg").write_bytes(whole[:2] + segment + whole[2:])
        clip = open_clip(tmp_path / "b.jpg")
        assert (clip.frame_count, clip.width) == (1, WIDTH)
        assert off(next(clip.frames()), picture()) < 8


def test_animated_pngs_and_gifs_are_videos(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    for name in ("a.png", "a.gif"):
        assert open_clip(tmp_path / name).frame_count == 3, name
        assert open_clip((tmp_path / name).rename(tmp_path / "x%d.jpg")).frame_count == 3, name


@pytest.mark.parametrize("ending", ENDINGS)
def test_still_masks_and_backgrounds(tmp_path: Path, ending: str) -> None:
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    inside[60:180, 80:200] = 255
    clip = Clip.from_array(np.stack([picture(seed) for seed in range(2)]))
    mask = open_mask(save(tmp_path / f"m%03d.{ending}", inside), clip)
    assert mask.still
    assert (mask.numpy() != (inside > 127)).mean() < 0.003
    layer = np.zeros((2, HEIGHT, WIDTH, 4), np.float32)
    layer[:, :20] = 1
    path = write_layer(tmp_path / "layer.mkv", iter(layer), clip, LayerFormat("ffv1"))
    made = compose(path, save(tmp_path / f"b%03d.{ending}", picture(5))).numpy()
    assert off(made[1, 20:], picture(5)[20:]) < LOSSY.get(ending, 0.001)
    assert made[:, :20].min() == 255


@pytest.mark.parametrize("name", ["a.jpg", "b.png", "c.tif", "d.webp", "e.exr", "f.heic", "g.gif"])
def test_damaged_images_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").mkdir()
    save(tmp_path / "f" / "0.png", picture())
    (tmp_path / "f" / name).write_bytes(b"no picture at all" * 200)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        open_clip(tmp_path / "f")


# (a, b, c, d) of a display matrix and what it makes of a picture: x' = a x + c y, y' = b x + d y.
MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, -1, 0): lambda p: p[::-1, ::-1].swapaxes(0, 1),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
}


def shown(value: int, pixels: np.ndarray) -> np.ndarray:
    """What a picture with this EXIF orientation is to look like: the matrices above stand in EXIF's order."""
    return list(MATRICES.values())[value - 1](pixels)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientations_of_stills_folders_masks_and_backgrounds(tmp_path: Path, ending: str, value: int) -> None:
    path = save(tmp_path / f"a.{ending}", picture(), exif=exif(value))
    wanted = shown(value, picture())
    assert wanted.shape[:2] == ((HEIGHT, WIDTH) if value < 5 else (WIDTH, HEIGHT))
    clip = open_clip(path)
    assert (clip.height, clip.width) == wanted.shape[:2]
    assert off(next(clip.frames()), wanted) < 8
    assert off(next(clip.rgba_frames())[..., :3], wanted) < 8
    # A folder in which the other picture was turned by an editor, so that only what is stored differs.
    (tmp_path / "f").mkdir()
    path.rename(tmp_path / "f" / f"0.{ending}")
    save(tmp_path / "f" / "1.png", wanted)
    assert off(open_clip(tmp_path / "f").numpy()[0], wanted) < 8

    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    inside[30:120, 40:280] = 255
    still = save(tmp_path / f"m.{ending}", inside, exif=exif(value))
    assert (open_mask(still, clip).numpy()[0] != (shown(value, inside) > 127)).mean() < 0.003


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientations_of_layers(tmp_path: Path, ending: str, value: int) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:100, :150] = 200
    (tmp_path / "f").mkdir()
    path = save(tmp_path / "f" / f"0.{ending}", np.dstack([picture(), alpha]), exif=exif(value), exact=True)
    wanted = shown(value, np.dstack([picture(), alpha]))
    for given in (path, tmp_path / "f"):
        layer = open_layer(given)
        assert (layer.height, layer.width) == wanted.shape[:2]
        np.testing.assert_array_equal(np.rint(layer.numpy()[0] * 255), wanted)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into the `tkhd` of an mp4 or mov whose first track is its video."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    assert data[at + 4] == 0  # version
    a, b, c, d = (value << 16 for value in matrix)
    data[at + 44 : at + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("matrix", MATRICES)
def test_display_matrices_of_clips_masks_and_layers(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:100, :150] = 255
    pixels = np.dstack([picture(), alpha])
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgba"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    set_matrix(path, matrix)
    wanted = MATRICES[matrix](pixels)
    clip = open_clip(path)
    assert (clip.height, clip.width, clip.frame_count) == (*wanted.shape[:2], 2)
    np.testing.assert_array_equal(clip.numpy()[1], wanted[..., :3])
    np.testing.assert_array_equal(open_mask(path, clip).numpy()[1], wanted[..., 3] > 0)
    np.testing.assert_array_equal(np.rint(open_layer(path).numpy()[1] * 255), wanted)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_the_alpha_of_vp8_and_vp9_is_seen(tmp_path: Path, codec: str) -> None:
    inside = np.zeros((4, HEIGHT, WIDTH), np.bool_)
    for index in range(4):
        inside[index, 60:180, 40 + 20 * index : 160 + 20 * index] = True
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24, options={"auto-alt-ref": "0", "crf": "10", "b": "1M"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for index in range(4):
            rgba = np.dstack([picture(index), inside[index] * np.uint8(255)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    clip = open_clip(path)
    assert clip.has_alpha
    mask = open_mask(path, Clip.from_array(np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)))
    assert (mask.numpy() != inside).mean() < 0.002
    assert (np.stack(list(mask.frames(2, 3)))[0] != inside[2]).mean() < 0.002


def test_our_own_webm_layer_is_a_mask(tmp_path: Path) -> None:
    layer = np.full((3, HEIGHT, WIDTH, 4), 0.1, np.float32)
    layer[..., 3] = 0
    layer[:, 60:180, 80:200, 3] = 1
    clip = Clip.from_array(np.zeros((3, HEIGHT, WIDTH, 3), np.uint8))
    for ending, kind in (("webm", "vp9"), ("mov", "prores"), ("mkv", "ffv1")):
        path = write_layer(tmp_path / f"layer.{ending}", iter(layer), clip, LayerFormat(kind))  # type: ignore[arg-type]
        assert (open_mask(path, clip).numpy() != (layer[..., 3] > 0.5)).mean() < 0.002, ending


# A HEIC's quarter turns counterclockwise (irot), and its mirrors: 0 upside down, 1 left to right (imir).
@pytest.mark.parametrize(
    ("properties", "value"),
    [
        (b"", 1),
        (box("irot", b"\1"), 8),
        (box("irot", b"\2"), 3),
        (box("irot", b"\3"), 6),
        (box("imir", b"\0"), 4),
        (box("imir", b"\1"), 2),
    ],
)
@pytest.mark.parametrize("name", ["a.heic", "a%03d.heic", "a.jpg"])
def test_heic(tmp_path: Path, properties: bytes, value: int, name: str) -> None:
    path = write_heic(tmp_path / name, picture(), properties)
    wanted = shown(value, picture())
    clip = open_clip(path)
    assert (clip.height, clip.width, clip.frame_count) == (*wanted.shape[:2], 1)
    assert off(next(clip.frames()), wanted) < 8
    (tmp_path / "f").mkdir()
    path.rename(tmp_path / "f" / name)
    assert off(open_clip(tmp_path / "f").numpy()[0], wanted) < 8


@pytest.mark.parametrize(("properties", "value"), [(b"", 1), (box("irot", b"\1"), 8), (box("imir", b"\0"), 4)])
def test_a_heic_of_tiles(tmp_path: Path, properties: bytes, value: int) -> None:
    pytest.importorskip("pi_heif")
    path = write_tiles(tmp_path / "a.heic", picture(), properties)
    clip = open_clip(path)
    wanted = shown(value, picture())
    assert (clip.height, clip.width, clip.frame_count) == (*wanted.shape[:2], 1)
    assert off(next(clip.frames()), wanted) < 8
    (tmp_path / "f").mkdir()
    path.rename(tmp_path / "f" / "a.heic")
    assert off(open_clip(tmp_path / "f").numpy()[0], wanted) < 8


def test_a_heic_of_tiles_without_the_package_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would give a corner of it for the whole."""
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(InputError, match=r"a\.heic is a tiled image.*pip install 'layerlift\[heif\]'.*JPEG"):
        open_clip(write_tiles(tmp_path / "a.heic", picture()))


def test_a_damaged_heic_of_tiles_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    data = write_tiles(tmp_path / "a.heic", picture()).read_bytes()
    (tmp_path / "a.heic").write_bytes(data[:-600])
    with pytest.raises(InputError, match=r"a\.heic"):
        open_clip(tmp_path / "a.heic").numpy()


def test_the_alpha_of_avif_is_seen(tmp_path: Path) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[60:180, 80:200] = 255
    path = save(tmp_path / "a.avif", np.dstack([picture(), alpha]))
    clip = Clip.from_array(picture()[None])
    assert (open_mask(path, clip).numpy()[0] != (alpha[..., 0] > 127)).mean() < 0.002
    layer = open_layer(path).numpy()[0]
    assert np.abs(layer[..., 3] * 255 - alpha[..., 0]).mean() < 2
    assert off(np.rint(layer[60:180, 80:200, :3] * 255), picture()[60:180, 80:200]) < 8


@pytest.mark.parametrize(("dtype", "said"), [
    (np.int32, "32-bit signed integers"), (np.float32, "32-bit floating-point numbers"),
])  # fmt: skip
def test_a_tiff_that_ffmpeg_cannot_decode_is_no_damage(tmp_path: Path, dtype: type, said: str) -> None:
    labels = np.zeros((48, 64), dtype)
    labels[10:20, 10:20] = 2
    Image.fromarray(labels).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif is a TIFF of {said}.*save it with unsigned 8-bit or 16-bit"):
        open_clip(tmp_path / "a.tif")
    data = tmp_path / "b.tif"
    Image.fromarray(labels.astype(np.uint8)).save(data, compression="tiff_lzw")
    data.write_bytes(data.read_bytes()[:60])
    with pytest.raises(InputError, match=r"damaged|cannot be read") as caught:
        open_clip(data).numpy()
    assert "numbers" not in str(caught.value)
