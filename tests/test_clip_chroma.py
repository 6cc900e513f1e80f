"""Where samples of chroma lie: kept where an output can say it, named where not."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, output_notes, write_clip
from layerlift.clip.chroma import Place, chroma_place, place_in, upright_place
from layerlift.clip.decode import UPRIGHT, Orientation
from layerlift.clip.samples import Samples

PLACES: dict[str, Place] = {"left": (0, 1), "center": (1, 1), "topleft": (0, 0), "top": (1, 0)}
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "10"}}


def made(path: Path, codec: str = "libx264", pixels: str = "yuv420p", place: str | None = None, **more: str) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, pixels
        said = {} if place is None else {"chroma_sample_location": place}
        stream.codec_context.options = QUIET.get(codec, {}) | said | more
        for number in range(4):
            values = np.full((64, 128, 3), 60 + 40 * number, np.uint8)
            values[:, :64, 1] = 200
            frame = av.VideoFrame.from_ndarray(values)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def said_by(path: Path) -> str:
    """FFmpeg's own reading of a file."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed: apt-get install ffmpeg")
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=chroma_location", "-of", "json", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return str(json.loads(done.stdout)["streams"][0].get("chroma_location", "unspecified"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("codec", "pixels", "output", "lossless"), [
    ("libx264", "yuv420p", "o.mp4", False), ("libx264", "yuv420p", "o.mov", False),
    ("libx264", "yuv420p", "o.mkv", False), ("libx264", "yuv420p", "o.mkv", True),
    ("libx265", "yuv420p10le", "o.mp4", False), ("libx265", "yuv420p10le", "o.mkv", False),
    ("libx265", "yuv420p10le", "o.mkv", True), ("ffv1", "yuv420p", "o.mp4", False), ("ffv1", "yuv420p", "o.mkv", True),
])  # fmt: skip
def test_it_is_kept(tmp_path: Path, codec: str, pixels: str, output: str, lossless: bool, place: str) -> None:  # noqa: PLR0917
    clip = open_clip(made(tmp_path / "in.mkv", codec, pixels, place))
    assert clip.chroma_place == PLACES[place]
    assert output_notes(tmp_path / output, clip, lossless=lossless) == []
    back = write_clip(tmp_path / output, clip.frames(), clip, lossless=lossless)
    assert open_clip(back).chroma_place == PLACES[place]
    assert said_by(back) == place


@pytest.mark.parametrize(("codec", "pixels", "name", "more", "place"), [
    ("mjpeg", "yuvj420p", "in.avi", {}, "center"),
    ("mpeg1video", "yuv420p", "in.mpg", {}, "center"),
    ("mpeg2video", "yuv420p", "in.mpg", {}, "left"),
    ("libx264", "yuv420p", "in.ts", {}, "left"),
    ("libsvtav1", "yuv420p10le", "in.mkv", {"svtav1-params": "chroma-sample-position=topleft"}, "topleft"),
    ("libsvtav1", "yuv420p", "in.mp4", {"svtav1-params": "chroma-sample-position=left"}, "left"),
    ("libvpx-vp9", "yuv420p", "in.webm", {}, None),
    ("prores_ks", "yuv422p10le", "in.mov", {}, None),
])  # fmt: skip
def test_what_codecs_say(  # noqa: PLR0917
    tmp_path: Path, codec: str, pixels: str, name: str, more: dict[str, str], place: str | None
) -> None:
    clip = open_clip(made(tmp_path / name, codec, pixels, **more))
    assert clip.chroma_place == (None if place is None else PLACES[place])
    back = write_clip(tmp_path / "o.mp4", clip.frames(), clip)
    assert said_by(back) == (place or "left")  # what H.264 and HEVC mean where nothing is said


def test_dv_has_one_place(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        stream: Any = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for number in range(2):
            frame = av.VideoFrame(720, 576, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "in.avi")) as container:
        assert chroma_place(container.streams.video[0]) == (0, 0)


def test_chroma_made_of_colours_lies_in_the_middle(tmp_path: Path) -> None:
    """It is the mean of four pixels."""
    clip = Clip.from_array(np.full((4, 64, 128, 3), (200, 90, 40), np.uint8))
    rgb = replace(clip, samples=Samples("rgb"))
    assert said_by(write_clip(tmp_path / "o.mp4", rgb.frames(), rgb)) == "center"
    assert said_by(write_clip(tmp_path / "o.mkv", rgb.frames(), rgb, lossless=True)) == "unspecified"


