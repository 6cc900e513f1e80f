"""Layers as clips: RGBA frames at more than 8 bits, and what else belongs to a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Pixels
from layerlift.errors import InputError

# read(start, stop) yields frames start … stop - 1 as (H, W, 4) float32, straight alpha.
LayerReader = Callable[[int, int], Iterator[np.ndarray]]

# In a file's comment: its colours are stored times alpha.
PREMULTIPLIED_NOTE = "layerlift: premultiplied alpha"

_WHOLE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}


@dataclass(frozen=True, slots=True)
class LayerClip:
    """An RGBA clip: metadata, and frames that can be read in order any number of times.

    `clip` says when each frame is shown and where the sound comes from; its own frames are the same at 8 bits. `timed`
    is False where nothing states the frame rate, as in a folder of PNGs. `linear` says that colours are linear light
    instead of the display values that videos hold; alpha is meant for compositing in the same light.
    """

    clip: Clip
    reader: LayerReader = field(repr=False, compare=False)
    timed: bool = True
    linear: bool = False

    @property
    def width(self) -> int:
        return self.clip.width

    @property
    def height(self) -> int:
        return self.clip.height

    @property
    def frame_count(self) -> int:
        return self.clip.frame_count

    @property
    def rate(self) -> Fraction:
        """Average frames per second."""
        return self.clip.rate

    @property
    def name(self) -> str:
        return self.clip.name

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as (H, W, 4) float32 in [0, 1], straight alpha."""
        stop = self.frame_count if stop is None else stop
        if not 0 <= start <= stop <= self.frame_count:
            raise ValueError(f"frames {start}:{stop} of a layer with {self.frame_count} frames")
        return self.reader(start, stop)

    def numpy(self) -> np.ndarray:
        """All frames at once, (F, H, W, 4) float32."""
        out = np.empty((self.frame_count, self.height, self.width, 4), np.float32)
        for index, frame in enumerate(self.frames()):
            out[index] = frame
        return out

    @staticmethod
    def from_array(
        frames: np.ndarray,
        like: Clip | None = None,
        *,
        rate: Fraction | int = 24,
        name: str = "layer",
        linear: bool = False,
    ) -> LayerClip:
        """A layer of frames in memory: (F, H, W, 4) uint8, uint16 or float32 in [0, 1], straight alpha.

        `like` gives the timing and the sound; without it frame i is shown at i / rate.
        """
        if frames.ndim != 4 or frames.shape[3] != 4 or frames.dtype not in _WHOLE or 0 in frames.shape:
            raise InputError(
                f"the frames have shape {frames.shape} and type {frames.dtype}, but a layer is (F, H, W, 4) uint8, "
                "uint16 or float32 with at least one frame; convert them first."
            )
        if like is not None and frames.shape[:3] != (like.frame_count, like.height, like.width):
            raise ValueError(
                f"{frames.shape[:3]} (F, H, W) for {like.name} of {(like.frame_count, like.height, like.width)}"
            )

        def reader(start: int, stop: int) -> Iterator[np.ndarray]:
            for frame in frames[start:stop]:
                yield frame if frame.dtype == np.float32 else frame / np.float32(_WHOLE[frame.dtype])

        if like is None:
            count, height, width, _ = frames.shape
            like = Clip(width, height, count, Fraction(rate), lambda a, b, p: iter(()), name=name)
        return LayerClip(as_layer(like, reader, linear=linear), reader, linear=linear)


