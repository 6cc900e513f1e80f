"""How RGBA frames are coded: ProRes 4444, FFV1, VP9 with alpha, PNG, OpenEXR. All take (H, W, 4) float32 in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from layerlift.clip.clip import Clip, ColorTags
from layerlift.clip.coding import Coding, prores_options, vp9_options
from layerlift.clip.rgba import PREMULTIPLIED_NOTE, bleed, premultiply, rgb_to_yuv, to_whole
from layerlift.clip.view import HLG, is_hdr
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Kind = Literal["prores", "ffv1", "vp9", "png", "exr"]

_LIMITED, _FULL = 1, 2
_RGB_MATRIX, _BT709 = 0, 1
_UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class LayerFormat:
    """How a layer is stored.

    Attributes:
        kind: the codec, or the images of a folder.
        bits: of a value, 8 or 16, where the kind leaves the choice (FFV1, PNG).
        premultiplied: whether colours are stored times alpha. OpenEXR always does, PNG and VP9 never.
    """

    kind: Kind
    bits: int = 16
    premultiplied: bool = False

    @property
    def linear(self) -> bool:
        """Whether colours are stored as linear light, as OpenEXR expects."""
        return self.kind == "exr"


def layer_like(like: Clip) -> Clip:
    """A clip with the colours of its layers: of an HDR clip, they hold the view (`view.py`)."""
    return replace(like, color=replace(like.color, transfer=HLG)) if is_hdr(like.color) else like


def layer_coding(like: Clip, layer: LayerFormat) -> Coding:
    """How a layer becomes a video stream."""
    told = layer_like(like).color
    known = ColorTags(_LIMITED, _BT709, _known(told.primaries), _known(told.transfer))
    notes = {"comment": PREMULTIPLIED_NOTE} if layer.premultiplied else {}

    def stored(frame: np.ndarray) -> np.ndarray:
        return premultiply(frame) if layer.premultiplied else frame

    if layer.kind == "ffv1":
        name = "bgra" if layer.bits == 8 else "gbrap16le"
        order = [2, 1, 0, 3] if layer.bits == 8 else [1, 2, 0, 3]  # of the channels in the format

        def exact(frame: np.ndarray) -> VideoFrame:
            whole = to_whole(stored(frame), layer.bits)[..., order]
            return make_frame(name, [whole] if layer.bits == 8 else list(np.moveaxis(whole, -1, 0)))

        tags = ColorTags(_FULL, _RGB_MATRIX, known.primaries, known.transfer)
        return Coding("ffv1", name, tags, {"level": "3"}, exact, notes)

    if layer.kind == "prores":

        def ten_bits(frame: np.ndarray) -> VideoFrame:
            frame = premultiply(frame) if layer.premultiplied else bleed(frame)
            yuv = rgb_to_yuv(frame[..., :3], known, 10)
            return make_frame("yuva444p10le", [*np.moveaxis(yuv, -1, 0), to_whole(frame[..., 3], 10)])

        return Coding("prores_ks", "yuva444p10le", known, prores_options("4444"), ten_bits, notes)

    def eight_bits(frame: np.ndarray) -> VideoFrame:
        frame = bleed(frame)
        yuv = rgb_to_yuv(frame[..., :3], known, 8)
        return make_frame("yuva420p", [yuv[..., 0], *halved(yuv[..., 1:]), to_whole(frame[..., 3], 8)])

    return Coding("libvpx-vp9", "yuva420p", known, vp9_options(), eight_bits, notes, chroma=(1, 1))


def make_frame(pixel_format: str, planes: Sequence[np.ndarray]) -> VideoFrame:
    """A picture of FFmpeg's from its planes, (H, W) or packed (H, W, C) uint8 or uint16 each."""
    from av.video.frame import VideoFrame

    height, width = planes[0].shape[:2]
    made = VideoFrame(width, height, pixel_format)
    for plane, values in zip(made.planes, planes, strict=True):
        rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[: len(rows), : rows.shape[1]] = rows
        plane.update(padded.tobytes())
    return made


def halved(chroma: np.ndarray) -> list[np.ndarray]:
    """Chroma (H, W, 2) at half its size, each plane (⌈H/2⌉, ⌈W/2⌉)."""
    import cv2

    height, width = chroma.shape[:2]
    even = cv2.copyMakeBorder(chroma, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    small = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return [small[..., 0], small[..., 1]]


class LayerImageSink:
    """Numbered PNGs or OpenEXR files in an empty folder."""

    def __init__(self, folder: Path, layer: LayerFormat, like: Clip) -> None:
        if layer.kind == "exr":
            import_openexr()
        self._folder, self._layer, self._like, self._count = folder, layer, like, 0

    def write(self, frame: np.ndarray) -> None:
        path = self._folder / f"{self._count:05d}.{self._layer.kind}"
        if self._layer.kind == "exr":
            self._write_exr(path, frame)
        else:
            self._write_png(path, frame)
        self._count += 1

    def finish(self) -> None:
        """Nothing is left to do: every image was written whole."""

    def abandon(self) -> None:
        """Nothing is held open."""

    def _write_png(self, path: Path, frame: np.ndarray) -> None:
        import cv2

        done, data = cv2.imencode(".png", cv2.cvtColor(to_whole(frame, self._layer.bits), cv2.COLOR_RGBA2BGRA))
        if not done:
            raise RuntimeError(f"a layer of shape {frame.shape} could not be coded as PNG")
        path.write_bytes(data.tobytes())

    def _write_exr(self, path: Path, frame: np.ndarray) -> None:
        OpenEXR = import_openexr()
        header = {
            "compression": OpenEXR.ZIP_COMPRESSION,
            "type": OpenEXR.scanlineimage,
            "framesPerSecond": self._like.rate.limit_denominator(1 << 20),
            "pixelAspectRatio": float(self._like.pixel_aspect),
        }
        half = np.ascontiguousarray(premultiply(frame).astype(np.float16))
        OpenEXR.File(header, {"RGBA": half}).write(str(path))


def import_openexr() -> ModuleType:
    """The OpenEXR package. Raises InputError when it is not installed."""
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError(
            "OpenEXR files need the package OpenEXR, which is not installed: run pip install 'layerlift[exr]', or "
            "use PNG"
        ) from error
    return OpenEXR


def _known(tag: int) -> int:
    return _BT709 if tag in (0, _UNKNOWN) else tag
