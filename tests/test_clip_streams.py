"""What goes with the pictures: tracks, what is said of them, chapters, and which video is the one that is meant."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from layerlift.clip import open_clip, output_notes, write_clip
from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format
from layerlift.clip.timecode import moved_timecode
from layerlift.clip.writer import ClipWriter, OutputWarning

COUNT = 24


def pictures(container: Any, stream: Any, frames: int, size: tuple[int, int], level: int) -> None:
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level + index, np.uint8), format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 24)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def video(
    container: Any, codec: str = "libx264", size: tuple[int, int] = (64, 48), pixel_format: str = "yuv420p"
) -> Any:
    stream = container.add_stream(codec, rate=24)
    stream.width, stream.height, stream.pix_fmt = *size, pixel_format
    return stream


def rich(path: Path) -> Path:
    """A clip with two tracks of sound, subtitles, chapters, a title, a date and a timecode."""
    text = {".mkv": "subrip", ".mov": "mov_text", ".mp4": "mov_text"}[path.suffix]
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "holiday", "creation_time": "2020-01-02T03:04:05.000000Z"})
        container.set_chapters(
            [
                {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
                {"id": 2, "start": 400, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
            ]
        )
        moving = video(container)
        moving.metadata["timecode"] = "10:00:00:00"
        moving.disposition = Disposition.default
        sounds: list[Any] = []
        for language, default in (
            ("fra" if path.suffix == ".mov" else "fre", Disposition(0)),
            ("eng", Disposition.default),
        ):
            sound: Any = container.add_stream("aac", rate=48000, layout="mono")
            sound.metadata["language"] = language
            sound.disposition = default
            sounds.append(sound)
        words = container.add_mux_stream(text, time_base=Fraction(1, 1000))
        words.metadata["language"] = "eng"
        pictures(container, moving, COUNT, (64, 48), 60)
        for number, sound in enumerate(sounds):
            tone = np.sin(np.arange(48000) / (20 + 10 * number)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.rate = 48000
            container.mux([*sound.encode(frame), *sound.encode(None)])
        for start, said in ((100, b"hello"), (600, b"there")):
            packet = av.Packet(said if text == "subrip" else len(said).to_bytes(2, "big") + said)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), words
            packet.is_keyframe = True
            container.mux_one(packet)
    return path


def words_of(path: Path) -> list[tuple[float, str]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        kind = stream.codec_context.codec.canonical_name
        found = []
        for packet in container.demux(stream):
            data = bytes(packet)
            data = data[2 : 2 + int.from_bytes(data[:2], "big")] if kind == "mov_text" else data
            if data and packet.pts is not None and packet.time_base is not None:
                found.append((float(packet.pts * packet.time_base), data.decode()))
        return found


@pytest.mark.parametrize("source", [".mov", ".mkv"])
def test_webm_has_every_sound_as_opus_and_all_that_is_said(tmp_path: Path, source: str) -> None:
    clip = replace(open_clip(rich(tmp_path / f"in{source}")), has_alpha=True)
    with ClipWriter(tmp_path / "out.webm", clip) as writer:
        recoded, left = writer.notes
        for frame in clip.frames():
            writer.write(np.dstack([frame, np.full(frame.shape[:2], 90, np.uint8)]))
    assert "(aac, aac) is coded as Opus" in recoded
    assert "subtitles" in left
    assert "sound (" not in left
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.metadata["title"] == "holiday"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]
        sounds = container.streams.audio
        assert [sound.codec_context.codec.canonical_name for sound in sounds] == ["opus", "opus"]
        assert [sound.metadata.get("language") for sound in sounds] in (["fre", "eng"], ["fra", "eng"])
        assert [bool(sound.disposition & Disposition.default) for sound in sounds] == [False, True]
        assert container.streams.video[0].metadata.get("TIMECODE") == "10:00:00:00"
        lengths = dict.fromkeys((sounds[0].index, sounds[1].index), 0.0)
        for packet in container.demux(*sounds):
            if packet.pts is not None:
                lengths[packet.stream_index] = float(packet.pts * packet.time_base)
    assert list(lengths.values()) == pytest.approx([1, 1], abs=0.1)


def test_a_folder_names_all_that_images_do_not_hold(tmp_path: Path) -> None:
    clip = open_clip(rich(tmp_path / "in.mkv"))
    (note,) = output_notes(tmp_path / "out", clip)
    for lost in ("sound (aac)", "subtitles (subrip)", "chapters (2)", "title", "timecode", "images cannot hold it"):
        assert lost in note
    beside = LayerWriter(tmp_path / "layer", clip, choose_layer_format(tmp_path / "layer"))
    assert [note.split(" ")[0] for note in beside.notes] == ["The", "Left"]
    assert "sound (" not in beside.notes[1]
    assert "chapters (2)" in beside.notes[1]


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("source", [".mp4", ".mov", ".mkv"])
def test_everything_goes_with_the_pictures(tmp_path: Path, source: str, target: str) -> None:
    clip = open_clip(rich(tmp_path / f"in{source}"))
    assert output_notes(tmp_path / f"out{target}", clip) == []
    path = write_clip(tmp_path / f"out{target}", clip.frames(), clip)
    shift = float(open_clip(path).start_time - clip.start_time)
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "holiday"
        assert container.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"
        chapters = container.chapters()
        assert [chapter["metadata"]["title"] for chapter in chapters] == ["one", "two"]
        assert float(chapters[1]["start"] * chapters[1]["time_base"]) == pytest.approx(0.4 + shift, abs=0.01)
        sounds = container.streams.audio
        # MOV numbers languages, and its list knows one of the two codes for French.
        assert [sound.metadata.get("language") for sound in sounds] in (["fre", "eng"], ["fra", "eng"])
        assert [bool(sound.disposition & Disposition.default) for sound in sounds] == [False, True]
        assert container.streams.subtitles[0].metadata["language"] == "eng"
        said = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
        assert said["timecode"] == "10:00:00:00"
    assert [word for _, word in words_of(path)] == ["hello", "there"]
    assert [time for time, _ in words_of(path)] == pytest.approx([0.1 + shift, 0.6 + shift], abs=0.01)


@pytest.mark.parametrize("source", [".mov", ".mkv"])
def test_a_part_of_a_clip_has_its_part_of_everything(tmp_path: Path, source: str) -> None:
    clip = open_clip(rich(tmp_path / f"in{source}")).cut(12, 24)
    path = write_clip(tmp_path / "out.mov", clip.frames(), clip)
    assert words_of(path) == [(pytest.approx(0.1, abs=0.01), "there")]
    with av.open(str(path)) as container:
        (chapter,) = container.chapters()
        assert (chapter["start"], chapter["metadata"]["title"]) == (0, "two")
        assert container.streams.video[0].metadata["timecode"] == "10:00:00:12"


@pytest.mark.parametrize(("timecode", "seconds", "rate", "expected"), [
    ("10:00:00:00", 1, Fraction(24), "10:00:01:00"),
    ("01:00:59:24", Fraction(1, 25), Fraction(25), "01:01:00:00"),
    ("00:00:59;29", Fraction(1001, 30000), Fraction(30000, 1001), "00:01:00;02"),  # ST 12-1: ;00 and ;01 are left out
    ("00:09:59;29", Fraction(1001, 30000), Fraction(30000, 1001), "00:10:00;00"),
    ("23:59:59:23", Fraction(1, 24), Fraction(24), "00:00:00:00"),
    ("something", 1, Fraction(24), "something"),
])  # fmt: skip
def test_timecode_moves(timecode: str, seconds: Fraction, rate: Fraction, expected: str) -> None:
    assert moved_timecode(timecode, Fraction(seconds), rate) == expected


def test_a_cover_before_the_video_is_a_cover(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        cover = video(container, "mjpeg", (32, 32), "yuvj420p")
        moving = video(container)
        cover.disposition, moving.disposition = Disposition(0), Disposition.default
        pictures(container, cover, 1, (32, 32), 200)
        pictures(container, moving, COUNT, (64, 48), 60)
    clip = open_clip(tmp_path / "in.mkv")
    assert (clip.width, clip.frame_count) == (64, COUNT)
    (note,) = output_notes(tmp_path / "out.mov", clip)  # MOV has no place for one
    assert "cover (mjpeg)" in note
    for name in ("out.mp4", "out.mkv"):
        path = write_clip(tmp_path / name, clip.frames(), clip)
        assert open_clip(path).width == 64
        with av.open(str(path)) as container:
            others = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
            assert [s.codec_context.name for s in others] == ["mjpeg"]


@pytest.mark.parametrize("default", [None, 0, 1])
def test_of_two_tracks_the_default_or_the_longest_is_meant(tmp_path: Path, default: int | None) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w", options={"default_mode": "passthrough"}) as container:
        tracks = [video(container, size=size) for size in ((32, 32), (64, 48))]
        for number, stream in enumerate(tracks):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        pictures(container, tracks[0], 6, (32, 32), 60)
        pictures(container, tracks[1], 12, (64, 48), 60)
    clip = open_clip(tmp_path / "in.mkv")
    assert clip.width == (32 if default == 0 else 64)
    with pytest.warns(OutputWarning, match="another video track"):
        path = write_clip(tmp_path / "out.mkv", clip.frames(), clip)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1


def test_what_a_container_cannot_hold_is_named_in_one_line(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        moving = video(container)
        words = container.add_mux_stream("ass", time_base=Fraction(1, 1000))
        container.add_attachment("font.ttf", "font/ttf", b"not really a font")
        pictures(container, moving, COUNT, (64, 48), 60)
        packet = av.Packet(b"0,0,Default,,0,0,0,,hello")
        packet.pts = packet.dts = 100
        packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), words
        container.mux_one(packet)
    clip = open_clip(tmp_path / "in.mkv")
    (note,) = output_notes(tmp_path / "out.mp4", clip)
    assert "subtitles (ass)" in note
    assert "attachments" in note
    assert ".mkv can" in note
    path = write_clip(tmp_path / "out.mkv", clip.frames(), clip)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle", "attachment"]
        assert container.streams[2].data == b"not really a font"


def test_covers_of_photos_in_a_container_stay(tmp_path: Path) -> None:
    done, picture = cv2.imencode(".png", np.full((20, 20, 3), 90, np.uint8))
    assert done
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        moving = video(container)
        container.add_attachment("cover.png", "image/png", picture.tobytes())
        pictures(container, moving, COUNT, (64, 48), 60)
    clip = open_clip(tmp_path / "in.mkv")
    path = write_clip(tmp_path / "out.mp4", clip.frames(), clip)
    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams.video] == ["h264", "png"]


PHONE = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone",
    "com.apple.quicktime.location.ISO6709": "+48.1000+011.5000+510.000/",
    "title": "holiday",
    "artist": "me",
}


def from_a_phone(path: Path, *, cover: bool = False) -> Path:
    with av.open(str(path), "w", options={"movflags": "+use_metadata_tags"} if path.suffix == ".mov" else {}) as output:
        output.metadata.update(PHONE)
        moving = video(output)
        if cover:
            done, picture = cv2.imencode(".png", np.full((20, 20, 3), 90, np.uint8))
            assert done
            output.add_attachment("cover.png", "image/png", picture.tobytes())
        pictures(output, moving, 3, (64, 48), 60)
    return path


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
def test_what_phones_say_of_a_clip_goes_with_it(tmp_path: Path, target: str) -> None:
    clip = open_clip(from_a_phone(tmp_path / "in.mov"))
    assert output_notes(tmp_path / f"out{target}", clip) == []
    with av.open(str(write_clip(tmp_path / f"out{target}", clip.frames(), clip))) as container:
        said = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: said.get(key.lower()) for key in PHONE} == PHONE


def test_tags_that_mp4_cannot_hold_beside_a_cover_are_named(tmp_path: Path) -> None:
    clip = open_clip(from_a_phone(tmp_path / "in.mkv", cover=True))
    (note,) = output_notes(tmp_path / "out.mp4", clip)
    assert "tags (" in note
    assert "com.apple.quicktime.model" in note.lower()
    assert "title" not in note
    assert "cover" not in note
    with pytest.warns(OutputWarning, match="tags"):
        path = write_clip(tmp_path / "out.mp4", clip.frames(), clip)
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "holiday"


# Display P3 at 0.0001 to 1000 cd/m², as x265 takes it.
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


def hdr_clip(path: Path, more: str = f":master-display={MASTERING}:max-cll=1000,400") -> Path:
    with av.open(str(path), "w") as container:
        stream = video(container, "libx265", pixel_format="yuv420p10le")
        context = stream.codec_context
        context.options = {"x265-params": f"log-level=none{more}"}
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        pictures(container, stream, 3, (64, 48), 60)
    return path


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_mastering_metadata_is_kept_by_hevc(tmp_path: Path, target: str) -> None:
    clip = open_clip(hdr_clip(tmp_path / "in.mp4"))
    assert clip.hdr is not None
    assert (clip.hdr.display, clip.hdr.light) == (MASTERING, (1000, 400))
    path = write_clip(tmp_path / f"out{target}", clip.frames(), clip)
    assert open_clip(path).hdr == clip.hdr
    assert output_notes(path, clip) == []


def test_mastering_metadata_that_is_not_kept_is_named(tmp_path: Path) -> None:
    clip = open_clip(hdr_clip(tmp_path / "in.mp4"))
    for target, lossless in ((".mov", False), (".mkv", True), ("/", False)):
        note, *_ = output_notes(f"{tmp_path}/out{target}", clip, lossless=lossless)
        assert "HDR metadata (mastering display, content light level)" in note
    plain = open_clip(hdr_clip(tmp_path / "plain.mp4", ""))
    assert plain.hdr is None
    assert output_notes(tmp_path / "out.mov", plain) == []


@pytest.mark.parametrize(
    ("source", "sound", "target", "kept"),
    [
        ("c.mkv", "flac", "o.mov", False),
        ("c.mkv", "libopus", "o.mov", False),
        ("c.mkv", "flac", "o.mp4", True),
        ("c.mkv", "flac", "o.mkv", True),
        ("c.mxf", "pcm_s16le", "o.mp4", False),  # MXF does not name its channels, which MP4 asks for
        ("c.mxf", "pcm_s16le", "o.mov", True),
    ],
)
def test_sound_that_a_container_refuses_is_left_out_and_named(
    tmp_path: Path, source: str, sound: str, target: str, kept: bool
) -> None:
    with av.open(str(tmp_path / source), "w") as container:
        stream = container.add_stream("mpeg2video" if source.endswith(".mxf") else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        heard: Any = container.add_stream(sound, rate=48000, layout="stereo")
        pictures(container, stream, 6, (64, 48), 60)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 9600), np.int16), format="s16", layout="stereo")
        tone.sample_rate, tone.pts, tone.time_base = 48000, 0, Fraction(1, 48000)
        resampler = av.AudioResampler(heard.codec_context.format, "stereo", 48000, frame_size=heard.frame_size or 960)
        for piece in [*resampler.resample(tone), None]:
            container.mux(heard.encode(piece))
    clip = open_clip(tmp_path / source)
    notes = output_notes(tmp_path / target, clip)
    with nullcontext() if kept else pytest.warns(OutputWarning, match="sound"):
        write_clip(tmp_path / target, clip.frames(), clip)
    with av.open(str(tmp_path / target)) as written:
        assert len(written.streams.audio) == int(kept)
    assert bool(notes) != kept
    assert kept or "sound" in notes[0]