def as_layer(clip: Clip, reader: LayerReader, *, linear: bool = False) -> Clip:
    """The clip with the frames of a layer, at 8 bits and as display values."""

    def eight_bits(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        for frame in reader(start, stop):
            shown = np.dstack([from_linear(frame[..., :3]), frame[..., 3:]]) if linear else frame
            whole = to_whole(shown, 8)
            yield whole if pixels == "rgba" else whole[..., :3]

    return replace(clip, reader=eight_bits, has_alpha=True)


def to_whole(frame: np.ndarray, bits: int) -> np.ndarray:
    """Float32 in [0, 1] as whole numbers of 8 (uint8) up to 16 (uint16) bits."""
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.rint(np.clip(frame, 0, 1) * np.float32((1 << bits) - 1)).astype(dtype)


def premultiply(frame: np.ndarray) -> np.ndarray:
    """(H, W, 4) with straight alpha → the same with colours times alpha."""
    return np.dstack([frame[..., :3] * frame[..., 3:], frame[..., 3:]])


def straighten(frame: np.ndarray) -> np.ndarray:
    """(H, W, 4) with colours times alpha → straight alpha, black where nothing is."""
    alpha = frame[..., 3:]
    colour = np.divide(frame[..., :3], alpha, out=np.zeros_like(frame[..., :3]), where=alpha > 0)
    return np.dstack([colour, alpha])


def bleed(frame: np.ndarray) -> np.ndarray:
    """Continue the colours of (H, W, 4), straight alpha, smoothly to where alpha is 0.

    Codecs that blur colours, and players that scale straight layers, then find no black beside the object.
    """
    from layerlift.pixels.arrays import spread

    colour = spread(np.ascontiguousarray(frame[..., :3]), np.minimum(16 * frame[..., 3], 1))
    return np.dstack([colour, frame[..., 3:]])


def to_linear(values: np.ndarray) -> np.ndarray:
    """Display values in [0, 1] → linear light, float32, by sRGB's curve (IEC 61966-2-1), as compositors read video."""
    values = values.astype(np.float32)
    return np.where(values <= 0.04045, values / 12.92, np.power((np.maximum(values, 0) + 0.055) / 1.055, 2.4))


def from_linear(values: np.ndarray) -> np.ndarray:
    """Linear light → display values, float32; the inverse of `to_linear`, also beyond 1."""
    values = np.maximum(values.astype(np.float32), 0)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.power(values, 1 / 2.4) - 0.055)


# AVColorSpace → what red and blue weigh in luma. Whatever is not here is taken for BT.709.
_LUMA = {4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT709_LUMA = (0.2126, 0.0722)
_FULL = 2


def rgb_to_yuv(colour: np.ndarray, tags: ColorTags, bits: int) -> np.ndarray:
    """(H, W, 3) float32 RGB in [0, 1] → (H, W, 3) whole numbers, Y', Cb, Cr, in the matrix and range of the tags."""
    red, blue = _LUMA.get(tags.matrix, _BT709_LUMA)
    luma = colour @ np.array([red, 1 - red - blue, blue], np.float32)
    chroma_blue = (colour[..., 2] - luma) / (2 * (1 - blue))
    chroma_red = (colour[..., 0] - luma) / (2 * (1 - red))
    offset, luma_scale, chroma_scale = _levels(tags, bits)
    whole = np.stack([
        offset + luma_scale * luma,
        (1 << bits - 1) + chroma_scale * chroma_blue,
        (1 << bits - 1) + chroma_scale * chroma_red,
    ], -1)  # fmt: skip
    return np.rint(np.clip(whole, 0, (1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def yuv_to_rgb(yuv: np.ndarray, tags: ColorTags, bits: int) -> np.ndarray:
    """The inverse of `rgb_to_yuv`: (H, W, 3) whole numbers → (H, W, 3) float32 RGB in [0, 1]."""
    red, blue = _LUMA.get(tags.matrix, _BT709_LUMA)
    offset, luma_scale, chroma_scale = _levels(tags, bits)
    values = yuv.astype(np.float32)
    luma = (values[..., 0] - offset) / luma_scale
    chroma = (values[..., 1:] - (1 << bits - 1)) / chroma_scale
    r = luma + 2 * (1 - red) * chroma[..., 1]
    b = luma + 2 * (1 - blue) * chroma[..., 0]
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], -1), 0, 1)


def _levels(tags: ColorTags, bits: int) -> tuple[float, float, float]:
    """Black, and the spans of luma and chroma, in whole numbers of so many bits."""
    if tags.range == _FULL:
        return 0, (1 << bits) - 1, (1 << bits) - 1
    step = 1 << (bits - 8)
    return 16 * step, 219 * step, 224 * step
