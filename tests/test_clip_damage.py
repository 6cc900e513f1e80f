"""Files that are damaged or cut short: never processed without a word."""

from __future__ import annotations

import io
import re
import struct
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from layerlift.cli import main
from layerlift.clip import open_clip, write_clip
from layerlift.clip.damage import is_cut_short
from layerlift.clip.images import read_picture
from layerlift.clip.writer import OutputWarning
from layerlift.errors import InputError
from support import moving_texture

COUNT = 24


def make(path: Path, codec: str = "libx264", *, options: dict[str, str] | None = None, gop: int = 4) -> Path:
    """A clip of texture that moves, key frames at every `gop`; `options` are the container's."""
    own = {"ffv1": {"level": "3"}, "libx264": {"crf": "12"}}.get(codec, {})
    return moving_texture(path, codec, own, container=options, gop=gop, count=COUNT)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def hurt(path: Path) -> Path:
    """Bytes flipped inside the pictures of an MP4 whose index is in front."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat")
    rng = np.random.default_rng(3)
    for _ in range(40):
        data[begin + (len(data) - begin) // 3 + int(rng.integers((len(data) - begin) // 6))] ^= int(
            rng.integers(1, 256)
        )
    path.write_bytes(data)
    return path


FRONT = {"movflags": "faststart"}


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.avi", "a.webm"])
def test_a_whole_file_is_whole(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    clip = open_clip(make(tmp_path / name, codec))
    assert not is_cut_short(tmp_path / name)
    assert clip.numpy().shape[0] == COUNT
    assert open_clip(tmp_path / name, allow_damage=True).damage is None


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.webm", "a.avi"])
def test_a_file_that_was_cut_short_is_refused_or_said(tmp_path: Path, name: str, share: float) -> None:
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    options = FRONT if name in ("a.mp4", "a.mov") else None
    path = cut(make(tmp_path / name, codec, options=options), share)
    with pytest.raises(InputError, match=r"damaged or cut short.*--allow-damage"):
        open_clip(path)
    clip = open_clip(path, allow_damage=True)
    assert 0 < clip.frame_count < COUNT
    assert clip.damage is not None
    if name != "a.avi":
        assert f"{COUNT - clip.frame_count} of {COUNT} frames are lost" in clip.damage
    frames = clip.numpy()
    np.testing.assert_array_equal(frames, clip.numpy())
    with pytest.warns(OutputWarning, match="damaged|cut short"):
        back = open_clip(write_clip(tmp_path / "out.mkv", clip.frames(), clip))
    assert back.frame_count == clip.frame_count


KINDS = {
    "a.mkv": ("libx264", {}), "b.mkv": ("libx265", {}), "ffv1.mkv": ("ffv1", {}),
    "live.mkv": ("libx264", {"live": "1"}), "a.mp4": ("libx264", FRONT),
    "pieces.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}), "a.mov": ("libx264", FRONT),
    "a.webm": ("libvpx-vp9", {}), "b.webm": ("libvpx", {}), "a.avi": ("mjpeg", {}),
    "a.ts": ("libx264", {}), "b.ts": ("mpeg2video", {}), "a.m2ts": ("libx264", {"mpegts_m2ts_mode": "1"}),
    "a.flv": ("libx264", {}), "a.h264": ("libx264", {}),
}  # fmt: skip
SAYING_THEIR_LENGTH = ["a.mkv", "b.mkv", "ffv1.mkv", "a.mp4", "a.mov", "a.webm", "b.webm", "a.avi"]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("name", KINDS)
def test_a_cut_says_where_and_what_was_lost(tmp_path: Path, name: str, share: float) -> None:
    codec, options = KINDS[name]
    path = make(tmp_path / name, codec, options=options)
    data = path.read_bytes()
    assert not is_cut_short(path)
    assert open_clip(path, allow_damage=True).damage is None
    path.write_bytes(data[: int(len(data) * share) | 1])  # of no packet's size
    with pytest.raises(InputError, match=r"--allow-damage") as caught:
        open_clip(path).numpy()
    clip = open_clip(path, allow_damage=True)
    assert clip.damage is not None
    for said in (str(caught.value), clip.damage):
        if "stops at" in said or "cut short at" in said:
            where = re.search(r"(?:stops|cut short) at (\d\.\d\d) s( of 1\.00 s)?[:.;]", said)
            assert where is not None
            # Decoding goes on with what is left of the last packets.
            assert abs(float(where[1]) - clip.duration) < 0.13
            assert (where[2] is not None) == (name in SAYING_THEIR_LENGTH and float(where[1]) < 1)
        elif said is not clip.damage:
            assert re.search(r"frame (\d+ \()?at \d\.\d\d s\)? cannot be fully decoded", said)
    if name in SAYING_THEIR_LENGTH and clip.frame_count < COUNT:
        assert f" of {COUNT} frames are lost" in clip.damage
    np.testing.assert_array_equal(clip.numpy(), clip.numpy())


def test_times_are_counted_from_the_first_picture(tmp_path: Path) -> None:
    """FFmpeg's transport streams begin at 1.4 seconds."""
    path = make(tmp_path / "a.ts")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    for at in rng.integers(len(data) // 2, len(data) // 2 + 3000, 60):
        data[at] ^= 0x55 if at % 188 > 20 else 0
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"(at|up to) 0\.\d\d s"):
        open_clip(path).numpy()


