"""EBML (RFC 8794), what Matroska and WebM are made of: reading it, and saying how wide pixels are.

PyAV has no way to tell FFmpeg's writer the shape of pixels. So a turn, which it can tell, is written first to hold the
place, and replaced once the file is finished; nothing else in the file moves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

# Elements of Matroska (RFC 9559).
SEGMENT, CLUSTER, TIMESTAMP = 0x18538067, 0x1F43B675, 0xE7
INFO, TIMESTAMP_SCALE = 0x1549A966, 0x2AD7B1
CRC = 0xBF
_TRACKS, _TRACK, _VIDEO = 0x1654AE6B, 0xAE, 0xE0
_WIDTH, _HEIGHT, _SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT, _PROJECTION = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2, 0x7670
_COLOUR, _CHROMA_ACROSS, _CHROMA_DOWN = 0x55B0, 0x55B7, 0x55B8
_VOID = 0xEC
_LARGEST = (1 << 24) - 1  # that three bytes hold
_LONGEST = 8  # bytes of a whole number
_AS_RATIO = 3  # of _SHOWN_UNIT: what is shown is no size but a ratio

# Any turn that FFmpeg's writer tells, so that it leaves enough room.
PLACEHOLDER_TURN = 90


class _Element(NamedTuple):
    identity: int
    begin: int  # of the whole
    content: int
    end: int


def read_number(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """A number of variable length; None at the end, and for a length that is unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = first[0] if keep_marker else first[0] & ((1 << (8 - length)) - 1)
    whole = value << 8 * len(rest) | int.from_bytes(rest, "big")
    unknown = (1 << 7 * length) - 1
    return None if not keep_marker and whole == unknown else whole


def child(content: bytes, identity: int) -> int | None:
    """A whole number directly in an element, by what it is; None where the element does not say it."""
    for element in _elements(content, _Element(0, 0, 0, len(content))):
        if element.identity == identity and element.end - element.content <= _LONGEST:
            return int.from_bytes(content[element.content : element.end], "big")
    return None


def set_pixel_shape(path: Path, shape: Fraction, *, webm: bool) -> None:
    """Give the first video track of a file that FFmpeg wrote with `PLACEHOLDER_TURN` pixels of a shape instead.

    `shape` is the width of a pixel over its height. What is shown is said as a ratio in Matroska, and as a size in
    WebM, which has no ratio: as FFmpeg's writer does. Raises RuntimeError for a file that has no such place.
    """
    with path.open("r+b") as file:
        begin, length = _tracks(file)
        tracks = bytearray(file.read(length))
        video = next((v for v in _videos(tracks) if _PROJECTION in {e.identity for e in _elements(tracks, v)}), None)
        if video is None:
            raise RuntimeError(f"{path} was written without the place for its pixels' shape")
        tracks[video.content : video.end] = _shaped(tracks, video, shape, webm=webm)
        checked = next(_elements(tracks, _Element(_TRACKS, 0, 0, length)))
        if checked.identity == CRC:
            tracks[checked.content : checked.end] = zlib.crc32(tracks[checked.end :]).to_bytes(4, "little")
        file.seek(begin)
        file.write(tracks)


def written_chroma(file: BinaryIO) -> tuple[int, int] | None:
    """Where the first video track of a file that FFmpeg wrote has its chroma, (across, down) in halves of a pixel.

    None where it says nothing.
    """
    file.seek(0)
    _, length = _tracks(file)
    tracks = bytearray(file.read(length))
    for video in _videos(tracks):
        for colour in (e for e in _elements(tracks, video) if e.identity == _COLOUR):
            said = {e.identity: int.from_bytes(tracks[e.content : e.end], "big") for e in _elements(tracks, colour)}
            across, down = said.get(_CHROMA_ACROSS, 0), said.get(_CHROMA_DOWN, 0)  # from 1; 0 is unknown
            return (across - 1, down - 1) if across and down else None
    return None


def _shaped(data: bytearray, video: _Element, shape: Fraction, *, webm: bool) -> bytes:
    """What a video track says, in as many bytes, of pixels of another shape."""
    children = list(_elements(data, video))
    said = {e.identity: int.from_bytes(data[e.content : e.end], "big") for e in children}
    replaced = (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT, _PROJECTION)
    content = b"".join(data[e.begin : e.end] for e in children if e.identity not in replaced)
    width, height = said[_WIDTH], said[_HEIGHT]
    if webm:
        shown = min(max(round(width * shape), 1), _LARGEST)
        content += _whole(_SHOWN_WIDTH, shown, 3) + _whole(_SHOWN_HEIGHT, height, 3)
    else:
        exact = shape * width / height
        ratio = exact.limit_denominator(max(int(_LARGEST // 2 / max(exact, Fraction(1))), 1))
        content += _whole(_SHOWN_WIDTH, ratio.numerator, 3) + _whole(_SHOWN_HEIGHT, ratio.denominator, 3)
        content += _whole(_SHOWN_UNIT, _AS_RATIO, 1)
    left = video.end - video.content - len(content)
    return content + bytes([_VOID, 0x80 | (left - 2)]) + bytes(left - 2)


def _whole(identity: int, value: int, length: int) -> bytes:
    return identity.to_bytes(-(-identity.bit_length() // 8), "big") + bytes([0x80 | length]) + value.to_bytes(length)


def _tracks(file: BinaryIO) -> tuple[int, int]:
    """Where the list of tracks begins and how long it is; `file` stands there."""
    while (identity := read_number(file, keep_marker=True)) is not None:
        length = read_number(file, keep_marker=False) or 0
        if identity == _TRACKS:
            return file.tell(), length
        if identity != SEGMENT:
            file.seek(length, 1)
    raise RuntimeError(f"{file.name} has no list of tracks")


def _videos(tracks: bytearray) -> Iterator[_Element]:
    for track in _elements(tracks, _Element(_TRACKS, 0, 0, len(tracks))):
        if track.identity == _TRACK:
            yield from (e for e in _elements(tracks, track) if e.identity == _VIDEO)


def _elements(data: bytes | bytearray, parent: _Element) -> Iterator[_Element]:
    """What lies directly in an element."""
    import io

    file = io.BytesIO(data)
    at = parent.content
    while at < parent.end:
        file.seek(at)
        identity, length = read_number(file, keep_marker=True), read_number(file, keep_marker=False)
        if identity is None or length is None:
            return
        yield _Element(identity, at, file.tell(), file.tell() + length)
        at = file.tell() + length
