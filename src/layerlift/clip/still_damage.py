"""Damage of an image that its decoder would pass over: it shows what it has, and grey or noise for the rest."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path

from layerlift.clip.stills import picture_kind
from layerlift.limits import MAX_PIXELS

# What libjpeg says of files that are whole: of kinds that it does not read, or of what they say of themselves.
_NO_DAMAGE = ("Unsupported", "Unknown Adobe", "Warning: unknown JFIF")
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_END = b"\xff\xd9"

_EXR_SEVERAL = 0x1A00  # flags in OpenEXR's version: tiles, deep data, several parts
_EXR_ROWS = {0: 1, 1: 1, 2: 1, 3: 16}  # rows in a chunk, by compression: none, RLE, ZIPS, ZIP
_EXR_ZIP = (2, 3)
_EXR_SAMPLE = (4, 2, 4)  # bytes, by pixel type: whole number, half, float


def still_damage(file: Path) -> str | None:
    """What is lost of an image, in words; None where nothing tells. Other formats' decoders raise by themselves."""
    kind = picture_kind(file)
    check = _CHECKS.get(kind.demuxer) if kind is not None else None
    return check(file.read_bytes()) if check is not None else None


def jpeg_damage(data: bytes) -> str | None:
    """What is lost of a JPEG, in words; None where nothing tells."""
    import simplejpeg

    try:
        # The coded picture is read whole; only its making is spared.
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=1)
    except ValueError as error:
        said = str(error)
        if said.startswith(_NO_DAMAGE) or _is_padding(said, data):
            return None
        return "its end is missing" if "Premature end" in said else "a part of the picture cannot be decoded"
    return None


def _is_padding(said: str, data: bytes) -> bool:
    """Whether the bytes that libjpeg found too many are a camera's padding, all the same."""
    found = _EXTRANEOUS.search(said)
    if found is None:
        return False
    # A marker cannot be in a picture's bytes; of a thumbnail or a second picture the end mark may be, too.
    ends = [at.start() for at in re.finditer(re.escape(_END), data)]
    return any(len(set(data[end - int(found[1]) : end])) == 1 for end in ends)


def _gif_damage(data: bytes) -> str | None:
    """Walk the blocks of a GIF (GIF89a specification) to the mark of its end."""
    try:
        at = 13 + _table(data[10])
        while data[at] != 0x3B:
            if data[at] == 0x2C:  # a picture: its place and size, its palette, its code's length
                at += 10 + _table(data[at + 9]) + 1
            elif data[at] == 0x21:  # an extension
                at += 2
            else:
                return "a part of the file cannot be read"
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return "its end is missing"
    return None


def _table(flags: int) -> int:
    """Bytes of a GIF's palette."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _exr_damage(data: bytes) -> str | None:
    """Whether every chunk of an OpenEXR file of scan lines is there, and with ZIP, has its checksum."""
    try:
        (version,) = struct.unpack_from("<I", data, 4)
        if not version & _EXR_SEVERAL:
            _walk_exr(data)
    except (struct.error, EOFError):
        return "its end is missing"
    except (zlib.error, KeyError, IndexError, ValueError):
        return "a part of the picture cannot be decoded"
    return None


def _walk_exr(data: bytes) -> None:
    said, at = _exr_header(data)
    left, top, right, bottom = struct.unpack("<4i", said[b"dataWindow"])
    compression = said[b"compression"][0]
    row = _exr_row(said[b"channels"], right - left + 1)
    if compression not in _EXR_ROWS or row is None:
        return
    if (right - left + 1) * (bottom - top + 1) > MAX_PIXELS:
        return  # whoever reads it refuses it for that, and going through it would take long
    rows = _EXR_ROWS[compression]
    count = -(-(bottom - top + 1) // rows)
    for offset in struct.unpack_from(f"<{count}Q", data, at):
        line, size = struct.unpack_from("<iI", data, offset)
        chunk = data[offset + 8 : offset + 8 + size]
        if len(chunk) < size:
            raise EOFError
        whole = row * min(rows, bottom + 1 - line)
        if compression in _EXR_ZIP and size < whole and len(zlib.decompressobj().decompress(chunk, whole + 1)) != whole:
            raise ValueError("another size")


def _exr_header(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """What an OpenEXR header says, by name, and where it ends."""
    said: dict[bytes, bytes] = {}
    at = 8
    while data[at]:
        name_end = data.index(0, at)
        kind_end = data.index(0, name_end + 1)
        (size,) = struct.unpack_from("<I", data, kind_end + 1)
        said[data[at:name_end]] = data[kind_end + 5 : kind_end + 5 + size]
        at = kind_end + 5 + size
    return said, at + 1


def _exr_row(channels: bytes, width: int) -> int | None:
    """Bytes of a row that is not compressed; None where a channel has fewer samples than there are pixels."""
    total, at = 0, 0
    while channels[at]:
        at = channels.index(0, at) + 1
        kind, _, *sampling = struct.unpack_from("<iI2i", channels, at)
        if prod(sampling) != 1:
            return None  # fewer samples than pixels
        total += width * _EXR_SAMPLE[kind]
        at += 16
    return total


_CHECKS: dict[str, Callable[[bytes], str | None]] = {
    "jpeg_pipe": jpeg_damage,
    "gif": _gif_damage,
    "exr_pipe": _exr_damage,
}
