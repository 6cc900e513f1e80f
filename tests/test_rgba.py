"""Layers written and read back in every format, with their timing and sound."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip
from layerlift.clip.rgba import LayerClip, bleed, from_linear, premultiply, straighten, to_linear, to_whole
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format, sound_file, write_layer
from layerlift.errors import InputError

FRAMES, HEIGHT, WIDTH = 5, 48, 64
RATE = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def layer() -> np.ndarray:
    """A moving soft blob with a smooth coat, (F, H, W, 4) float32, nothing around it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    frames = []
    for t in range(FRAMES):
        alpha = np.clip((14 - np.hypot(x - 24 - 3 * t, y - 24)) / 4 + 0.5, 0, 1)
        colour = np.stack([0.5 + 0.4 * np.sin(x / 9), 0.5 + 0.4 * np.cos(y / 7), 0.3 + 0.01 * t + 0 * x], -1)
        frames.append(np.dstack([colour * (alpha[..., None] > 0), alpha]))
    return np.stack(frames).astype(np.float32)


@pytest.fixture(scope="module")
def like() -> Clip:
    return Clip.from_array(np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8), RATE)


def over(layer: np.ndarray, grey: float) -> np.ndarray:
    return layer[..., :3] * layer[..., 3:] + (1 - layer[..., 3:]) * np.float32(grey)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(a - b)) + 1e-12))


@pytest.mark.parametrize(
    ("name", "options", "bits"),
    [
        ("layer.mkv", {}, 16),
        ("layer.mkv", {"bits": 8}, 8),
        ("layer", {}, 16),
        ("layer", {"images": "png", "bits": 8}, 8),
    ],
)
def test_ffv1_and_png_are_bit_exact(  # noqa: PLR0917
    layer: np.ndarray, like: Clip, tmp_path: Path, name: str, options: dict, bits: int
) -> None:
    path = write_layer(tmp_path / name, layer, like, choose_layer_format(tmp_path / name, **options))
    back = open_layer(path)
    assert (back.frame_count, back.height, back.width) == layer.shape[:3]
    np.testing.assert_array_equal(to_whole(back.numpy(), bits), to_whole(layer, bits))
    np.testing.assert_array_equal(np.stack(list(back.frames(2, 4))), back.numpy()[2:4])


@pytest.mark.parametrize(
    ("name", "options", "alpha_error", "decibels"),
    [
        ("layer.mov", {}, 1.01 / 1023, 50),
        ("layer.mov", {"premultiplied": True}, 1.01 / 1023, 50),
        ("layer.mkv", {"premultiplied": True}, 1.01 / 65535, 80),
        ("layer.webm", {}, 0.1, 40),
    ],
)
def test_video_formats_over_a_plate(  # noqa: PLR0917
    layer: np.ndarray, like: Clip, tmp_path: Path, name: str, options: dict, alpha_error: float, decibels: float
) -> None:
    path = write_layer(tmp_path / name, layer, like, choose_layer_format(tmp_path / name, **options))
    back = open_layer(path)
    assert back.rate == RATE
    assert back.timed
    frames = back.numpy()
    assert np.abs(frames[..., 3] - layer[..., 3]).max() <= alpha_error
    for grey in (0.0, 1.0):
        assert psnr(over(frames, grey), over(layer, grey)) > decibels


def test_prores_and_vp9_are_what_editors_and_browsers_open(layer: np.ndarray, like: Clip, tmp_path: Path) -> None:
    with av.open(str(write_layer(tmp_path / "a.mov", layer, like))) as mov:
        context = mov.streams.video[0].codec_context
        assert (context.codec_tag, context.pix_fmt) == ("ap4h", "yuva444p12le") or context.pix_fmt == "yuva444p10le"
        assert context.codec_tag == "ap4h"
        assert (context.colorspace, context.color_range) == (1, 1)
    with av.open(str(write_layer(tmp_path / "a.webm", layer, like))) as webm:
        stream = webm.streams.video[0]
        assert stream.codec_context.codec.canonical_name == "vp9"
        assert stream.metadata["alpha_mode"] == "1"