def test_a_file_whose_index_is_cut_off_says_so(tmp_path: Path) -> None:
    path = cut(make(tmp_path / "a.mp4"), 0.9)  # its index stands at its end
    for allowed in (False, True):
        with pytest.raises(InputError, match="is cut short and has lost its index"):
            open_clip(path, allow_damage=allowed)


def test_a_file_that_is_no_longer_than_it_says_has_lost_nothing(tmp_path: Path) -> None:
    """Matroska says when the last frame ends, and with B-frames the first does not begin at 0."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(COUNT):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = index + 2, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert open_clip(path, allow_damage=True).damage is None


def test_flipped_bytes_are_refused_with_the_place(tmp_path: Path) -> None:
    path = hurt(make(tmp_path / "a.mp4", options=FRONT))
    with pytest.raises(InputError, match=r"frame \d+ \(at 0\.\d\d s\) cannot be fully decoded|cannot be decoded"):
        open_clip(path).numpy()
    clip = open_clip(path, allow_damage=True)
    assert clip.damage is not None
    assert "could not be fully decoded" in clip.damage
    np.testing.assert_array_equal(clip.numpy(), clip.numpy())


def without_cluster(path: Path, which: int, how: str) -> Path:
    """A Matroska file that lacks one of its clusters: taken out, its size told or not, or overwritten with zeros."""
    data = bytearray(path.read_bytes())
    begins = [found.start() for found in re.finditer(b"\x1f\x43\xb6\x75", data)]
    start, stop = begins[which], begins[which + 1]
    if how == "zeros":
        data[start:stop] = bytes(stop - start)
    else:
        del data[start:stop]
    if how == "size told":
        at = data.index(b"\x18\x53\x80\x67") + 4
        data[at : at + 8] = struct.pack(">Q", struct.unpack_from(">Q", data, at)[0] - (stop - start))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["taken out", "size told", "zeros"])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.mkv", "ffv1"), ("a.webm", "libvpx-vp9")])
def test_frames_missing_amidst_are_refused_with_the_place(tmp_path: Path, name: str, codec: str, how: str) -> None:
    path = make(tmp_path / name, codec, options={"cluster_time_limit": "300"})
    whole = open_clip(path).numpy()
    without_cluster(path, 2, how)
    place = "its end is missing" if how == "taken out" else r"frames 8-11 are missing \(at 0\.33 s\)"
    with pytest.raises(InputError, match=place):
        open_clip(path)
    clip = open_clip(path, allow_damage=True)
    assert clip.damage is not None
    assert f"4 of {COUNT} frames are lost (the frame before is shown in place of frames 8-11)" in clip.damage
    # Every frame that is left keeps its number and its time, so that masks and sound stay beside it.
    assert (clip.frame_count, clip.rate, clip.timestamps) == (COUNT, 24, None)
    wanted = whole[[*range(8), 7, 7, 7, 7, *range(12, COUNT)]]
    np.testing.assert_array_equal(clip.numpy(), wanted)
    np.testing.assert_array_equal(np.stack(list(clip.frames(9, 14))), wanted[9:14])


def uneven(path: Path, times: list[int], sound: bool = False) -> Path:
    """An FFV1 clip of 24 frames a second, some of which were never there, with sound throughout."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 1
        heard: Any = container.add_stream("flac", rate=8000, layout="mono") if sound else None
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), time, np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, 24)
            container.mux(stream.encode(frame))
        for start in range(0, 8000, 1000) if sound else ():
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
            samples.pts, samples.sample_rate, samples.time_base = start, 8000, Fraction(1, 8000)
            container.mux(heard.encode(samples))
        container.mux([*stream.encode(None), *(heard.encode(None) if sound else [])])
    return path


