"""Clips to files: everything about the input that can be kept is kept, and an output is whole or absent."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, ColorTags, check_output, open_clip, output_notes, write_clip, write_mask
from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format
from layerlift.clip.samples import Samples
from layerlift.clip.writer import ClipWriter, OutputWarning
from layerlift.errors import InputError
from layerlift.whole import KeptAsideError
from support import CLIPS

DOG = CLIPS / "dog"


def smooth(count: int = 6, width: int = 96, height: int = 64) -> np.ndarray:
    """(F, H, W, 3) uint8 gradients that drift: what 4:2:0 and H.264 hold well."""
    y, x = np.mgrid[:height, :width]
    y, x = y / height * 200 + 20, x / width * 200 + 20
    return np.stack([np.stack([y + i, x - i, 230 - (x + y) / 2 + i], -1) for i in range(count)]).astype(np.uint8)


def brightness(clip: Clip) -> float:
    return float(clip.numpy().mean(axis=(0, 1, 2)) @ (0.2126, 0.7152, 0.0722))


def noise(count: int = 4, width: int = 50, height: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def with_sound(path: Path, codec: str, seconds: float = 1.0, count: int = 24) -> Path:
    """A clip of `count` frames at 24 a second with a tone."""
    frames = smooth(count)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio: Any = container.add_stream(codec, rate=48000, layout="mono")
        samples = np.sin(np.arange(int(48000 * seconds)) / 20)
        kind = audio.codec_context.format.name
        scale, offset, dtype = {
            "u8": (100, 128, np.uint8),
            "s16": (20000, 0, np.int16),
            "s32": (1 << 30, 0, np.int32),
            "flt": (1, 0, np.float32),
        }[kind.removesuffix("p")]
        data = (samples * scale + offset).astype(dtype)
        for frame in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        tone = av.AudioFrame.from_ndarray(data[None], format=kind, layout="mono")
        tone.rate = 48000
        for packet in [*video.encode(None), *audio.encode(tone), *audio.encode(None)]:
            container.mux(packet)
    return path


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = container.demux(container.streams.audio)
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size and p.pts is not None and p.time_base]


def files(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


@pytest.mark.parametrize("size", [(50, 30), (51, 31), (8, 8), (1, 1)])
def test_lossless_is_bit_exact(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = noise(4, *size)
    clip = Clip.from_array(frames, Fraction(30000, 1001))
    path = write_clip(tmp_path / "a.mkv", clip.frames(), clip, lossless=True)
    back = open_clip(path)
    np.testing.assert_array_equal(back.numpy(), frames)
    assert back.rate == Fraction(30000, 1001)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"


def test_lossless_with_alpha(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 4), dtype=np.uint8)
    clip = Clip.from_array(frames)
    back = open_clip(write_clip(tmp_path / "a.mkv", clip.rgba_frames(), clip, lossless=True))
    assert back.has_alpha
    np.testing.assert_array_equal(np.stack(list(back.rgba_frames())), frames)
    with pytest.raises(InputError, match="cannot hold the clip's transparency"):
        write_clip(tmp_path / "a.mp4", clip.rgba_frames(), clip)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.m4v"])
@pytest.mark.parametrize("size", [(96, 64), (85, 47), (128, 69)])
def test_size_count_and_rate_stay(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    clip = Clip.from_array(smooth(7, *size), Fraction(30000, 1001))
    back = open_clip(write_clip(tmp_path / name, clip.frames(), clip))
    assert (back.width, back.height) == size
    assert (back.frame_count, back.rate, back.timestamps) == (7, Fraction(30000, 1001), None)
    assert files(tmp_path) == [name]


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(60), Fraction(1, 2), Fraction(16)])
def test_rates_stay_exact(tmp_path: Path, rate: Fraction) -> None:
    clip = Clip.from_array(smooth(3), rate)
    for name in ("a.mp4", "a.mkv"):
        back = open_clip(write_clip(tmp_path / name, clip.frames(), clip))
        assert (back.rate, back.timestamps) == (rate, None)


@pytest.mark.parametrize(
    "tags",
    [
        ColorTags(1, 1, 1, 1),  # BT.709
        ColorTags(1, 6, 6, 6),  # BT.601, NTSC
        ColorTags(1, 5, 5, 6),  # BT.601, PAL
        ColorTags(1, 9, 9, 14),  # BT.2020
        ColorTags(2, 1, 1, 1),  # full range
        ColorTags(0, 2, 2, 2),  # says nothing
    ],
)
@pytest.mark.parametrize("size", [(96, 64), (95, 63)])
def test_colours_and_their_tags_stay(tmp_path: Path, tags: ColorTags, size: tuple[int, int]) -> None:
    clip = replace(Clip.from_array(smooth(4, *size)), color=tags)
    back = open_clip(write_clip(tmp_path / "a.mp4", clip.frames(), clip))
    assert back.color == tags
    assert np.abs(back.numpy().astype(int) - clip.numpy()).mean() < 2
    assert abs(brightness(back) - brightness(clip)) < 0.7
    again = open_clip(write_clip(tmp_path / "b.mp4", back.frames(), back))
    assert abs(brightness(again) - brightness(clip)) < 1  # without correction, 1.4 are lost every time


def test_rgb_input_is_written_as_bt709(tmp_path: Path) -> None:
    clip = replace(Clip.from_array(smooth()), color=ColorTags(2, 0, 1, 13))
    back = open_clip(write_clip(tmp_path / "a.mp4", clip.frames(), clip))
    assert back.color == ColorTags(1, 1, 1, 13)
    assert np.abs(back.numpy().astype(int) - clip.numpy()).mean() < 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("count", [1, 2, 8, 10, 15, 20])  # x264 ends on B-frames and on others
def test_variable_frame_rate_stays(tmp_path: Path, name: str, count: int) -> None:
    times = tuple(40 * i + 7 * (i % 3) + 300 * (i > 4) for i in range(count))
    ground = cv2.resize(noise(1)[0], (300, 200))
    clip = Clip.from_array(np.stack([ground[i : i + 64, i : i + 96] for i in range(count)]))
    clip = replace(clip, timestamps=times, time_base=Fraction(1, 1000), last_duration=250)
    back = open_clip(write_clip(tmp_path / name, clip.frames(), clip))
    if count <= 2:  # any two times are a constant rate
        assert back.frame_count == count
        return
    assert back.timestamps is not None
    assert back.time_base is not None
    assert tuple(t * back.time_base * 1000 for t in back.timestamps) == times
    assert back.duration == clip.duration
    assert back.rate == count / clip.duration


ASPECTS = [Fraction(16, 11), Fraction(8, 9), Fraction(40, 33), Fraction(1, 2)]


@pytest.mark.parametrize("aspect", ASPECTS, ids=str)
@pytest.mark.parametrize(("name", "lossless", "kind"), [
    ("a.mp4", False, "8"), ("a.mp4", False, "10"), ("a.mov", False, "10"), ("a.mov", False, "alpha"),
    ("a.mkv", False, "8"), ("a.mkv", False, "10"), ("a.mkv", True, "8"), ("a.mkv", True, "10"),
    ("a.mkv", False, "alpha"), ("a.webm", False, "alpha"),
])  # fmt: skip
def test_pixel_aspect_stays(tmp_path: Path, name: str, lossless: bool, kind: str, aspect: Fraction) -> None:
    frames = smooth(3, 1584, 32)  # WebM says whole pixels, and this is a width that all these shapes divide
    if kind == "alpha":
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 90)], axis=3)
    like = replace(Clip.from_array(frames), pixel_aspect=aspect)
    if kind == "10":
        like = replace(like, samples=Samples("yuv", 10, (1, 1)))
    with ClipWriter(tmp_path / name, like, lossless=lossless) as writer:
        assert writer.notes == []
        for frame in like.rgba_frames() if kind == "alpha" else like.frames():
            writer.write(frame)
    back = open_clip(tmp_path / name)
    assert (back.pixel_aspect, back.width, back.height, back.frame_count) == (aspect, 1584, 32, len(frames))
    if shutil.which("ffprobe") is None:
        return
    asked = "stream=sample_aspect_ratio:stream_side_data=rotation"
    command = ["ffprobe", "-v", "error", "-show_entries", asked, "-of", "json"]
    done = subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)["streams"]
    assert found == {"sample_aspect_ratio": f"{aspect.numerator}:{aspect.denominator}"}


@pytest.mark.parametrize(("transfer", "primaries", "said"), [
    (16, 9, "PQ with BT.2020 primaries"), (18, 9, "HLG with BT.2020 primaries"), (13, 12, "P3 primaries"), (1, 1, None),
    (2, 2, None),
])  # fmt: skip
def test_colours_that_a_folder_does_not_say_are_named(
    tmp_path: Path, transfer: int, primaries: int, said: str | None
) -> None:
    clip = replace(Clip.from_array(smooth()), color=ColorTags(1, 1, primaries, transfer))
    notes = ClipWriter(tmp_path / "a", clip).notes
    assert notes == ([] if said is None else [f"clip has colours in {said}, which a folder of PNGs cannot record."])
    layer = LayerWriter(tmp_path / "l", clip, choose_layer_format(tmp_path / "l")).notes
    assert layer == [note.replace("PQ", "HLG") for note in notes]  # a layer holds the view
    for name in ("a.mov", "a.mkv", "a.mp4"):
        assert ClipWriter(tmp_path / name, clip).notes == []


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("aspect", "shown"), [(Fraction(16, 11), "narrower"), (Fraction(8, 9), "wider")])
def test_a_pixel_shape_that_a_folder_loses_is_said(tmp_path: Path, alpha: bool, aspect: Fraction, shown: str) -> None:
    frames = smooth()
    if alpha:
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 90)], axis=3)
    made = Clip.from_array(frames)
    (note,) = ClipWriter(tmp_path / "a", replace(made, pixel_aspect=aspect)).notes
    assert (
        f"A folder of PNGs cannot store the pixel aspect ratio of clip ({aspect.numerator}:{aspect.denominator})"
        in note
    )
    assert shown in note
    assert ClipWriter(tmp_path / "square", made).notes == []


@pytest.mark.parametrize(("codec", "source", "target"), [
    ("aac", "in.mp4", "out.mp4"),
    ("aac", "in.mp4", "out.mkv"),
    ("libopus", "in.mkv", "out.mkv"),
    ("pcm_s16le", "in.mov", "out.mov"),
    ("libmp3lame", "in.mkv", "out.mp4"),
])  # fmt: skip
def test_sound_is_copied(tmp_path: Path, codec: str, source: str, target: str) -> None:
    clip = open_clip(with_sound(tmp_path / source, codec))
    path = write_clip(tmp_path / target, clip.frames(), clip)
    before, after = sound_of(tmp_path / source), sound_of(path)
    assert [data for _, data in after] == [data for _, data in before]
    # Matroska has no negative times: there everything moves by the encoder's priming, frames and sound alike.
    shift = float(open_clip(path).start_time - clip.start_time)
    assert max(abs(a[0] - b[0] - shift) for a, b in zip(after, before, strict=True)) < 0.0021
    assert open_clip(path).frame_count == 24


def test_sound_of_a_cut_clip_is_that_of_its_span(tmp_path: Path) -> None:
    clip = open_clip(with_sound(tmp_path / "in.mp4", "aac"))
    path = write_clip(tmp_path / "out.mp4", clip.cut(6, 18).frames(), clip.cut(6, 18))
    whole = {data: time for time, data in sound_of(tmp_path / "in.mp4")}
    packets = sound_of(path)
    assert open_clip(path).frame_count == 12
    assert 0.5 <= len(packets) * 1024 / 48000 < 0.5 + 2 * 1024 / 48000
    for time, data in packets:
        assert abs(whole[data] - 0.25 - time) < 0.001


def test_frames_that_begin_after_the_sound_still_do(tmp_path: Path) -> None:
    clip = open_clip(with_sound(tmp_path / "in.mp4", "aac"))
    late = replace(clip, start_time=Fraction(1, 4))
    back = open_clip(write_clip(tmp_path / "out.mp4", late.frames(), late))
    assert abs(back.start_time - Fraction(1, 4)) < Fraction(1, 1000)
    assert (back.rate, back.timestamps) == (24, None)


def test_sound_that_does_not_fit_is_said(tmp_path: Path) -> None:
    clip = open_clip(with_sound(tmp_path / "in.mkv", "wavpack"))
    (note,) = output_notes(tmp_path / "out.mp4", clip)
    assert "wavpack" in note
    assert ".mkv can" in note
    with pytest.warns(OutputWarning, match="wavpack"):
        path = write_clip(tmp_path / "out.mp4", clip.frames(), clip)
    assert open_clip(path).frame_count == 24
    assert sound_of(path) == []
    assert output_notes(tmp_path / "out.mkv", clip) == []
    assert "images cannot hold it" in output_notes(tmp_path / "folder", clip)[0]


@pytest.mark.parametrize("name", ["frames", "frames/"])
def test_folder_of_pngs(tmp_path: Path, name: str) -> None:
    frames = noise()
    clip = Clip.from_array(frames)
    path = write_clip(f"{tmp_path}/{name}", clip.frames(), clip)
    assert files(path) == ["00000.png", "00001.png", "00002.png", "00003.png"]
    np.testing.assert_array_equal(open_clip(path).numpy(), frames)
    with pytest.raises(InputError, match="already exists"):
        write_clip(path, clip.frames(), clip)
    write_clip(path, clip.cut(0, 2).frames(), clip.cut(0, 2), overwrite=True)
    assert len(files(path)) == 2
    (path / "precious.txt").write_text("kept")
    with pytest.raises(InputError, match="contains files other than"):
        write_clip(path, clip.frames(), clip, overwrite=True)
    assert "precious.txt" in files(path)
    assert files(tmp_path) == ["frames"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "frames"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 3, 80])  # 80: more than x264 holds back, so that there is a file
def test_an_interrupted_output_leaves_nothing(
    tmp_path: Path, name: str, error: type[BaseException], after: int
) -> None:
    clip = Clip.from_array(smooth(90, 32, 32))

    def broken() -> Iterator[np.ndarray]:
        yield from clip.frames(0, after)
        raise error

    with pytest.raises(error):
        write_clip(tmp_path / name, broken(), clip)
    assert files(tmp_path) == []


def test_an_existing_output_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    clip = Clip.from_array(smooth(6))
    with pytest.raises(ValueError, match="2 frames were written for the 6"):
        write_clip(path, clip.frames(0, 2), clip, overwrite=True)
    with pytest.raises(InputError, match="already exists"):
        write_clip(path, clip.frames(), clip)
    assert path.read_bytes() == b"precious"
    assert files(tmp_path) == ["a.mp4"]
    write_clip(path, clip.frames(), clip, overwrite=True)
    assert open_clip(path).frame_count == 6


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    clip = Clip.from_array(smooth(3))

    def frames() -> Iterator[np.ndarray]:
        yield from clip.frames()
        path.write_bytes(b"someone else's")

    with pytest.raises(KeptAsideError, match=r"something else is there by now: it is in .*a-2\.mp4\.$"):
        write_clip(path, frames(), clip)
    assert path.read_bytes() == b"someone else's"
    assert open_clip(tmp_path / "a-2.mp4").frame_count == 3
    assert files(tmp_path) == ["a-2.mp4", "a.mp4"]


def test_output_may_replace_its_own_input(tmp_path: Path) -> None:
    clip = open_clip(with_sound(tmp_path / "a.mp4", "aac"))
    wanted = [data for _, data in sound_of(tmp_path / "a.mp4")]
    write_clip(tmp_path / "a.mp4", (255 - frame for frame in clip.frames()), clip, overwrite=True)
    assert [data for _, data in sound_of(tmp_path / "a.mp4")] == wanted


@pytest.mark.parametrize(("width", "kind"), [(95, "uint8"), (96, "float32")])
def test_frames_unlike_the_clip_are_refused(tmp_path: Path, width: int, kind: str) -> None:
    frame = np.zeros((64, width, 3), kind)
    with pytest.raises(ValueError, match="frame of"):
        write_clip(tmp_path / "a.mp4", [frame], Clip.from_array(smooth()))


@pytest.mark.parametrize(
    ("name", "lossless", "message"),
    [
        ("a.mp4", True, r"lossless clips are \.mkv"),
        ("a.avi", False, "change the extension"),
        ("a.png", False, "change the extension"),
        ("nowhere/a.mp4", False, "does not exist"),
        ("there", False, "contains files other than|already exists"),
        ("there.mp4", False, "a folder of that name"),
        ("file", False, "a file of that name"),
    ],
)
def test_check_output_refuses(tmp_path: Path, name: str, lossless: bool, message: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.txt").write_text("")
    (tmp_path / "there.mp4").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / name, lossless)


def test_masks_survive_both_ways_of_writing(tmp_path: Path) -> None:
    masks = np.zeros((5, 63, 95), np.bool_)
    for index in range(5):
        cv2.circle(view := np.zeros((63, 95), np.uint8), (30 + 5 * index, 30), 15, 1, -1)
        masks[index] = view > 0
    like = Clip.from_array(np.zeros((5, 63, 95, 3), np.uint8))
    for name in ("m.mkv", "m"):
        back = open_clip(write_mask(tmp_path / name, iter(masks), like)).numpy()
        np.testing.assert_array_equal(back[..., 1], masks * 255)
    lossy = open_clip(write_mask(tmp_path / "m.mp4", iter(masks), like)).numpy()[..., 1] > 127
    assert (lossy != masks).mean() < 0.002


@pytest.mark.skipif(not DOG.is_dir(), reason="the shared clips are not here")
def test_dog_keeps_its_sound_and_its_timecode(tmp_path: Path) -> None:
    clip = open_clip(DOG)
    tiny = replace(clip, width=16, height=16)  # the sound is the matter here
    path = write_clip(tmp_path / "whole.mp4", (np.zeros((16, 16, 3), np.uint8) for _ in range(289)), tiny)
    assert sound_of(path) == sound_of(DOG / "video.mp4")
    with av.open(str(path)) as container:
        assert sorted(stream.type for stream in container.streams) == ["audio", "data", "video"]  # the timecode
    back = open_clip(path)
    assert (back.frame_count, back.rate, back.color) == (289, Fraction(30000, 1001), clip.color)
    cut = clip.cut(0, 8)
    short = open_clip(write_clip(tmp_path / "short.mkv", cut.frames(), cut, lossless=True))
    np.testing.assert_array_equal(short.numpy(), cut.numpy())
    assert 8 / 30 <= len(sound_of(tmp_path / "short.mkv")) * 1024 / 48000 < 8 / 30 + 0.05