def test_exr_is_premultiplied_half_float_and_says_its_rate(layer: np.ndarray, like: Clip, tmp_path: Path) -> None:
    OpenEXR = pytest.importorskip("OpenEXR")
    path = write_layer(tmp_path / "exr", layer, like, choose_layer_format(tmp_path / "exr", "exr"))
    with OpenEXR.File(str(path / "00002.exr")) as image:
        pixels = np.asarray(image.channels()["RGBA"].pixels)
    assert pixels.dtype == np.float16
    np.testing.assert_array_equal(pixels, premultiply(layer[2]).astype(np.float16))
    back = open_layer(path)
    assert (back.rate, back.timed, back.linear) == (RATE, True, True)
    assert psnr(over(back.numpy(), 0.5), over(layer, 0.5)) > 65


@pytest.mark.parametrize(("name", "images"), [
    ("l.mkv", None), ("l.webm", None), ("l.mov", None), ("l", "png"), ("l", "exr"),
])  # fmt: skip
def test_a_pixel_shape_is_kept_or_said(
    layer: np.ndarray, like: Clip, tmp_path: Path, name: str, images: str | None
) -> None:
    wide = replace(like, pixel_aspect=Fraction(16, 11))
    form = choose_layer_format(name, images)
    with LayerWriter(tmp_path / name, wide, form) as writer:
        for frame in layer:
            writer.write(frame)
    assert LayerWriter(tmp_path / f"square{name[1:]}", like, form).notes == []
    if images == "png":
        (note,) = writer.notes
        assert "A folder of PNGs cannot store the pixel aspect ratio" in note
        assert "(16:11): players show the picture narrower" in note
    else:
        assert writer.notes == []
    if images is None:
        # WebM says whole pixels.
        slack = Fraction(1, 2 * like.width) if name == "l.webm" else 0
        assert abs(open_clip(tmp_path / name).pixel_aspect - Fraction(16, 11)) <= slack


@pytest.mark.parametrize("name", ["l.mov", "l.mkv", "l"])
def test_layers_of_an_interlaced_clip_say_what_becomes_of_its_fields(like: Clip, tmp_path: Path, name: str) -> None:
    (note,) = LayerWriter(tmp_path / name, replace(like, field_order="top"), choose_layer_format(name)).notes
    assert "each field becomes its own picture" in note


def test_straight_colours_go_on_beyond_the_edge(layer: np.ndarray) -> None:
    frame = bleed(layer[0])
    np.testing.assert_array_equal(frame[..., 3], layer[0, ..., 3])
    assert frame[..., :3].min() > 0.05  # black is nowhere
    np.testing.assert_allclose(frame[24, 24], layer[0, 24, 24], atol=1e-6)


def test_premultiplying_and_light_are_undone(layer: np.ndarray) -> None:
    back = straighten(premultiply(layer[1]))
    shown = layer[1, ..., 3] > 0
    np.testing.assert_allclose(back[shown], layer[1][shown], atol=1e-6)
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    np.testing.assert_allclose(from_linear(to_linear(values)), values, atol=1e-6)
    assert abs(float(to_linear(np.float32([0.5]))[0]) - 0.2140) < 1e-4  # sRGB's published value


def sounding_clip(folder: Path, codec: str, ending: str) -> Clip:
    """A clip with half a second of a 440 Hz tone beside its frames."""
    path = folder / f"clip{ending}"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream(codec, rate=48000, layout="stereo")
        for _ in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb24")
            container.mux(video.encode(picture))
        wave = 0.5 * np.sin(np.arange(24000) * 2 * np.pi * 440 / 48000)
        samples = np.repeat((wave * 32767).astype(np.int16)[:, None], 2, 1)
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "stereo")
        frame.sample_rate = 48000
        for part in av.AudioResampler(format=audio.codec_context.format.name).resample(frame):
            part.pts = None
            fifo.write(part)
        for chunk in fifo.read_many(audio.codec_context.frame_size or 1024, partial=True):
            container.mux(audio.encode(chunk))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return open_clip(path)


