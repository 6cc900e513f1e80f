"""Single frames of a video, quickly: the same frames."""

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from layerlift.clip import open_clip
from layerlift.clip.jump import jumper

FRAMES, HEIGHT, WIDTH = 40, 48, 64


def write(path: Path, codec: str, pixels: str = "yuv420p", **options: str) -> Path:
    """Moving texture with its frame's number in grey, in groups of pictures that are as long as they get."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH + FRAMES, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for index in range(FRAMES):
            picture = np.ascontiguousarray(noise[:, index : index + WIDTH])
            picture[:16, :16] = 5 * index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "250", "bf": "4", "b-pyramid": "normal", "crf": "12"}),
        ("a.mkv", "libx264", {"g": "9", "bf": "3", "x264-params": "open-gop=1", "crf": "12"}),
        ("a.mov", "libx264", {"g": "250", "tune": "zerolatency"}),
        ("a.mp4", "libx265", {"x265-params": "keyint=250:bframes=4:log-level=none"}),
    ],
)
def test_it_is_the_frame_that_the_clip_yields(
    name: str, codec: str, options: dict[str, str], threads: int, tmp_path: Path
) -> None:
    clip = open_clip(write(tmp_path / name, codec, **options))
    frames = clip.numpy()
    jump = jumper(clip, threads)
    assert jump is not None
    for index in (*range(FRAMES)[::-1], 7, 31, 33, 34, 38, 39, 3, *range(2, FRAMES)):
        np.testing.assert_array_equal(jump.picture(index).array("rgb24"), frames[index])
    np.testing.assert_array_equal(jump.another().picture(5).array("rgb24"), frames[5])
    jump.close()


def test_what_follows_needs_no_seek_and_what_is_broken_off_can_be_had_again(tmp_path: Path) -> None:
    clip = open_clip(write(tmp_path / "a.mp4", "libx264", g="250", bf="3"))
    frames, packets = clip.numpy(), []
    jump = jumper(clip, 1)
    assert jump is not None
    jump.picture(30, lambda: packets.append(30))
    jump.picture(31, lambda: packets.append(31))
    assert packets.count(30) > 20
    assert packets.count(31) < 4

    with pytest.raises(ZeroDivisionError):
        jump.picture(36, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    np.testing.assert_array_equal(jump.picture(37).array("rgb24"), frames[37])


def test_frames_on_the_way_are_let_go_of(tmp_path: Path) -> None:
    """A decoder keeps the most memory that its frames ever took: held until the end, it was 160 MiB at 1280x720."""
    packets, held = iter(range(FRAMES)), []

    def look() -> None:
        if next(packets) == FRAMES - 1:
            held.extend(one for one in gc.get_objects() if type(one) is av.VideoFrame)

    jump = jumper(open_clip(write(tmp_path / "a.mp4", "libx264", g="250", bf="0")), 1)
    assert jump is not None
    jump.picture(FRAMES - 1, look)
    assert next(packets, None) is None
    assert len(held) < 5


def test_other_clips_are_left_to_their_readers(tmp_path: Path) -> None:
    plain = open_clip(write(tmp_path / "a.mp4", "libx264"))
    assert jumper(plain, 1) is not None
    assert jumper(plain.cut(3, 9), 1) is None
    assert jumper(plain.doubled(), 1) is None
    assert jumper(open_clip(write(tmp_path / "b.mkv", "ffv1")), 1) is None
    assert jumper(open_clip(write(tmp_path / "c.mp4", "libx264", x264opts="tff=1"), deinterlace=True), 1) is None