def test_a_variable_rate_is_no_damage(tmp_path: Path) -> None:
    """A recording of a screen has no frame where nothing moves; sound goes on where a picture stands."""
    screen = [0, 1, 2, 3, 6, 7, 8, 12, 13, 15, 16, 20, 23]
    clip = open_clip(uneven(tmp_path / "a.mkv", screen))
    assert clip.timestamps is not None
    assert len(clip.timestamps) == len(screen)
    paused = [*range(8), *range(14, 24)]
    assert open_clip(uneven(tmp_path / "b.mkv", paused, sound=True)).timestamps is not None
    with pytest.raises(InputError, match=r"frames 8-13 are missing"):
        open_clip(uneven(tmp_path / "c.mkv", paused))
    # What layerlift writes of a clip of variable rate says no other rate than its average.
    like = replace(open_clip(tmp_path / "b.mkv"), path=None)
    for lossless in (True, False):
        made = write_clip(tmp_path / f"{lossless}.mkv", like.frames(), like, lossless=lossless)
        assert open_clip(made).timestamps is not None


@pytest.mark.parametrize("number", [0, 5])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.avi", "mjpeg")])
def test_damage_that_a_decoder_passes_over(tmp_path: Path, name: str, codec: str, number: int) -> None:
    with av.open(str(make(tmp_path / name, codec))) as container:
        packet = bytes(list(container.demux(video=0))[number])
    data = (tmp_path / name).read_bytes()
    at = data.index(packet) + len(packet) // 3
    (tmp_path / name).write_bytes(data[:at] + bytes(value ^ 0x55 for value in data[at : at + 50]) + data[at + 50 :])
    with pytest.raises(InputError, match=rf"the frame at {number / 24:.2f} s cannot be fully decoded"):
        open_clip(tmp_path / name).numpy()
    clip = open_clip(tmp_path / name, allow_damage=True)
    assert clip.damage is not None
    assert re.search(rf"frame {number}\b", clip.damage)
    assert clip.numpy().shape[0] == COUNT


