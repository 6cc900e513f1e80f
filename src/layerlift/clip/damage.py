"""Damage: telling a file that was cut short from a whole one, by its container's sizes; and what is said of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from layerlift.clip.ebml import HEADER, SEGMENT, read_number
from layerlift.errors import InputError


def is_cut_short(path: Path) -> bool:
    """Whether a Matroska, WebM, MP4, MOV or AVI file ends before what it says it holds; False where none is said."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _ends_of_segments(file) > size
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return 8 + int(struct.unpack_from("<I", head, 4)[0]) > size
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _end_of_boxes(file, size) > size
    return False


def _ends_of_segments(file: BinaryIO) -> int:
    """Where the first segment of a Matroska file ends; 0 where that is left open, as in a live recording."""
    while True:
        identity = read_number(file, keep_marker=True)
        length = read_number(file, keep_marker=False)
        if identity is None or length is None:
            return 0
        if identity == SEGMENT:
            return file.tell() + length
        if identity != HEADER:
            return 0
        file.seek(length, 1)


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


def damaged(path: Path, what: str = "not all of its frames can be decoded") -> InputError:
    """The error for a file that is not whole."""
    return InputError(
        f"{path} is damaged or cut short: {what}; export it again, or, if it is the clip, give --allow-damage to go on "
        "with what can be decoded."
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


def frames_named(numbers: list[int]) -> str:
    """ "frame 3", "frames 3-5, 9"."""
    return f"{'frame' if len(numbers) == 1 else 'frames'} {spans(numbers)}"
