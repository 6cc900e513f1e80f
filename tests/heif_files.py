"""HEIC files (ISO/IEC 23008-12), as phones write them; nothing that can be installed writes tiles."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np


def box(name: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, name.encode()) + body


def hevc_of(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """The decoder's configuration (hvcC) and one coded picture, taken out of a Matroska file."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {"x265-params": "log-level=none:qp=12:bframes=0", "preset": "fast"}
        stream: Any = container.add_stream("libx265", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return box("hvcC", container.streams.video[0].codec_context.extradata), bytes(next(container.demux(video=0)))


def write_heic(path: Path, picture: np.ndarray, properties: bytes = b"") -> Path:
    """A HEIC file of a picture (ISO/IEC 23008-12); `properties` is a further box that says how it is shown."""
    configuration, sample = hevc_of(picture)
    height, width = picture.shape[:2]
    size = box("ispe", bytes(4), struct.pack(">II", width, height))
    count = 2 + (properties != b"")

    def meta(offset: int) -> bytes:
        return box(
            "meta",
            bytes(4),
            box("hdlr", bytes(8), b"pict", bytes(13)),
            box("pitm", bytes(4), struct.pack(">H", 1)),
            box("iloc", bytes(4), b"\x44\0", struct.pack(">HHHHII", 1, 1, 0, 1, offset, len(sample))),
            box(
                "iinf",
                bytes(4),
                struct.pack(">H", 1),
                box("infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), b"hvc1", b"\0"),
            ),
            box(
                "iprp",
                box("ipco", configuration, size, properties),
                box("ipma", bytes(4), struct.pack(">IHB", 1, 1, count), bytes([0x81, 2, 0x83][:count])),
            ),
        )

    start = box("ftyp", b"heic", bytes(4), b"mif1heic")
    path.write_bytes(start + meta(len(start) + len(meta(0)) + 8) + box("mdat", sample))
    return path


def write_tiles(path: Path, picture: np.ndarray, properties: bytes = b"") -> Path:
    """A picture as phones store large photos: a HEIC whose first item is a grid of two others."""
    halves = [hevc_of(half) for half in np.split(picture, 2, axis=1)]
    height, width = picture.shape[:2]
    grid = bytes([0, 0, 0, 1]) + struct.pack(">HH", width, height)  # version, flags, rows - 1, columns - 1
    samples = [*(sample for _, sample in halves), grid]
    sizes = [box("ispe", bytes(4), struct.pack(">II", wide, height)) for wide in (width // 2, width)]
    count = 1 + (properties != b"")

    def item(number: int, kind: bytes) -> bytes:
        return box("infe", b"\2\0\0\0", struct.pack(">HH", number, 0), kind, b"\0")

    def meta(offset: int) -> bytes:
        places = b""
        for number, sample in enumerate(samples, 1):
            places += struct.pack(">HHHII", number, 0, 1, offset, len(sample))
            offset += len(sample)
        tile = struct.pack(">HB", 1, 2) + bytes([0x81, 2]) + struct.pack(">HB", 2, 2) + bytes([0x81, 2])
        return box(
            "meta",
            bytes(4),
            box("hdlr", bytes(8), b"pict", bytes(13)),
            box("pitm", bytes(4), struct.pack(">H", 3)),
            box("iloc", bytes(4), b"\x44\0", struct.pack(">H", 3), places),
            box("iinf", bytes(4), struct.pack(">H", 3), item(1, b"hvc1"), item(2, b"hvc1"), item(3, b"grid")),
            box("iref", bytes(4), box("dimg", struct.pack(">HHHH", 3, 2, 1, 2))),
            box(
                "iprp",
                box("ipco", halves[0][0], *sizes, properties),
                box(
                    "ipma", bytes(4), struct.pack(">I", 3), tile, struct.pack(">HB", 3, count), bytes([3, 0x84][:count])
                ),
            ),
        )

    start = box("ftyp", b"heic", bytes(4), b"mif1heic")
    path.write_bytes(start + meta(len(start) + len(meta(0)) + 8) + box("mdat", *samples))
    return path
