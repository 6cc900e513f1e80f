"""Clips from files: what is decoded is what PyAV decodes, and the metadata is exact."""

from __future__ import annotations

import gc
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, ColorTags, open_clip
from layerlift.clip.images import image_files
from layerlift.errors import InputError
from support import CLIPS


def pictures(count: int = 24, width: int = 96, height: int = 64) -> np.ndarray:
    """(F, H, W, 3) uint8: smooth colours, every frame another."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (width, height)) for frame in small])


def encode(
    path: Path,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    *,
    frames: np.ndarray | None = None,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """A video file made by PyAV alone."""
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        stream.codec_context.options = options or {}
        if times is not None:
            stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)
            if times is not None:
                picture.pts, picture.time_base = times[index], time_base
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def shown(frame: av.VideoFrame) -> np.ndarray:
    """A frame as a player shows it, (H, W, 3) float64: BT.601 or BT.709 by the formula, chroma repeated."""
    if not frame.format.name.startswith("yuv"):
        return frame.to_ndarray(format="rgb24").astype(np.float64)
    bits = frame.format.components[0].bits
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
        down, across = -(-frame.height // plane.height), -(-frame.width // plane.width)
        whole = rows[: plane.height, : plane.width].repeat(down, 0).repeat(across, 1)
        planes.append(whole[: frame.height, : frame.width] / 2.0 ** (bits - 8))
    red, blue = (0.2126, 0.0722) if frame.colorspace == 1 else (0.299, 0.114)
    full = frame.color_range == 2
    luma = planes[0] if full else (planes[0] - 16) * 255 / 219
    u, v = ((plane - 128) * (1 if full else 255 / 224) for plane in planes[1:])
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    return np.clip(np.dstack([r, (luma - red * r - blue * b) / (1 - red - blue), b]), 0, 255)


def by_pyav(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([shown(frame) for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h264_444.mov", "libx264", "yuv444p"),
        ("hevc_10bit.mkv", "libx265", "yuv420p10le"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("stream.ts", "libx264", "yuv420p"),
        ("raw.h264", "libx264", "yuv420p"),
        ("prores_10bit.mov", "prores_ks", "yuv422p10le"),
        ("full_range.avi", "mjpeg", "yuvj420p"),
        ("picture.gif", "gif", "rgb8"),
        ("ffv1.mkv", "ffv1", "bgr0"),
    ],
)
def test_frames_are_those_of_pyav(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    path = encode(tmp_path / name, codec, pixel_format, options={"g": "8"} if codec == "libx264" else None)
    clip = open_clip(path)
    wanted = by_pyav(path)
    assert (clip.width, clip.height, clip.frame_count) == (96, 64, 24)
    np.testing.assert_allclose(clip.numpy(), wanted, atol=0.6)
    # A span in the middle is reached by a seek in some of these, from the start in others.
    np.testing.assert_allclose(np.stack(list(clip.frames(13, 19))), wanted[13:19], atol=0.6)


def test_a_span_behind_a_key_frame_does_not_decode_what_is_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerlift.clip import reader

    clip = open_clip(encode(tmp_path / "a.mp4", options={"g": "8", "sc_threshold": "0"}))
    sought: list[int | None] = []
    decode = reader.video_frames

    def spy(path: Path, seek_to: int | None, *more: Any, **named: Any) -> Any:
        sought.append(seek_to)
        return decode(path, seek_to, *more, **named)

    monkeypatch.setattr(reader, "video_frames", spy)
    list(clip.frames(20, 21))
    list(clip.frames(3, 4))
    assert sought[0] is not None
    assert sought[1] is None


@pytest.mark.parametrize("size", [(853, 479), (1280, 690), (1, 1), (33, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mkv", "ffv1", "bgr0", frames=pictures(2, *size))
    clip = open_clip(path)
    assert (clip.width, clip.height) == size
    assert next(clip.frames()).shape == (size[1], size[0], 3)


def test_one_frame(tmp_path: Path) -> None:
    clip = open_clip(encode(tmp_path / "a.mp4", frames=pictures(1)))
    assert (clip.frame_count, clip.rate, clip.timestamps) == (1, 24, None)
    assert clip.numpy().shape == (1, 64, 96, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate_keeps_timestamps(tmp_path: Path, name: str) -> None:
    times = [0, 40, 90, 130, 300, 340, 800, 1000]
    clip = open_clip(encode(tmp_path / name, frames=pictures(8), times=times))
    assert clip.timestamps is not None
    assert clip.time_base is not None
    assert [t * clip.time_base * 1000 for t in clip.timestamps] == times
    cut = clip.cut(3, 6)
    assert cut.timestamps == clip.timestamps[3:6]
    assert cut.start_time == Fraction(130, 1000)
    assert cut.duration == Fraction(800 - 130, 1000)


def test_dropped_frames_are_noconstant_rate(tmp_path: Path) -> None:
    times = [0, 1, 2, 4, 5, 6]
    clip = open_clip(encode(tmp_path / "a.mp4", frames=pictures(6), times=times, time_base=Fraction(1, 24)))
    assert clip.timestamps is not None


def test_a_coarse_tick_does_not_hide_a_dropped_frame() -> None:
    from layerlift.clip.timing import constant_rate

    assert constant_rate((0, 1, 2, 4, 5), Fraction(1, 24), [Fraction(24)]) is None
    assert constant_rate((0, 1, 2, 3, 4), Fraction(1, 24), [Fraction(12), Fraction(24)]) == 24


def test_rounded_timestamps_are_aconstant_rate(tmp_path: Path) -> None:
    clip = open_clip(encode(tmp_path / "a.mkv"))  # Matroska rounds to milliseconds: 0, 42, 83, 125 …
    assert (clip.rate, clip.timestamps) == (24, None)


@pytest.mark.parametrize(("angle", "size"), [(90, (64, 96)), (180, (96, 64)), (270, (64, 96))])
def test_rotation_is_honoured(tmp_path: Path, angle: int, size: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mp4", frames=pictures(3), rotation=angle)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        wanted = np.rot90(shown(frame), frame.rotation // 90)  # both counterclockwise
    clip = open_clip(path)
    assert (clip.width, clip.height) == size
    np.testing.assert_allclose(next(clip.frames()), wanted, atol=0.6)


def test_metadata(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", options={"x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709"})
    clip = open_clip(path)
    assert (clip.name, clip.path) == ("a", path)
    assert clip.color == ColorTags(range=clip.color.range, matrix=1, primaries=1, transfer=1)


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    frames = pictures(11)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"f_{index}.png"), frame[..., ::-1])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._f_0.png").write_bytes(b"what macOS leaves behind")
    clip = open_clip(tmp_path)
    assert (clip.frame_count, clip.rate, clip.path, clip.name) == (11, 24, None, tmp_path.name)
    np.testing.assert_array_equal(clip.numpy(), frames)
    np.testing.assert_array_equal(np.stack(list(clip.frames(9, 11))), frames[9:11])


def test_digits_that_are_no_numbers_are_letters_of_a_name(tmp_path: Path) -> None:
    for name in ("f_1²2", "f_1²10", "f_²", "f_٣", "f_12"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    assert [file.stem for file in image_files(tmp_path)] == ["f_1²2", "f_1²10", "f_٣", "f_12", "f_²"]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp"])
def test_image_kinds(tmp_path: Path, ending: str) -> None:
    cv2.imwrite(str(tmp_path / f"0.{ending}"), pictures(1)[0][..., ::-1])
    assert abs(open_clip(tmp_path).numpy().astype(int) - pictures(1)).mean() < 4


def test_jpegs_too_large_to_be_told_at_first_sight(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 176, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.jpg"), noise[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    for path in (tmp_path, tmp_path / "0.jpg"):
        assert open_clip(path).numpy().shape == (1, 120, 176, 3)


def test_images_of_two_sizes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(InputError, match=r"1\.png is 10x8 pixels, but 0\.png beside it is 8x8"):
        open_clip(tmp_path)


def test_frame_size_that_changes_midway(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{w}.h264", frames=pictures(4, w, 64)).read_bytes() for w in (96, 64)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match="changes its frame size from 96x64 to 64x64 at frame 4"):
        open_clip(path).numpy()


def test_from_array_round_trip() -> None:
    frames = pictures(5)
    clip = Clip.from_array(frames, Fraction(30000, 1001), "mine")
    assert (clip.width, clip.height, clip.frame_count, clip.name) == (96, 64, 5, "mine")
    assert clip.duration == Fraction(5 * 1001, 30000)
    np.testing.assert_array_equal(clip.numpy(), frames)
    np.testing.assert_array_equal(clip.cut(1, 4).cut(1, 2).numpy(), frames[2:3])
    assert clip.cut(1, 4).cut(1, 2).first == 2
    assert next(clip.rgba_frames())[0, 0, 3] == 255


@pytest.mark.parametrize(("shape", "kind"), [((0, 8, 8, 3), "uint8"), ((2, 8, 8), "uint8"), ((1, 8, 8, 3), "float32")])
def test_from_array_refuses(shape: tuple[int, ...], kind: str) -> None:
    frames = np.zeros(shape, kind)
    with pytest.raises(InputError, match="a clip is"):
        Clip.from_array(frames)


@pytest.mark.parametrize("span", [(2, 2), (3, 1), (0, 6), (-1, 2)])
def test_cut_refuses(span: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="has frames 0:5"):
        Clip.from_array(pictures(5)).cut(*span)


def playlist(path: Path) -> None:
    encode(path.parent / "segment.ts")
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nsegment.ts\n#EXT-X-ENDLIST\n")


def concat_script(path: Path) -> None:
    encode(path.parent / "segment.ts")
    path.write_text("ffconcat version 1.0\nfile segment.ts\n")


def link_loop(path: Path) -> None:
    other = path.with_name("other")
    path.symlink_to(other)
    other.symlink_to(path)


def sound_alone(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        tone.rate = 44100
        for packet in [*stream.encode(tone), *stream.encode(None)]:
            container.mux(packet)


def cut_before_its_header(path: Path) -> None:
    whole = encode(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def cut_in_its_frames(path: Path) -> None:
    whole = encode(path, container_options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def huge_picture(path: Path) -> None:
    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda path: None, "a.mp4", "does not exist"),
        (lambda path: path.write_bytes(b""), "a.mp4", r"is empty \(0 bytes\)"),
        (lambda path: path.write_text("this is no video\n" * 100), "a.mp4", "cannot be read as a video"),
        (lambda path: path.mkdir(), "a.mp4", "contains neither a video named 'video' nor images"),
        (playlist, "a.mp4", "cannot be read as a video"),
        (playlist, "a.m3u8", "it is a playlist"),
        (concat_script, "a.mp4", "it is a playlist"),
        (link_loop, "a.mp4", "does not exist"),
        (sound_alone, "a.mp4", "has no video stream"),
        (cut_before_its_header, "a.mp4", "is cut short"),
        (cut_in_its_frames, "a.mp4", "is damaged or cut short"),
        (huge_picture, "a.png", r"a\.png"),
    ],
)
def test_hostile_files_get_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], name: str, message: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        open_clip(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")


def test_addresses_are_not_opened() -> None:
    for address in ("http://127.0.0.1:9/a.mp4", "concat:a.ts|b.ts", "lavfi:testsrc", "/dev/zero"):
        with pytest.raises(InputError, match=r"does not exist|is not a file"):
            open_clip(address)


def test_a_name_with_a_colon(tmp_path: Path) -> None:
    assert open_clip(encode(tmp_path / "a.mp4").rename(tmp_path / "http:a.mp4")).frame_count == 24


def test_packets_without_a_frame_are_not_counted(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mkv", options={"g": "4"}).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) * 2 // 3])  # Matroska does not say how many frames there were
    with pytest.raises(InputError, match="its end is missing"):
        open_clip(path)
    clip = open_clip(path, allow_damage=True)
    assert 0 < clip.frame_count < 24
    assert len(clip.numpy()) == clip.frame_count


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are not here")
@pytest.mark.parametrize(
    ("name", "size", "count", "rate"),
    [
        ("swan_lake", (1280, 690), 240, Fraction(24)),
        ("cat_reflection", (768, 480), 211, Fraction(24)),
        ("camel", (640, 384), 90, Fraction(16)),
        ("dog", (1280, 720), 289, Fraction(30000, 1001)),
    ],
)
def test_shared_clips(name: str, size: tuple[int, int], count: int, rate: Fraction) -> None:
    clip = open_clip(CLIPS / name)
    assert ((clip.width, clip.height), clip.frame_count, clip.rate, clip.name) == (size, count, rate, name)
    assert clip.timestamps is None
    with av.open(str(CLIPS / name / "video.mp4")) as container:
        for ours, theirs in zip(clip.frames(0, 5), container.decode(video=0), strict=False):
            np.testing.assert_allclose(ours, shown(theirs), atol=0.6)
    assert sum(1 for _ in clip.frames(count - 3)) == 3


def test_a_picture_that_was_read_is_let_go_at_once(tmp_path: Path) -> None:
    """Not when Python looks for circles of references: by then hundreds of them have piled up."""
    clip = open_clip(encode(tmp_path / "clip.mp4"))
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in clip.frames()) == clip.frame_count
        assert not [thing for thing in gc.get_objects() if isinstance(thing, av.VideoFrame)]
    finally:
        gc.enable()
