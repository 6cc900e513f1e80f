"""Damage of a video's packets that FFmpeg's decoders pass over: FFV1's checksums, and JPEGs that end too early."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from layerlift.clip.still_damage import jpeg_damage

# Every byte with its bits in reverse order: FFV1 sends the highest bit of its checksum first, zlib the lowest.
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_TAIL = 8  # bytes behind a slice of FFV1: its length (3), a flag, its checksum (4); RFC 9043


def packet_check(codec: str) -> Callable[[bytes], bool] | None:
    """What says of a stream's packets, in order, whether one is damaged; None for codecs whose decoder does."""
    if codec == "mjpeg":
        return lambda data: jpeg_damage(data) is not None
    return _Ffv1Check() if codec == "ffv1" else None


class _Ffv1Check:
    """Packets of FFV1 version 3 have checksums, unless their stream has none: the first whole one tells."""

    def __init__(self) -> None:
        self._has_checksums = False

    def __call__(self, data: bytes) -> bool:
        slices = list(_slices(data))
        whole = sum(map(len, slices)) == len(data)
        self._has_checksums = self._has_checksums or whole
        return self._has_checksums and not (whole and all(_checksum(part) == 0 for part in slices))


def _slices(data: bytes) -> Iterator[bytes]:
    """The slices of a frame, the last first, as far as their lengths are right."""
    end = len(data)
    while end >= _TAIL:
        begin = end - _TAIL - int.from_bytes(data[end - 8 : end - 5], "big")
        if begin < 0:
            return
        yield data[begin:end]
        end = begin


def _checksum(part: bytes) -> int:
    """CRC-32 of 0x04C11DB7, the highest bit first, from 0; that of a whole slice is 0."""
    return zlib.crc32(part.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
