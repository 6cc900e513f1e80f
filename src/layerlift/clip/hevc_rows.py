"""Damage inside pictures of HEVC whose rows of blocks can be decoded side by side (wavefronts), as x265 writes them.

Each slice then says where its rows begin. FFmpeg's decoder believes it with threads for rows; in one thread, or with
threads for pictures, it begins a row where it ended the one before. Where bytes are others than they were, a row ends
elsewhere, and the two ways give two pictures.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.clip.container import open_input, video_stream
from layerlift.clip.samples import plane_array

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

_PPS = b"\x44\x01"  # what a picture parameter set begins with
_ROWS = 4  # decoded at the same time
_KEYS = 8  # key pictures that are tried


def rows_check(path: Path, codec: str) -> RowsCheck | None:
    """What compares a stream's pictures with those decoded in rows; None where nothing says where rows begin.

    An encoder may say it wrongly, and does so in every picture: then no key picture is the same both ways.
    """
    header = _header(path, path.stat().st_mtime_ns) if codec == "hevc" else None
    return None if header is None else RowsCheck(header)


@lru_cache(maxsize=8)
def _header(path: Path, changed: int) -> bytes | None:
    """The header of a stream that says where rows begin, rightly in one of its first key pictures; else None."""
    with open_input(path) as container:
        stream = video_stream(container, path)
        header = stream.codec_context.extradata or b""
        if not _has_rows(header):
            return None
        keys = (packet for packet in container.demux(stream) if packet.is_keyframe and packet.size)
        return header if any(_is_same(packet, header) for packet in islice(keys, _KEYS)) else None


def _is_same(packet: Packet, header: bytes) -> bool:
    """Whether a key picture is the same both ways."""
    import av.error

    ways = _decoder(header, in_rows=True), _decoder(header, in_rows=False)
    try:
        one, other = ([_sum(frame) for part in (packet, None) for frame in way.decode(part)] for way in ways)
    except av.error.FFmpegError:
        return False
    return one == other


class RowsCheck:
    """A second decoder of a stream, in rows; give it every packet, and then every picture of the first decoder."""

    def __init__(self, header: bytes) -> None:
        self._context = _decoder(header, in_rows=True)
        self._sums: dict[int, int] = {}  # of pictures that the first decoder has not given yet, by their times

    def decode(self, packet: Packet) -> bool:
        """Whether a packet cannot be decoded in rows."""
        import av.error

        try:
            frames = self._context.decode(packet if packet.size else None)
        except av.error.FFmpegError:
            return True
        self._sums |= {frame.pts: _sum(frame) for frame in frames if frame.pts is not None}
        return False

    def differs(self, frame: VideoFrame) -> bool:
        """Whether a picture is not the one that was decoded in rows."""
        return frame.pts is not None and self._sums.pop(frame.pts, None) != _sum(frame)


def _decoder(header: bytes, *, in_rows: bool) -> Any:
    import av

    context: Any = av.CodecContext.create("hevc", "r")
    context.extradata = header
    context.thread_count, context.thread_type = (_ROWS, "SLICE") if in_rows else (1, "NONE")
    return context


def _sum(frame: VideoFrame) -> int:
    """A checksum of a picture's samples."""
    bits, found = max(component.bits for component in frame.format.components), 0
    for plane in frame.planes:
        found = zlib.crc32(plane_array(plane, bits).tobytes(), found)
    return found


def _has_rows(header: bytes) -> bool:
    """Whether a header's picture parameter set (ITU-T H.265, 7.3.2.3) says entropy_coding_sync_enabled_flag."""
    at = header.find(_PPS)
    if at < 0:
        return False
    bits = _Bits(header[at + len(_PPS) :].replace(b"\0\0\3", b"\0\0"))
    bits.numbers(2)  # of this set and the other
    bits.take(7)  # slices, output, bits of slice headers, signs, start of the decoder
    bits.numbers(3)  # references, quality
    bits.take(2)  # intra prediction, transform skip
    if bits.take(1):
        bits.numbers(1)  # differences of quality
    bits.numbers(2)  # of chroma
    bits.take(5)  # chroma by slice, weights, lossless blocks, tiles
    return bits.take(1) == 1


class _Bits:
    """Bits of a header, the highest first; ones behind its end."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{value:08b}" for value in data[:64]) + "1" * 64
        self._at = 0

    def take(self, count: int) -> int:
        self._at += count
        return int(self._text[self._at - count : self._at] or "0", 2)

    def numbers(self, count: int) -> None:
        """Pass over Exp-Golomb numbers."""
        for _ in range(count):
            zeros = self._text.find("1", self._at) - self._at
            self._at += 2 * max(zeros, 0) + 1
