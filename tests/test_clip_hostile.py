"""Pictures and videos that say of themselves what cannot be: refused with one sentence, before much is decoded."""

import struct
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import open_clip
from layerlift.clip.images import read_picture
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.stills import picture_kind
from layerlift.errors import InputError

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"
ENDLESS = b"\x01" + b"\xff" * 6 + b"\xfe"  # a length of 2^56 - 2 bytes


@pytest.mark.parametrize("size", [(20_000, 20_000), (30_000, 3_000)])
def test_an_openexr_file_of_too_many_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    OpenEXR = pytest.importorskip("OpenEXR")
    path = tmp_path / "a.exr"
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGBA": np.zeros((8, 8, 4), np.float16)}).write(str(path))
    window = struct.pack("<4i", 0, 0, 7, 7)
    assert path.read_bytes().count(window) == 2  # of the data, and of what is shown
    path.write_bytes(path.read_bytes().replace(window, struct.pack("<4i", 0, 0, size[0] - 1, size[1] - 1)))
    with pytest.raises(InputError, match=f"is {size[0]}x{size[1]} pixels, more than layerlift reads"):
        open_layer(path)
    with pytest.raises(InputError):
        open_clip(path)


@pytest.mark.parametrize("content", [EBML + ENDLESS, EBML + b"\x80" + SEGMENT + b"\x01" + b"\xff" * 7 + EBML + ENDLESS])
def test_an_element_of_matroska_that_does_not_end(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(content + bytes(64))
    with pytest.raises(InputError, match=r"a\.mkv"):
        open_clip(path)


def test_a_webp_that_ends_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0")
    assert picture_kind(path) is not None
    with pytest.raises(InputError):
        open_clip(path)


def test_whatever_a_reader_of_pictures_raises_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to decode image")  # as AVIF's does

    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image; remove it or save it again"):
        read_picture(path)
