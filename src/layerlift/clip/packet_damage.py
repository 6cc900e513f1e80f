"""Damage of a video's packets that FFmpeg's decoders pass over, where a checksum or another decoder tells."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.clip.container import open_input, video_stream
from layerlift.clip.hevc_rows import rows_check
from layerlift.clip.still_damage import jpeg_damage

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Decoders that refuse packets whose end does not come where it should; FFmpeg's own of these codecs do not ask.
_STRICTER = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# FFmpeg's of HEVC asks, but leaves a picture as far as it came without a word; and it compares hashes if it is told to.
_STRICT = {"err_detect": "crccheck+explode"}

# Every byte with its bits in reverse order: FFV1 sends the highest bit of its checksum first, zlib the lowest.
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_TAIL, _BARE_TAIL = 8, 3  # bytes behind a slice of FFV1: its length (3), and a flag and its checksum (5); RFC 9043


class DamageCheck:
    """Give it every packet of a stream, in order, and then every picture that the stream's decoder gives.

    `strict` says that this decoder has the options of `strict_options`.
    """

    def __init__(self, path: Path, stream: VideoStream, *, strict: bool) -> None:
        self._packets = _packet_check(path, stream, strict=strict)
        self._rows = rows_check(path, stream.codec_context.name)

    def is_damaged(self, packet: Packet) -> bool:
        """Whether a packet is."""
        in_rows = self._rows is not None and self._rows.decode(packet)
        return in_rows or (self._packets is not None and packet.size > 0 and self._packets(packet))

    def differs(self, frame: VideoFrame) -> bool:
        """Whether a picture is another where it is decoded in another way."""
        return self._rows is not None and self._rows.differs(frame)


def _packet_check(path: Path, stream: VideoStream, *, strict: bool) -> Callable[[Packet], bool] | None:
    """What says of a stream's packets whether one is damaged; None where the stream's decoder does."""
    codec, header = stream.codec_context.name, stream.codec_context.extradata
    if codec == "mjpeg":
        return lambda packet: jpeg_damage(bytes(packet)) is not None
    if codec == "ffv1":
        return _Ffv1Check(header)
    if codec in _STRICTER:
        shown = stream.codec_context.format
        deep = shown is not None and shown.components[0].bits > 8  # which PyAV's libvpx is built without
        return None if deep else _OtherDecoder(_STRICTER[codec], header, {})
    options = {} if strict else strict_options(path, codec)
    return _OtherDecoder(codec, header, options) if options else None


def strict_options(path: Path, codec: str) -> dict[str, str]:
    """What makes FFmpeg's decoder refuse damage; nothing for codecs where it does so anyway, or says too much."""
    return _hevc_options(path, path.stat().st_mtime_ns) if codec == "hevc" else {}


@lru_cache(maxsize=8)
def _hevc_options(path: Path, changed: int) -> dict[str, str]:
    """A strict decoder also refuses notes that it cannot read (SEI), which an encoder writes beside every picture."""
    from av.bitstream import BitStreamFilterContext

    with open_input(path) as container:
        stream = video_stream(container, path)
        first = next((packet for packet in container.demux(stream) if packet.is_keyframe and packet.size), None)
        header = stream.codec_context.extradata
        if first is None or not _OtherDecoder("hevc", header, _STRICT)(first):
            return _STRICT
        bare = BitStreamFilterContext("hevc_mp4toannexb,filter_units=remove_types=39", in_stream=stream).filter(first)
        in_band = header is not None and header[:1] == b"\1"  # where the first filter puts what the header says
        check = _OtherDecoder("hevc", None if in_band else header, _STRICT)
        return _STRICT if any(check(packet) for packet in bare) else {}


class _OtherDecoder:
    """A decoder beside the stream's own, from the first key frame on; damage stays until the next one."""

    def __init__(self, name: str, header: bytes | None, options: dict[str, str]) -> None:
        import av

        context: Any = av.CodecContext.create(name, "r")
        context.extradata, context.options = header, dict(options)
        if options:
            context.thread_type = "NONE"  # so that an error is that of the packet
        self._context, self._begun = context, False

    def __call__(self, packet: Packet) -> bool:
        import av.error

        self._begun = self._begun or packet.is_keyframe
        try:
            if self._begun:
                self._context.decode(packet)
        except MemoryError:  # FFmpeg's own is one
            raise
        except av.error.FFmpegError:
            return True
        return False


class _Ffv1Check:
    """Packets of FFV1 version 3 consist of slices, whose lengths say whether they have checksums."""

    def __init__(self, header: bytes | None) -> None:
        # Older versions have no slices; their headers, if any, have no checksum.
        self._sliced = bool(header) and _checksum(header or b"") == 0
        self._has_checksums = False

    def __call__(self, packet: Packet) -> bool:
        data = bytes(packet)
        slices = list(_slices(data, _TAIL))
        if self._sliced and sum(map(len, slices)) == len(data):
            self._has_checksums = True
            return any(_checksum(part) for part in slices)
        return self._sliced and (self._has_checksums or sum(map(len, _slices(data, _BARE_TAIL))) != len(data))


def _slices(data: bytes, tail: int) -> Iterator[bytes]:
    """The slices of a frame, the last first, as far as their lengths are right."""
    end = len(data)
    while end >= tail:
        begin = end - tail - int.from_bytes(data[end - tail : end - tail + 3], "big")
        if begin < 0:
            return
        yield data[begin:end]
        end = begin


def _checksum(part: bytes) -> int:
    """CRC-32 of 0x04C11DB7, the highest bit first, from 0; that of a whole slice is 0."""
    return zlib.crc32(part.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