def test_a_recording_that_begins_amidst_is_no_damage(tmp_path: Path) -> None:
    make(tmp_path / "a.ts", gop=12)
    data = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "b.ts").write_bytes(data[188 * (len(data) // 188 // 4) :])
    assert open_clip(tmp_path / "b.ts").numpy().shape[0] > 0


def layerlift(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_remove_says_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cut(make(tmp_path / "a.mkv"), 0.7)
    mask = np.zeros((96, 160), np.uint8)
    mask[30:60, 40:80] = 255
    (tmp_path / "mask").mkdir()
    for index in range(COUNT):  # for the whole clip: what is left of it has the first of them
        cv2.imwrite(str(tmp_path / "mask" / f"{index}.png"), mask)
    asked = [
        "remove",
        str(path),
        "--mask",
        str(tmp_path / "mask"),
        "--model",
        "none",
        "-o",
        str(tmp_path / "o.mkv"),
    ]
    assert layerlift(*asked) == 2
    assert "its end is missing" in capsys.readouterr().err
    assert not (tmp_path / "o.mkv").exists()
    assert layerlift(*asked, "--allow-damage") == 0
    assert f"of {COUNT} frames are lost" in capsys.readouterr().err
    assert 0 < open_clip(tmp_path / "o.mkv").frame_count < COUNT


def photo(seed: int) -> np.ndarray:
    """(H, W, 3) uint8, (240, 320): patches with grain, as a photo has."""
    rng = np.random.default_rng(seed)
    patches = cv2.resize(rng.integers(40, 216, (20, 30, 3), dtype=np.uint8), (320, 240))
    return np.clip(patches.astype(int) + rng.integers(-9, 9, patches.shape), 0, 255).astype(np.uint8)


def encoded(ending: str, seed: int, **options: Any) -> bytes:
    if ending == "exr":
        OpenEXR = pytest.importorskip("OpenEXR")
        with tempfile.TemporaryDirectory() as folder:
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {"RGB": (photo(seed) / 255).astype(np.float32)}).write(f"{folder}/a.exr")
            return Path(folder, "a.exr").read_bytes()
    file = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper())
    Image.fromarray(photo(seed)).save(file, kind, **options)
    return file.getvalue()


def flipped(data: bytes) -> bytes:
    """Some of the coded picture's bytes are others, so that the decoder loses its way."""
    out = bytearray(data)
    for at in (spot + step for spot in range(len(out) // 3, len(out) - 500, len(out) // 6) for step in range(60)):
        out[at] ^= 0x55 if out[at] ^ 0x55 != 0xFF else 0x54
    return bytes(out)


IMAGES: list[tuple[str, dict[str, Any]]] = [
    ("jpg", {}), ("jpg", {"progressive": True}), ("jpg", {"restart_marker_rows": 2}), ("png", {}), ("tif", {}),
    ("webp", {}), ("bmp", {}), ("gif", {}), ("exr", {}), ("avif", {}),
]  # fmt: skip


# Nothing in the other formats tells that a sample is another.
CHECKED = [(ending, options) for ending, options in IMAGES if ending in ("jpg", "png", "exr")]


@pytest.mark.parametrize(
    ("ending", "options", "how"),
    [(*image, "cut") for image in IMAGES] + [(*image, "flipped") for image in CHECKED],
)
def test_a_damaged_image_among_frames_is_refused_by_its_name(
    tmp_path: Path, ending: str, options: dict[str, Any], how: str
) -> None:
    for index in range(4):
        (tmp_path / f"{index}.{ending}").write_bytes(encoded(ending, index, **options))
    assert open_clip(tmp_path).numpy().shape[0] == 4
    hurt_one = tmp_path / f"1.{ending}"
    data = hurt_one.read_bytes()
    hurt_one.write_bytes(data[: int(len(data) * 0.6)] if how == "cut" else flipped(data))
    with pytest.raises(InputError, match=rf"1\.{ending} is damaged|1\.{ending} cannot be read"):
        open_clip(tmp_path).numpy()
    clip = open_clip(tmp_path, allow_damage=True)
    assert clip.frame_count == 4
    assert clip.damage is not None
    assert "frame 1" in clip.damage
    np.testing.assert_array_equal(clip.numpy()[3], open_clip(tmp_path / f"3.{ending}").numpy()[0])


def test_an_image_that_cannot_be_decoded_at_all_is_the_one_before(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(encoded("jpg", index))
    for index in (0, 2):
        (tmp_path / f"{index}.jpg").write_bytes(b"no picture at all" * 99)
    clip = open_clip(tmp_path, allow_damage=True)
    assert clip.damage is not None
    assert "frames 0, 2" in clip.damage
    frames = clip.numpy()
    np.testing.assert_array_equal(frames[2], frames[1])
    np.testing.assert_array_equal(frames[0], frames[1])
    for index in (1, 3):
        (tmp_path / f"{index}.jpg").write_bytes(b"no picture at all" * 99)
    with pytest.raises(InputError, match="no image"):
        open_clip(tmp_path, allow_damage=True)


def test_a_damaged_still_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("jpg", 0)[:-9000])
    with pytest.raises(InputError, match=r"a\.jpg is damaged"):
        open_clip(tmp_path / "a.jpg").numpy()
    with pytest.raises(InputError, match=r"a\.jpg is damaged"):
        read_picture(tmp_path / "a.jpg")


def test_what_cameras_leave_behind_a_picture_is_no_damage(tmp_path: Path) -> None:
    """Padding before the end mark, bytes behind it, an unknown version of JFIF."""
    data = encoded("jpg", 0)
    (tmp_path / "padded.jpg").write_bytes(data[:-2] + bytes(37) + data[-2:])
    (tmp_path / "longer.jpg").write_bytes(data + b"MotionPhoto" * 50)
    jfif = data.index(b"JFIF\0")
    (tmp_path / "other.jpg").write_bytes(data[: jfif + 5] + b"\3" + data[jfif + 6 :])
    for file in sorted(tmp_path.iterdir()):
        assert np.abs(open_clip(file).numpy()[0].astype(int) - photo(0)).mean() < 6, file
