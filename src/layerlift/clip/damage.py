"""Damage: telling a file that was cut short from a whole one, by its container's sizes; and what is said of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from layerlift.clip.ebml import CLUSTER, CRC, INFO, SEGMENT, TIMESTAMP, TIMESTAMP_SCALE, child, read_number
from layerlift.clip.machine import check_machine
from layerlift.errors import InputError
from layerlift.names import naming

_CHECKED = bytes([CRC, 0x84])  # what an element of Matroska with a checksum begins with
_FLV_NOTES = 1 << 16  # bytes that are searched for them
_PACKETS = (188, 192)  # bytes of a packet of a transport stream, and of one in an M2TS file


def is_cut_short(path: Path) -> bool:
    """Whether a file ends before what it says it holds; False where none is said.

    Matroska, WebM, MP4, MOV, AVI and most FLV say it; transport streams consist of packets of one size.
    """
    size = path.stat().st_size
    with naming(path), path.open("rb") as file:
        head = file.read(2 * max(_PACKETS))
        file.seek(0)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _end_of_elements(file, size) > size
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return 8 + int(struct.unpack_from("<I", head, 4)[0]) > size
        if head[:3] == b"FLV":
            return _said_by_flv(file.read(_FLV_NOTES)) > size
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _end_of_boxes(file, size) > size
    for length in _PACKETS:
        if head[length % 188 :: length][:2] == b"GG":  # 0x47 begins every packet; M2TS has four bytes before it
            return size % length != 0
    return False


def _end_of_elements(file: BinaryIO, size: int) -> int:
    """Where the last element of a Matroska file ends.

    A length may be left open, as in a live recording: such an element ends with the last one in it.
    """
    end = 0
    while file.tell() < size:
        identity, length = read_number(file, keep_marker=True), read_number(file, keep_marker=False)
        if identity in (SEGMENT, CLUSTER) and length is None:
            continue
        if identity is None or length is None:  # cut inside a number, or nothing of Matroska's
            return size + 1 if file.tell() == size else end
        end = file.tell() + length
        if identity == SEGMENT or end > size:
            return end
        file.seek(end)
    return end


def clusters_damaged(path: Path) -> list[float]:
    """When clusters of a Matroska file begin, in seconds, whose content does not have the checksum that they say.

    FFmpeg's writer of Matroska says it of all of them, and hardly any other; WebM has none.
    """
    found: list[float] = []
    scale, size = 1_000_000, path.stat().st_size  # nanoseconds of a tick, bytes
    with naming(path), path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return found
        file.seek(0)
        while (identity := read_number(file, keep_marker=True)) is not None:
            length = read_number(file, keep_marker=False)
            if identity == SEGMENT:
                continue
            if length is None or length > size - file.tell():  # a live recording has no checksums; or it is cut short
                return found
            if identity not in (INFO, CLUSTER):
                file.seek(length, 1)
                continue
            content = file.read(length)
            if identity == INFO:
                scale = child(content, TIMESTAMP_SCALE) or scale
            elif content[:2] == _CHECKED and len(content) == length and not _is_checked(content):
                found.append((child(content, TIMESTAMP) or 0) * scale / 1e9)
    return found


def _is_checked(content: bytes) -> bool:
    return zlib.crc32(memoryview(content)[6:]) == int.from_bytes(content[2:6], "little")


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 file ends (ISO/IEC 14496-12)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            large = file.read(8)
            length = int.from_bytes(large, "big") if len(large) == 8 else 0
        if length < 8:  # 0 reaches to the end; anything else is no box
            return size
        at += length
    return at


def _said_by_flv(start: bytes) -> float:
    """The size that the notes at an FLV's beginning say it has (AMF 0), 0 where they do not."""
    name = b"\0\x08filesize\0"
    at = start.find(name)
    return float(struct.unpack_from(">d", start, at + len(name))[0]) if 0 <= at <= len(start) - len(name) - 8 else 0.0


def damaged(path: Path, what: str) -> InputError:
    """The error for a file that is not whole. Raises OSError where it is the disk that fails."""
    check_machine(path)
    return InputError(
        f"{path} is damaged or cut short: {what}; export it again, or, if it is the clip, add --allow-damage to use "
        "what can be decoded."
    )


def spans(numbers: list[int]) -> str:
    """3, 4, 5, 9 as "3-5, 9", the first few of them."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    shown = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found[:8])
    return f"{shown} …" if len(found) > 8 else shown


def not_whole(seconds: float | None) -> str:
    """What is said of a frame that cannot be decoded, or of what follows it."""
    return f"the frame {'' if seconds is None else f'at {seconds:.2f} s '}cannot be fully decoded"


def moments_named(seconds: list[float]) -> str:
    """Moments as "1.25 s, 2.00 s", the first few of them."""
    shown = ", ".join(f"{second:.2f} s" for second in seconds[:8])
    return f"{shown} …" if len(seconds) > 8 else shown


def not_as_checked(seconds: list[float]) -> str:
    """What is said of parts that begin at some moments and do not have their checksums."""
    if len(seconds) == 1:
        return f"the part that begins at {moments_named(seconds)} does not match its checksum"
    return f"the parts that begin at {moments_named(seconds)} do not match their checksums"


def frames_named(numbers: list[int]) -> str:
    """ "frame 3", "frames 3-5, 9"."""
    return f"{'frame' if len(numbers) == 1 else 'frames'} {spans(numbers)}"
