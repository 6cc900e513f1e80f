"""Bytes flipped inside a video's packets: refused wherever a checksum or a decoder can tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from layerlift.clip import open_clip
from layerlift.clip.damage import is_cut_short
from layerlift.errors import InputError
from support import moving_texture

COUNT, GOP = 24, 8


def make(path: Path, codec: str, options: dict[str, str] | None = None) -> Path:
    """A clip of texture that moves."""
    return moving_texture(path, codec, options or {}, gop=GOP, count=COUNT)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def flip(path: Path, number: int, share: float, count: int = 1) -> Path:
    """Other bytes at a share of a packet's length."""
    packet = packets(path)[number]
    data = bytearray(path.read_bytes())
    at = data.index(packet) + int(len(packet) * share)
    for index in range(count):
        data[at + index] ^= 0x55
    path.write_bytes(data)
    return path


HASHED = {"x265-params": f"log-level=none:hash=1:keyint={GOP}"}
PLAIN = {"x265-params": f"log-level=none:keyint={GOP}"}


@pytest.mark.parametrize("number", [0, 5, 13])
@pytest.mark.parametrize(
    ("name", "codec", "options", "count"),
    [("a.webm", "libvpx-vp9", {"b": "1000000"}, 3), ("a.mp4", "libx265", HASHED, 1), ("a.mkv", "ffv1", {}, 1)],
)
def test_a_few_flipped_bytes_are_refused_at_their_place(  # noqa: PLR0917
    tmp_path: Path, name: str, codec: str, options: dict[str, str], count: int, number: int
) -> None:
    path = make(tmp_path / name, codec, options)
    assert open_clip(path, allow_damage=True).damage is None
    with av.open(str(path)) as container:
        shown = [p.pts * p.time_base for p in container.demux(video=0) if p.pts is not None and p.time_base]
    flip(path, number, 0.5, count)
    with pytest.raises(InputError, match=rf"frame at {float(shown[number] - shown[0]):.2f} s cannot be fully decoded"):
        open_clip(path).numpy()
    clip = open_clip(path, allow_damage=True)
    assert clip.damage is not None
    assert "could not be fully decoded" in clip.damage
    assert clip.numpy().shape[0] == COUNT


def test_bytes_that_lead_hevc_astray_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", "libx265", PLAIN)
    for number in range(COUNT):
        flip(path, number, 0.6, 4)
    with pytest.raises(InputError, match="cannot be fully decoded"):
        open_clip(path).numpy()
    damage = open_clip(path, allow_damage=True).damage
    assert damage is not None
    assert "could not be fully decoded" in damage or "frames are lost" in damage


def test_rows_of_hevc_that_end_elsewhere_are_refused_at_their_place(tmp_path: Path) -> None:
    """x265 says where rows of blocks begin; here FFmpeg's decoder is content with every byte."""
    path = make(tmp_path / "a.mp4", "libx265", PLAIN | {"x265-params": PLAIN["x265-params"] + ":bframes=0:ctu=16"})
    whole = path.read_bytes()
    assert open_clip(path, allow_damage=True).damage is None
    said = []
    for share in np.linspace(0.1, 0.7, 13):
        path.write_bytes(whole)
        flip(path, 10, float(share))
        try:
            open_clip(path).numpy()
        except InputError as error:
            said.append(str(error))
            assert re.search(r"frames? 10.* could not", open_clip(path, allow_damage=True).damage or "")
    assert len(said) >= 4
    assert all("frame at 0.42 s cannot be fully decoded" in words for words in said)


@pytest.mark.slow
def test_vp8_that_is_read_beyond_its_end_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.webm", "libvpx", {"b": "1000000"})
    whole, length = path.read_bytes(), len(packets(path)[0])
    found = set()
    for back in range(1, 30):
        path.write_bytes(whole)
        flip(path, 0, (length - back + 0.5) / length)
        try:
            open_clip(path).numpy()
        except InputError as error:
            found.add(re.sub(r".*: (.*?);.*", r"\1", str(error)))
            assert "frame" in (open_clip(path, allow_damage=True).damage or "")
    assert found == {"the frame at 0.00 s cannot be fully decoded"}