def test_a_place_that_an_output_cannot_say_is_named(tmp_path: Path) -> None:
    clip = open_clip(made(tmp_path / "in.mkv", "libx265", "yuv420p10le", "center"))
    (note,) = output_notes(tmp_path / "o.mov", clip)  # 4:2:2 of ProRes is at the left
    assert "does not keep the chroma sample position" in note
    assert note.startswith("ProRes in .mov does not keep")
    assert "(center)" in note
    assert output_notes(tmp_path / "o.mov", replace(clip, chroma_place=(0, 0))) == []
    right = replace(clip, chroma_place=(2, 1))
    (note,) = output_notes(tmp_path / "o.mp4", right)
    assert note.startswith("HEVC in .mp4 does not keep")
    assert "(right, middle)" in note
    bottom = replace(clip, chroma_place=(1, 2))
    assert output_notes(tmp_path / "o.mp4", bottom) == []
    (note,) = output_notes(tmp_path / "o.mkv", bottom, lossless=True)
    assert note.startswith("FFV1 in .mkv does not keep")
    assert "(bottom)" in note
    assert said_by(write_clip(tmp_path / "o.mp4", bottom.frames(), bottom)) == "bottom"


@pytest.mark.parametrize(("shown", "place", "wanted"), [
    (UPRIGHT, (0, 1), (0, 1)),
    (UPRIGHT, None, None),
    (Orientation(mirrored=True), (0, 1), (2, 1)),
    (Orientation(mirrored=True), (1, 1), (1, 1)),
    (Orientation(mirrored=True, upended=True), (0, 0), (2, 2)),
    (Orientation(upended=True), (0, 0), (0, 2)),
    (Orientation(transposed=True), (0, 1), (1, 0)),
    (Orientation(transposed=True, mirrored=True), (0, 1), (1, 0)),
    (Orientation(transposed=True, upended=True), (0, 1), (1, 2)),
])  # fmt: skip
def test_it_is_turned_with_the_picture(shown: Orientation, place: Place | None, wanted: Place | None) -> None:
    assert upright_place(place, shown) == wanted


@pytest.mark.parametrize(("own", "known", "target", "wanted"), [
    (Samples("yuv", 8, (1, 1)), (0, 0), Samples("yuv", 8, (1, 1)), (0, 0)),
    (Samples("yuv", 8, (1, 1)), None, Samples("yuv", 8, (1, 1)), None),
    (Samples("yuv", 10, (1, 1)), (0, 0), Samples("yuv", 10, (1, 0)), (0, 1)),
    (Samples("yuv", 8, (1, 0)), (0, 1), Samples("yuv", 8, (1, 1)), (0, 1)),
    (Samples("yuv", 8, (1, 0)), (1, 1), Samples("yuv", 8, (1, 1)), (1, 1)),
    (Samples("yuv", 8, (0, 0)), (0, 1), Samples("yuv", 8, (1, 1)), (1, 1)),
    (Samples("yuv", 8, (2, 0)), (0, 1), Samples("yuv", 8, (1, 1)), None),
    (Samples("rgb"), None, Samples("yuv", 8, (1, 1)), (1, 1)),
    (Samples("rgb"), None, Samples("yuv", 8, (0, 0)), None),
    (Samples("gray"), None, Samples("yuv", 8, (1, 1)), None),
    (Samples("yuv", 8, (1, 1)), (0, 0), Samples("rgb"), None),
])  # fmt: skip
def test_where_it_lies_once_it_is_converted(own: Samples, known: Place | None, target: Samples, wanted: Place) -> None:
    like = replace(Clip.from_array(np.zeros((1, 4, 4, 3), np.uint8)), samples=own, chroma_place=known)
    assert place_in(like, target) == wanted


@pytest.mark.parametrize(("place", "row"), [((0, 0), 0.0), ((0, 1), 0.5)])
def test_chroma_is_filled_in_between_its_own_rows(tmp_path: Path, place: Place, row: float) -> None:
    """4:2:0 → ProRes' 4:2:2: a slope of chroma, which begins at its first sample's row, goes on where it was."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        stream.codec_context.options = {"chroma_sample_location": {(0, 0): "topleft", (0, 1): "left"}[place]}
        frame = av.VideoFrame(64, 64, "yuv420p10le")
        for plane, (height, width) in zip(frame.planes, [(64, 64), (32, 32), (32, 32)], strict=True):
            values = np.full((height, plane.line_size // 2), 512, np.uint16)
            if width == 32:
                values += (10 * np.arange(32, dtype=np.uint16))[:, None]
            plane.update(values.tobytes())
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    clip = open_clip(path)
    write_clip(tmp_path / "o.mov", clip.frames(), clip)
    with av.open(str(tmp_path / "o.mov")) as container:
        back = next(container.decode(video=0))
    chroma = np.frombuffer(memoryview(back.planes[1]), np.uint16).reshape(64, -1)[8:56, :32].mean(1)
    wanted = 512 + 10 * (np.arange(8, 56) - row) / 2
    assert np.abs(chroma - wanted).mean() < 1.2
    assert abs((chroma - wanted).mean()) < 0.6