def sound_of(path: Path) -> tuple[str, float, float]:
    """Codec, seconds and loudest sample in [0, 1] of a file's first sound track."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48000)
        parts = [part.to_ndarray().ravel() for frame in container.decode(stream) for part in resampler.resample(frame)]
        samples = np.concatenate(parts)
        return stream.codec_context.codec.canonical_name, len(samples) / 48000, float(np.abs(samples).max())


def test_sound_rides_along(layer: np.ndarray, tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path, "aac", ".mp4")
    for name, codec in {"a.mov": "aac", "a.mkv": "aac", "a.webm": "opus"}.items():
        found, seconds, loudest = sound_of(write_layer(tmp_path / name, layer, clip))
        assert found == codec
        assert seconds == pytest.approx(0.5, abs=0.06)  # AAC's frames are 21 ms, one of them before the start
        assert loudest == pytest.approx(0.71, abs=0.05)  # two channels of 0.5 as one
    folder = write_layer(tmp_path / "pngs", layer, clip)
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:05d}.png" for i in range(FRAMES)]
    assert sound_of(sound_file(folder))[0] == "aac"
    assert open_layer(folder).clip.path == sound_file(folder)
    with pytest.raises(InputError, match="already exists"):
        write_layer(folder, layer, clip)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_cut_clips_sound_is_cut_for_webm(layer: np.ndarray, tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path, "aac", ".mp4").cut(2, 4)
    _, seconds, loudest = sound_of(write_layer(tmp_path / "a.webm", layer[2:4], clip))
    assert seconds == pytest.approx(0.2, abs=0.02)
    assert loudest == pytest.approx(0.71, abs=0.05)  # two channels of 0.5 as one


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.mp4", {}, ".mov"),
        ("a.mov", {"images": "png"}, "folder"),
        ("a", {"images": "tiff"}, "png or exr"),
        ("a.mov", {"bits": 8}, "ProRes"),
        ("a.mkv", {"bits": 12}, "8 or 16"),
        ("a.webm", {"lossless": True}, "not lossless"),
        ("a.webm", {"premultiplied": True}, "straight"),
        ("a", {"premultiplied": True}, "straight"),
    ],
)
def test_formats_that_cannot_be(name: str, options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose_layer_format(name, **options)


def stop() -> np.ndarray:
    raise RuntimeError("stop")


def test_nothing_is_left_of_a_layer_that_was_not_finished(layer: np.ndarray, like: Clip, tmp_path: Path) -> None:
    for name in ("a.mov", "a.webm", "a"):
        frames = (frame if index == 0 else stop() for index, frame in enumerate(layer))
        with pytest.raises(RuntimeError, match="stop"):
            write_layer(tmp_path / name, frames, like)
    assert list(tmp_path.iterdir()) == []


def test_existing_outputs_and_other_peoples_files_stay(layer: np.ndarray, like: Clip, tmp_path: Path) -> None:
    path = write_layer(tmp_path / "a", layer, like)
    with pytest.raises(InputError, match="already exists"):
        write_layer(path, layer, like)
    write_layer(path, layer[::-1], like, overwrite=True)
    np.testing.assert_array_equal(to_whole(open_layer(path).numpy(), 16), to_whole(layer[::-1], 16))
    (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="files other than"):
        write_layer(path, layer, like, overwrite=True)


def test_clips_without_alpha_are_no_layers(tmp_path: Path, like: Clip) -> None:
    from layerlift.clip import write_clip

    (tmp_path / "layout").mkdir()
    for name in ("clip.mp4", "clip.mkv", "folder", "layout/video.mkv"):
        path = write_clip(tmp_path / name, like.frames(), like, lossless=name.endswith("mkv"))
        with pytest.raises(InputError, match="no alpha"):
            open_layer(path.parent if path.stem == "video" else path)


def test_layers_in_memory() -> None:
    frames = np.zeros((2, 3, 4, 4), np.uint16)
    frames[..., 3] = 65535
    layer = LayerClip.from_array(frames, rate=12)
    assert (layer.frame_count, layer.height, layer.width, layer.rate) == (2, 3, 4, 12)
    assert layer.numpy()[..., 3].min() == 1
    assert next(layer.clip.rgba_frames()).dtype == np.uint8
    with pytest.raises(InputError, match="layer is"):
        LayerClip.from_array(frames[..., :3])
