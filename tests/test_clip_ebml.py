"""The shape of pixels in Matroska and WebM: written into a finished file, in which nothing else moves."""

from __future__ import annotations

import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip
from layerlift.clip.ebml import read_number, set_pixel_shape
from layerlift.clip.writer import ClipWriter

TRACKS, SEGMENT = 0x1654AE6B, 0x18538067


def written(path: Path, aspect: Fraction) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 4 if path.suffix == ".webm" else 3), dtype=np.uint8)
    clip = replace(Clip.from_array(frames), pixel_aspect=aspect)
    with ClipWriter(path, clip, lossless=path.suffix == ".mkv") as writer:
        for frame in frames:
            writer.write(frame)
    return path


def tracks(path: Path) -> bytes:
    with path.open("rb") as file:
        while True:
            identity, length = read_number(file, keep_marker=True), read_number(file, keep_marker=False)
            assert length is not None
            if identity == TRACKS:
                return file.read(length)
            file.seek(0 if identity == SEGMENT else length, 1)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_nothing_but_the_shape_is_changed(tmp_path: Path, name: str) -> None:
    wide, square = written(tmp_path / name, Fraction(5, 4)), written(tmp_path / f"square_{name}", Fraction(1))
    assert open_clip(wide).pixel_aspect == Fraction(5, 4)
    assert not open_clip(wide).width < open_clip(wide).height  # turned by nothing
    with av.open(str(wide)) as one, av.open(str(square)) as other:
        packets = [[(p.pts, p.duration, bytes(p)) for p in file.demux(video=0) if p.size] for file in (one, other)]
    assert packets[0] == packets[1]
    assert wide.read_bytes() == written(tmp_path / f"again_{name}", Fraction(5, 4)).read_bytes()
    content = tracks(wide)
    if content[0] == 0xBF:
        assert content[2:6] == zlib.crc32(content[6:]).to_bytes(4, "little")
    assert (content[0] == 0xBF) == (name == "a.mkv")


@pytest.mark.parametrize("aspect", [Fraction(65535, 1), Fraction(1, 65535), Fraction(10007, 9973)], ids=str)
@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_shapes_that_no_clip_should_have_are_no_error(tmp_path: Path, name: str, aspect: Fraction) -> None:
    found = open_clip(written(tmp_path / name, aspect))
    assert (found.frame_count, found.width, found.height) == (4, 64, 48)
    if aspect > 1 and aspect < 2:
        assert abs(found.pixel_aspect / aspect - 1) < Fraction(1, 100)


def test_a_file_without_the_place_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mkv", Fraction(1))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="without the place"):
        set_pixel_shape(path, Fraction(5, 4), webm=False)
    assert path.read_bytes() == before
