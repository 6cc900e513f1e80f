"""Kinds of files with a way of their own: bare streams, animated WebP, OpenEXR."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip
from layerlift.clip.rgba_encode import LayerFormat
from layerlift.clip.rgba_writer import write_layer
from layerlift.errors import InputError
from layerlift.parse import parse_rate
from support import layerlift

RATES = [Fraction(24), Fraction(25), Fraction(30), Fraction(60), Fraction(24000, 1001)]


def scene(count: int = 6) -> np.ndarray:
    """(F, H, W, 3) uint8: smooth colours that drift."""
    small = np.random.default_rng(3).integers(40, 210, (count, 5, 7, 3), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (96, 64)) for frame in small])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("codec", "ending"), [("libx264", "h264"), ("libx265", "hevc"), ("mpeg2video", "m2v")])
def test_a_bare_stream_has_the_rate_that_its_headers_say(
    tmp_path: Path, codec: str, ending: str, rate: Fraction
) -> None:
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w", format="mpeg2video" if ending == "m2v" else ending) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        for number, frame in enumerate(scene(12)):
            picture = av.VideoFrame.from_ndarray(frame)
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    clip = open_clip(path)
    assert (clip.rate, clip.timestamps, clip.frame_count) == (rate, None, 12)
    back = open_clip(write_clip(tmp_path / "out.mp4", clip.frames(), clip))
    assert (back.rate, back.frame_count) == (rate, 12)


def webp(path: Path, frames: np.ndarray, durations: list[int] | int) -> Path:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, lossless=True, exact=True)
    return path


@pytest.mark.parametrize("alpha", [False, True])
def test_animated_webp(tmp_path: Path, alpha: bool) -> None:
    frames = scene()
    if alpha:
        mask = np.zeros((*frames.shape[:3], 1), np.uint8)
        mask[:, 10:50, 20:70] = 255
        frames = np.concatenate([frames, mask], 3)
    clip = open_clip(webp(tmp_path / "a.webp", frames, 40))
    assert (clip.frame_count, clip.rate, clip.timestamps) == (6, 25, None)
    np.testing.assert_array_equal(clip.numpy()[:, 10:50, 20:70], frames[:, 10:50, 20:70, :3])
    np.testing.assert_array_equal(np.stack(list(clip.frames(2, 4))), clip.numpy()[2:4])
    path = write_clip(tmp_path / "out.mkv", clip.frames(), clip, lossless=True)
    back = open_clip(path)
    if alpha:
        seen = np.stack(list(back.rgba_frames()))
        np.testing.assert_array_equal(seen[..., 3], frames[..., 3])
    else:
        np.testing.assert_array_equal(back.numpy(), frames)


def test_animated_webp_of_uneven_times(tmp_path: Path) -> None:
    clip = open_clip(webp(tmp_path / "a.webp", scene(), [40, 80, 40, 200, 40, 100]))
    assert clip.timestamps == (0, 40, 120, 160, 360, 400)
    assert clip.duration == Fraction(1, 2)


def test_a_damaged_animated_webp_is_refused(tmp_path: Path) -> None:
    path = webp(tmp_path / "a.webp", scene(), 40)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        open_clip(path)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "lossless.mkv", "out"])
def test_openexr_as_a_clip(tmp_path: Path, name: str) -> None:
    OpenEXR = pytest.importorskip("OpenEXR")
    folder = tmp_path / "exr"
    folder.mkdir()
    for number, frame in enumerate(scene()):
        light = np.where(frame <= 0.04045 * 255, frame / 255 / 12.92, ((frame / 255 + 0.055) / 1.055) ** 2.4)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGB": light.astype(np.float16)}).write(str(folder / f"{number}.exr"))
    clip = open_clip(folder)
    assert np.abs(clip.numpy().astype(int) - scene()).max() <= 1
    back = open_clip(write_clip(tmp_path / name, clip.frames(), clip, lossless=name == "lossless.mkv"))
    assert np.abs(back.numpy().astype(int) - scene()).mean() < (1 if name in ("lossless.mkv", "out") else 3)
    assert abs((back.numpy().astype(int) - scene()).mean()) < 0.3
    assert back.samples is not None
    assert back.samples.bits >= 10


def test_layers_in_openexr_are_read_as_a_clip_at_their_rate(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    like = Clip.from_array(scene(), 30)
    layer = np.dstack([np.full((64, 96, 3), 0.5), np.ones((64, 96, 1))]).astype(np.float32)
    write_layer(tmp_path / "layer", [layer] * 6, like, LayerFormat("exr", 16, True))
    clip = open_clip(tmp_path / "layer")
    assert (clip.frame_count, clip.rate) == (6, 30)
    assert abs(int(clip.numpy().mean()) - 188) <= 1  # half the light


def untimed(path: Path) -> Path:
    """HEVC whose headers say nothing of its rate."""
    with av.open(str(path), "w", format="hevc") as container:
        stream: Any = container.add_stream("libx265", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.options = {"x265-params": "log-level=none:vui-timing-info=0"}
        for frame in scene():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", ["hevc", "folder"])
def test_a_rate_that_nothing_says_can_be_given(tmp_path: Path, kind: str) -> None:
    path = untimed(tmp_path / "a.hevc") if kind == "hevc" else images(tmp_path / "f")
    clip = open_clip(path)
    assert (clip.rate, clip.rate_assumed) == (25 if kind == "hevc" else 24, True)
    given = open_clip(path, rate=Fraction(24000, 1001))
    assert (given.rate, given.rate_assumed, given.frame_count) == (Fraction(24000, 1001), False, 6)
    back = open_clip(write_clip(tmp_path / "out.mp4", given.frames(), given))
    assert back.rate == Fraction(24000, 1001)
    assert not back.rate_assumed
    with pytest.raises(InputError, match=r"out\.mp4 states its own rate, 24000/1001"):
        open_clip(tmp_path / "out.mp4", rate=Fraction(25))


def images(path: Path) -> Path:
    path.mkdir()
    for number, frame in enumerate(scene()):
        cv2.imwrite(str(path / f"{number}.png"), frame)
    return path


def test_an_assumed_rate_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = untimed(tmp_path / "a.hevc")
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 30:50] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    places = ["remove", path, "--mask", tmp_path / "m.png", "-o", tmp_path / "o.mp4"]
    asked = [*places, "--model", "none", "--overwrite"]
    assert layerlift(*asked) == 0
    assert (
        "a.hevc does not state its frame rate: 25 frames a second are assumed; if that is wrong, give --rate"
        in capsys.readouterr().err
    )
    assert layerlift(*asked, "--rate", "29.97") == 0
    assert "--rate" not in capsys.readouterr().err
    assert open_clip(tmp_path / "o.mp4").rate == Fraction(30000, 1001)
    assert layerlift(*asked, "--rate", "fast") == 2
    assert (
        "--rate 'fast' is not a rate: give frames a second, such as 24, 23.976 or 30000/1001" in capsys.readouterr().err
    )


@pytest.mark.parametrize(("text", "rate"), [
    ("24", Fraction(24)), ("23.976", Fraction(24000, 1001)), ("23.98", Fraction(24000, 1001)),
    ("29.97", Fraction(30000, 1001)), ("59.94", Fraction(60000, 1001)), ("12.5", Fraction(25, 2)),
    ("30000/1001", Fraction(30000, 1001)),
])  # fmt: skip
def test_rates_as_people_write_them(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "-24", "24fps", "1/0", "nan", "100000", ""])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(InputError, match="is not a rate"):
        parse_rate(text)
