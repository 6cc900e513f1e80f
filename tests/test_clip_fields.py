"""Interlaced clips: their fields are worked on one by one, and what nobody changes stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.codec.context import Flags

from layerlift.cli import main
from layerlift.clip import Clip, open_clip, output_notes, write_clip
from layerlift.clip.clip import FieldOrder
from layerlift.clip.fields import flagged, weave
from layerlift.clip.samples import Samples, convert, frame_of, planes_of, samples_of
from layerlift.clip.view import tags_of
from layerlift.clip.writer import OutputWarning
from layerlift.errors import InputError
from layerlift.masks import Mask, open_mask

WIDTH, HEIGHT, COUNT = 96, 64, 8  # frames; there are twice as many fields


def moving() -> np.ndarray:
    """(2F, H, W, 3) uint8: textured ground that pans by two pixels a field, with a red bar."""
    ground = cv2.resize(np.random.default_rng(1).integers(40, 210, (20, 40, 3), dtype=np.uint8), (200, 100))
    fields = np.stack([ground[:HEIGHT, 2 * i : 2 * i + WIDTH] for i in range(2 * COUNT)])
    fields[:, 20:40, 40:60] = (200, 30, 30)
    return fields


def encode(path: Path, order: FieldOrder, codec: str, samples: Samples, rows: int = HEIGHT) -> Path:
    tags = tags_of(av.VideoFrame(16, 16, "yuv420p"))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = WIDTH, rows, samples.pixel_format
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        context.field_order = {"top": 2, "bottom": 3}[order]
        context.options = (
            {"qp": "0"} if codec == "libx264" else {"qmin": "2", "qmax": "3"} if codec == "mpeg2video" else {}
        )
        fields = [
            convert(list(np.moveaxis(field[:rows], -1, 0)), Samples("rgb"), tags, samples, tags) for field in moving()
        ]
        for number, (first, second) in enumerate(zip(fields[::2], fields[1::2], strict=True)):
            frame = flagged(frame_of(weave(order, first, second), samples), order)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def stored(path: Path) -> tuple[list[list[np.ndarray]], list[bool]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        samples = samples_of(frames[0].format)
        assert samples is not None
        return [[p.copy() for p in planes_of(f, samples)] for f in frames], [f.interlaced_frame for f in frames]


def changed(clip: Clip) -> Iterator[np.ndarray]:
    for number, frame in enumerate(clip.frames()):
        out = frame.copy()
        out[16:44, 36:64] = 255 if number % 2 else 0  # every second field white
        yield out


KINDS = {
    "h264": ("libx264", ".mp4", Samples("yuv", 8, (1, 1))),
    "mpeg2": ("mpeg2video", ".mpg", Samples("yuv", 8, (1, 1))),
    "prores": ("prores_ks", ".mov", Samples("yuv", 10, (1, 0))),
    "ffv1": ("ffv1", ".mkv", Samples("yuv", 8, (1, 0))),
}


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_frames_are_fields(tmp_path: Path, kind: str, order: FieldOrder) -> None:
    codec, ending, samples = KINDS[kind]
    clip = open_clip(encode(tmp_path / f"in{ending}", order, codec, samples))
    assert (clip.field_order, clip.frame_count, clip.rate) == (order, 2 * COUNT, 50)
    off = np.abs(clip.numpy().astype(int) - moving())[:, 4:-4, 4:-4].mean()
    assert off < (12 if kind == "mpeg2" else 7)
    # Reached by a seek or from the start, a field is the same.
    np.testing.assert_array_equal(np.stack(list(clip.frames(7, 11))), clip.numpy()[7:11])
    np.testing.assert_array_equal(next(clip.cut(4, 8).frames()), clip.numpy()[4])
    with pytest.raises(InputError, match="even numbers"):
        clip.cut(3, 8)


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.mov", "lossless.mkv"])
def test_field_order_is_kept_and_no_field_is_mixed(tmp_path: Path, kind: str, order: FieldOrder, name: str) -> None:
    codec, ending, samples = KINDS[kind]
    clip = open_clip(encode(tmp_path / f"in{ending}", order, codec, samples))
    path = write_clip(tmp_path / name, changed(clip), clip, lossless=name == "lossless.mkv")
    back = open_clip(path)
    assert (back.field_order, back.frame_count, back.rate) == (order, 2 * COUNT, 50)
    frames, interlaced = stored(path)
    assert (len(frames), all(interlaced)) == (COUNT, True)
    early = 0 if order == "top" else 1
    scale = 4 if frames[0][0].dtype == np.uint16 else 1
    for luma, *_ in frames:
        spot = luma[20:40, 40:60] / scale
        assert spot[early::2].mean() < 24  # the first field is black
        assert spot[1 - early :: 2].mean() > 228
    if name == "lossless.mkv":
        for before, after in zip(stored(tmp_path / f"in{ending}")[0], frames, strict=True):
            for old, new in zip(before, after, strict=True):
                down, across = HEIGHT // old.shape[0], WIDTH // old.shape[1]
                outside = np.ones(old.shape, bool)
                outside[(16 - 2) // down : (44 + 2) // down + 1, 36 // across : 64 // across + 1] = False
                np.testing.assert_array_equal(new[outside], old[outside])


def test_deinterlaced_frames_are_progressive(tmp_path: Path) -> None:
    clip = open_clip(encode(tmp_path / "in.mp4", "top", *KINDS["h264"][::2]), deinterlace=True)
    assert (clip.field_order, clip.frame_count, clip.rate) == (None, COUNT, 25)
    assert np.abs(clip.numpy().astype(int) - moving()[::2])[:, 4:-4, 4:-4].mean() < 7
    np.testing.assert_array_equal(np.stack(list(clip.frames(3, 5))), clip.numpy()[3:5])
    path = write_clip(tmp_path / "out.mkv", clip.frames(), clip, lossless=True)
    assert not any(stored(path)[1])
    np.testing.assert_array_equal(open_clip(path).numpy(), clip.numpy())


def test_a_folder_of_fields_is_said(tmp_path: Path) -> None:
    clip = open_clip(encode(tmp_path / "in.mp4", "top", *KINDS["h264"][::2]))
    with pytest.warns(OutputWarning, match="interlaced.*each field becomes its own picture, 50 a second") as said:
        write_clip(tmp_path / "out", clip.frames(), clip)
    assert len(said) == 1
    assert open_clip(tmp_path / "out").frame_count == 2 * COUNT
    assert output_notes(tmp_path / "out.mov", clip) == []
    assert output_notes(tmp_path / "out", open_clip(tmp_path / "in.mp4", deinterlace=True)) == []


def test_a_mask_of_frames_is_one_of_fields(tmp_path: Path) -> None:
    clip = open_clip(encode(tmp_path / "in.mp4", "top", *KINDS["h264"][::2]))
    (tmp_path / "mask").mkdir()
    for index in range(COUNT):
        picture = np.zeros((HEIGHT, WIDTH), np.uint8)
        picture[10:30, 5 * index : 5 * index + 20] = 255
        cv2.imwrite(str(tmp_path / "mask" / f"{index}.png"), picture)
    mask: Mask = open_mask(tmp_path / "mask", clip)
    assert mask.frame_count == 2 * COUNT
    values = mask.numpy()
    np.testing.assert_array_equal(values[6], values[7])
    assert (values[7] != values[8]).any()
    np.testing.assert_array_equal(open_mask(tmp_path / "mask", clip.cut(6, 12)).numpy(), values[6:12])


@pytest.mark.parametrize("flag", [None, "--deinterlace"])
def test_remove_says_what_it_does_with_fields(
    tmp_path: Path, flag: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = encode(tmp_path / "in.mp4", "bottom", *KINDS["h264"][::2])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[18:42, 38:62] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    given = [
        "remove",
        str(source),
        "--mask",
        str(tmp_path / "mask.png"),
        "--model",
        "none",
        "-o",
        str(tmp_path / "o.mkv"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--frames", "1:7", *([flag] if flag else [])])
    assert ended.value.code == 0
    said = capsys.readouterr().err
    assert ("is interlaced: each field is processed on its own" in said) == (flag is None)
    assert ("is interlaced and was converted" in said) == (flag is not None)
    frames, interlaced = stored(tmp_path / "o.mkv")
    assert (len(frames), any(interlaced)) == (6, flag is None)
    assert open_clip(tmp_path / "o.mkv").duration == Fraction(6, 25)


@pytest.mark.parametrize("how", ["turned by 90", "turned by 180", "two fields of other heights"])
def test_fields_that_cannot_be_woven_again_become_frames_with_a_word(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = HEIGHT if "turned" in how else HEIGHT - 2  # 62 rows: 31 of chroma
    codec, ending, samples = KINDS["mpeg2" if rows < HEIGHT else "h264"]
    source = encode(tmp_path / f"in{ending}", "top", codec, samples, rows)
    if "turned" in how:
        with av.open(str(source)) as upright, av.open(str(tmp_path / "turned.mp4"), "w") as target:
            stream: Any = target.add_stream_from_template(upright.streams.video[0])
            stream.set_display_rotation(int(how.removeprefix("turned by ")))
            for packet in upright.demux(upright.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
        source = tmp_path / "turned.mp4"
    clip = open_clip(source)
    assert (clip.field_order, clip.frame_count, clip.rate, clip.deinterlaced) == (None, COUNT, 25, True)
    assert (clip.width, clip.height) == ((HEIGHT, WIDTH) if "90" in how else (WIDTH, rows))
    (tmp_path / "mask").mkdir()
    for index in range(COUNT):  # one for each of the file's frames
        picture = np.zeros((clip.height, clip.width), np.uint8)
        picture[10:30, 10:30] = 255
        cv2.imwrite(str(tmp_path / "mask" / f"{index}.png"), picture)
    asked = ["remove", str(source), "--mask", str(tmp_path / "mask"), "--model", "none", "-o", str(tmp_path / "o.mkv")]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 0
    assert "is interlaced, but its fields cannot be kept" in capsys.readouterr().err
    frames, interlaced = stored(tmp_path / "o.mkv")
    assert (len(frames), any(interlaced)) == (COUNT, False)