def test_a_checksum_of_matroska_tells_any_byte(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", "mpeg4", {"b": "1000000"})
    whole, place = path.read_bytes(), len(packets(path)[13])
    refused = 0
    for at in range(0, place, 40):
        path.write_bytes(whole)
        flip(path, 13, at / place)
        with pytest.raises(
            InputError, match=r"cannot be fully decoded|at 0\.\d\d s does not match its checksum"
        ) as said:
            open_clip(path)
        refused += "checksum" in str(said.value)
        damage = open_clip(path, allow_damage=True).damage
        assert damage is not None
        assert "does not match its checksum" in damage
    assert refused > 0  # some of them no decoder tells


def test_a_clip_whose_notes_cannot_be_read_is_whole(tmp_path: Path) -> None:
    """An encoder that writes bad notes (SEI) does so beside every picture."""
    make(tmp_path / "a.mp4", "libx265", PLAIN)
    note = bytes([39 << 1, 1, 5, 40, 1, 2, 3, 0x80])  # says 40 bytes and has 3
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        old = source.streams.video[0]
        new = target.add_stream_from_template(old)
        for packet in source.demux(old):
            if packet.size:
                made = av.Packet(len(note).to_bytes(4, "big") + note + bytes(packet))
                made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
                made.is_keyframe, made.duration, made.stream = packet.is_keyframe, packet.duration, new
                target.mux(made)
    np.testing.assert_array_equal(open_clip(tmp_path / "b.mp4").numpy(), open_clip(tmp_path / "a.mp4").numpy())
    assert open_clip(tmp_path / "b.mp4", allow_damage=True).damage is None


@pytest.mark.parametrize("options", [{"slicecrc": "0"}, {"slicecrc": "1"}, {"level": "1"}, {"level": "3"}])
@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_whole_ffv1_is_whole(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = make(tmp_path / name, "ffv1", options)
    assert open_clip(path).numpy().shape[0] == COUNT
    assert open_clip(path, allow_damage=True).damage is None


@pytest.mark.parametrize("number", [0, 1])
def test_the_length_of_an_ffv1_slice_is_checked_in_the_first_packet_too(tmp_path: Path, number: int) -> None:
    path = make(tmp_path / "a.avi", "ffv1", {"level": "3"})  # which has no checksums of its own
    packet = packets(path)[number]
    flip(path, number, (len(packet) - 5.5) / len(packet))
    with pytest.raises(InputError, match=rf"frame at {number / 24:.2f} s cannot be fully decoded"):
        open_clip(path).numpy()
    damage = open_clip(path, allow_damage=True).damage
    assert damage is not None
    assert re.search(rf"frame {number} could not|in place of frame {number}\b|due at {number / 24:.2f} s", damage)


def test_an_flv_that_ends_between_two_packets_is_cut_short(tmp_path: Path) -> None:
    path = make(tmp_path / "a.flv", "flv", {"b": "1000000"})
    assert not is_cut_short(path)
    assert open_clip(path).frame_count == COUNT
    packet = packets(path)[12]
    data = path.read_bytes()
    path.write_bytes(data[: data.index(packet) + len(packet) + 4])  # its length follows it
    with pytest.raises(InputError, match=r"its end is missing: it stops at 0\.5"):
        open_clip(path)
    clip = open_clip(path, allow_damage=True)
    assert clip.frame_count == 13
    assert clip.damage is not None
    assert "cut short" in clip.damage


def test_a_recording_in_hevc_that_begins_amidst_is_no_damage(tmp_path: Path) -> None:
    make(tmp_path / "a.ts", "libx265", {"x265-params": f"log-level=none:keyint={GOP}:open-gop=1"})
    data = (tmp_path / "a.ts").read_bytes()
    second = [at for at in range(0, len(data), 188) if data[at + 1] & 0x40][6]  # where some packet begins
    (tmp_path / "b.ts").write_bytes(data[second:])
    assert 0 < open_clip(tmp_path / "b.ts").numpy().shape[0] < COUNT
    assert open_clip(tmp_path / "b.ts", allow_damage=True).damage is None


def test_a_frame_whose_header_names_unknown_colours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("prores_ks", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv422p10le"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(160, 96, "yuv422p10le")))
        container.mux(stream.encode(None))
    data, packet = bytearray(path.read_bytes()), packets(path)[1]
    data[data.index(packet) + 24] = 14  # after the size of the frame, "icpf" and 16 bytes of the header
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"its colours have the matrix 14 of ITU-T H\.273"):
        open_clip(path).numpy()
