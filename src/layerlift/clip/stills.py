"""What kind of picture a file holds, told by its first bytes: FFmpeg's own guess heeds the name where bytes are few."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from layerlift.clip.machine import check_machine
from layerlift.errors import InputError
from layerlift.names import naming

# A JPEG's segments that hold no picture, a PNG's chunks, and the like: what a header may take at most.
_HEADER = 1 << 20
_STEP = 1 << 16
_TIFF_BITS, _TIFF_FORMAT = 258, 339  # tags: BitsPerSample, SampleFormat
_TIFF_MOST = 16  # bits of a sample that FFmpeg decodes

_BITMAP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # bytes of the header that follows a BMP's file header
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"miaf"})
_MOVING_BRANDS = frozenset({b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})


@dataclass(frozen=True, slots=True)
class PictureKind:
    """An image format.

    Attributes:
        demuxer: FFmpeg's name of what reads it.
        still: whether the file holds one picture; False where it may hold several that follow each other.
        lossy: whether flat colours may not survive in it.
    """

    demuxer: str
    still: bool = True
    lossy: bool = False

    @property
    def transparent(self) -> bool:
        """Whether it can hold an alpha channel."""
        return self.demuxer not in ("jpeg_pipe", "mjpeg")


def picture_kind(path: Path) -> PictureKind | None:
    """The image format of a file; None for anything that is no image, such as a video.

    Raises OSError when the file cannot be read.
    """
    with naming(path), path.open("rb") as file:
        head = file.read(32)
        for magic, demuxer in _MAGIC.items():
            if head.startswith(magic):
                other = _SEVERAL.get(demuxer)
                several = other is not None and other[1](file)
                return PictureKind(other[0] if other and several else demuxer, not several, demuxer in _LOSSY)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            animated = head[12:16] == b"VP8X" and bool(int.from_bytes(head[20:21]) & 2)
            return PictureKind("webp" if animated else "webp_pipe", not animated, _is_lossy_webp(file))
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return PictureKind("ppm_pipe")  # of portable anymap's seven kinds
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BITMAP_HEADERS:
        return PictureKind("bmp_pipe")
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS | _MOVING_BRANDS:
        return PictureKind("mov", head[8:12] in _STILL_BRANDS, lossy=True)
    return None


@contextmanager
def pillow_image(path: Path) -> Iterator[Any]:
    """An image as Pillow opens it: from its header alone.

    Raises Pillow's UnidentifiedImageError for a format that it does not know, InputError for a damaged file, whatever
    Pillow's readers of its formats raise, which may be anything, and OSError where it is the disk that fails.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            yield image
    except (UnidentifiedImageError, InputError):
        raise
    except Exception as error:
        check_machine(path, error)
        raise InputError(f"{path} cannot be read as an image; remove it or save it again.") from error


def unusual_tiff(path: Path) -> str | None:
    """What the samples of a TIFF are, where FFmpeg has no decoder for such: "32-bit whole numbers"; else None."""
    from PIL import UnidentifiedImageError

    kind = picture_kind(path)
    if kind is None or kind.demuxer != "tiff_pipe":
        return None
    try:
        with pillow_image(path) as image:
            said: Mapping[int, tuple[int, ...]] = getattr(image, "tag_v2", {})
            bits, form = (said.get(tag, (1,))[0] for tag in (_TIFF_BITS, _TIFF_FORMAT))
    except (UnidentifiedImageError, InputError):
        return None
    known = {1: "whole numbers", 2: "signed integers", 3: "floating-point numbers"}
    return f"{bits}-bit {known[form]}" if form in known and (bits > _TIFF_MOST or form > 1) else None


def _is_motion_jpeg(file: BinaryIO) -> bool:
    """Whether another JPEG follows the first at once, and is no part of the same photo (a depth or gain map)."""
    file.seek(2)
    while True:
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF or file.tell() > _HEADER:
            return False
        length = struct.unpack(">H", marker[2:])[0] - 2
        if marker[1] == 0xE2 and file.read(4) == b"MPF\0":  # CIPA DC-007: several pictures in one file
            return False
        file.seek(length - (4 if marker[1] == 0xE2 else 0), 1)
        if marker[1] == 0xDA:  # the coded picture begins; in it no byte FF stands before D9
            break
    before = b""
    while part := file.read(_STEP):
        end = (before + part).find(b"\xff\xd9")
        if end >= 0:
            file.seek(end - len(before) - len(part) + 2, 1)
            return file.read(3) == b"\xff\xd8\xff"
        before = part[-1:]
    return False


def _is_animated_png(file: BinaryIO) -> bool:
    """Whether an `acTL` chunk that counts several frames stands before the picture."""
    file.seek(8)
    while len(header := file.read(8)) == 8 and file.tell() <= _HEADER:
        length, name = struct.unpack(">I4s", header)
        if name == b"acTL":
            return int.from_bytes(file.read(4), "big") > 1
        if name == b"IDAT":
            return False
        file.seek(length + 4, 1)
    return False


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Whether the first picture of a WebP file is not of the lossless kind."""
    file.seek(12)
    while len(header := file.read(8)) == 8 and file.tell() <= _HEADER:
        name, length = struct.unpack("<4sI", header)
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        file.seek(16 if name == b"ANMF" else length + length % 2, 1)  # a frame of an animation has chunks inside
    return True


_MAGIC = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
    b"\x76\x2f\x31\x01": "exr_pipe",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"SDPX": "dpx_pipe",
    b"XPDS": "dpx_pipe",
    b"qoif": "qoi_pipe",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "j2k_pipe",
    b"\xff\x4f\xff\x51": "j2k_pipe",
}
_LOSSY = frozenset({"jpeg_pipe", "j2k_pipe"})
# What reads several pictures where a file of the kind holds them, and how one tells.
_SEVERAL: dict[str, tuple[str, Callable[[BinaryIO], bool]]] = {
    "jpeg_pipe": ("mjpeg", _is_motion_jpeg),
    "png_pipe": ("apng", _is_animated_png),
    "gif": ("gif", lambda _: True),  # their number is counted when the file is opened
}
