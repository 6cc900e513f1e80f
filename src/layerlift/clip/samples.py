"""What a picture's samples are, and conversions between them that are neither brighter nor darker than what they got.

A sample is one stored number. Every conversion here is the formula of ITU-T H.273 in floating point, rounded once:
swscale's fast ways lose up to 1.5 levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from layerlift.clip.clip import ColorTags
from layerlift.clip.convert import converted

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane

# AVColorSpace → what red and blue weigh in luma. Unknown is taken for BT.601, as FFmpeg does.
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
                7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # fmt: skip
RGB_MATRIX, BT709, UNKNOWN = 0, 1, 2
LIMITED, FULL = 1, 2

_CHROMA = {"444": (0, 0), "422": (1, 0), "420": (1, 1), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_CHROMA_NAMES = {shift: name for name, shift in _CHROMA.items()}


@dataclass(frozen=True, slots=True)
class Samples:
    """The kind of a picture's samples.

    Attributes:
        model: "yuv" (luma, Cb, Cr), "gray" or "rgb".
        bits: of a sample, 8 to 16.
        shift: log2 of how many samples of luma a sample of chroma covers, across and down.
        alpha: whether there is a plane of alpha, at full size.
    """

    model: Literal["yuv", "gray", "rgb"] = "rgb"
    bits: int = 8
    shift: tuple[int, int] = (0, 0)
    alpha: bool = False

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the planar format of these samples."""
        depth = "" if self.bits == 8 else f"{self.bits}le"
        if self.model == "gray":
            return f"gray{depth}"
        if self.model == "rgb":
            return f"gbr{'a' if self.alpha else ''}p{depth}"
        return f"yuv{'a' if self.alpha else ''}{_CHROMA_NAMES[self.shift]}p{depth}"

    @property
    def deep(self) -> bool:
        """Whether they have more than 8 bits."""
        return self.bits > 8

    def chroma_size(self, width: int, height: int) -> tuple[int, int]:
        """(h, w) of a plane of chroma for a picture of a size."""
        return -(-height >> self.shift[1]), -(-width >> self.shift[0])


def samples_of(form: VideoFormat) -> Samples | None:  # noqa: PLR0911
    """The kind of samples of a pixel format; None for kinds of its own, such as Bayer patterns and floating point."""
    name = form.name
    if form.has_palette:
        return Samples("rgb", 8, alpha=True)
    if name.startswith(("bayer", "xyz", "mono")) or "f16" in name or "f32" in name or not form.components:
        return None
    bits = max(component.bits for component in form.components)
    alpha = any(component.is_alpha for component in form.components)
    if form.is_rgb:
        bits = max(bits, 8)  # 5 bits of red are scaled to 8 by whoever shows them
        return Samples("rgb", _known(bits, (8, 9, 10, 12, 14, 16), (8, 10, 12, 14, 16), alpha), alpha=alpha)
    if len(form.components) <= 2:  # luma, with or without alpha
        if alpha:
            return Samples("rgb", 8 if bits <= 8 else 16, alpha=True)
        return Samples("gray", _known(bits, (8, 9, 10, 12, 14, 16), (), False))
    shift = (8 // form.chroma_width(8)).bit_length() - 1, (8 // form.chroma_height(8)).bit_length() - 1
    if shift not in _CHROMA_NAMES or (alpha and shift not in ((0, 0), (1, 0), (1, 1))) or bits < 8:
        return None
    if bits > 8 and shift not in ((0, 0), (1, 0), (1, 1), (0, 1)):
        return None
    if bits > 8 and shift == (0, 1):
        return Samples("yuv", _known(bits, (10, 12), (), False), shift) if bits in (10, 12) else None
    return Samples("yuv", _known(bits, (8, 9, 10, 12, 14, 16), (8, 9, 10, 12, 16), alpha), shift, alpha)


def _known(bits: int, plain: Sequence[int], with_alpha: Sequence[int], alpha: bool) -> int:
    """The least number of bits that FFmpeg has a planar format for."""
    return next(known for known in (with_alpha if alpha else plain) if known >= bits)


def planes_of(frame: VideoFrame, samples: Samples) -> list[np.ndarray]:
    """A decoded picture's own samples: luma, Cb, Cr (and alpha), or red, green, blue (and alpha), (h, w) each."""
    name = frame.format.name
    if name != samples.pixel_format and name.replace("yuvj", "yuv") != samples.pixel_format:
        if samples.model == "rgb" and not samples.alpha and max(part.bits for part in frame.format.components) < 8:
            frame = converted(frame, "rgb24")  # 5 bits are stretched to 8; on the way to planes they are shifted
        frame = converted(frame, samples.pixel_format)  # the same samples in another order
    planes = [plane_array(plane, samples.bits) for plane in frame.planes]
    if samples.model == "rgb":
        green, blue, red, *rest = planes
        return [red, green, blue, *rest]
    return planes


def plane_array(plane: VideoPlane, bits: int) -> np.ndarray:
    """A plane as (h, w) uint8, or uint16 for more than 8 bits, without copying it."""
    dtype = np.dtype(np.uint8 if bits <= 8 else "<u2")
    rows: np.ndarray = np.frombuffer(memoryview(plane), dtype)
    return rows.reshape(-1, plane.line_size // dtype.itemsize)[: plane.height, : plane.width]


def frame_of(planes: Sequence[np.ndarray], samples: Samples, pixel_format: str | None = None) -> VideoFrame:
    """The inverse of `planes_of`: a picture of FFmpeg's; `pixel_format` for another order of the same samples."""
    from av.video.frame import VideoFrame

    if samples.model == "rgb":
        red, green, blue, *rest = planes
        planes = [green, blue, red, *rest]
    height, width = planes[0].shape
    made = VideoFrame(width, height, samples.pixel_format)
    for plane, values in zip(made.planes, planes, strict=True):
        into = plane_array(plane, samples.bits)
        into[...] = values
    return made if pixel_format in (None, samples.pixel_format) else converted(made, pixel_format)


def levels(tags: ColorTags, samples: Samples) -> tuple[float, float, float]:
    """Black, and the spans of luma and chroma, in whole numbers.

    RGB always has the full range, and so has grey unless it says that it is limited.
    """
    if tags.range == FULL or samples.model == "rgb" or (samples.model == "gray" and tags.range != LIMITED):
        return 0, (1 << samples.bits) - 1, (1 << samples.bits) - 1
    step = 1 << (samples.bits - 8)
    return 16 * step, 219 * step, 224 * step


def to_rgb(planes: Sequence[np.ndarray], samples: Samples, tags: ColorTags) -> np.ndarray:
    """Samples (alpha is left alone) → (H, W, 3) float32 RGB, 0 to 1 and beyond where samples go beyond."""
    import cv2

    black, span, _ = levels(tags, samples)
    if samples.model == "rgb":
        return np.dstack([plane.astype(np.float32) for plane in planes[:3]]) / np.float32(span)
    if samples.model == "gray":
        grey = (planes[0].astype(np.float32) - np.float32(black)) / np.float32(span)
        return np.repeat(grey[..., None], 3, axis=2)
    height, width = planes[0].shape
    full = [planes[0], *(enlarged(plane, samples.shift, width, height) for plane in planes[1:3])]
    matrix = np.linalg.inv(_matrix(tags, samples))[:3]
    return cv2.transform(cv2.merge([plane.astype(np.float32) for plane in full]), matrix)


def from_rgb(colour: np.ndarray, samples: Samples, tags: ColorTags) -> list[np.ndarray]:
    """(H, W, 3) float32 RGB → float32 planes of full size in the levels of `samples`, neither rounded nor halved."""
    import cv2

    black, span, _ = levels(tags, samples)
    if samples.model == "rgb":
        return [colour[..., channel] * np.float32(span) for channel in range(3)]
    if samples.model == "gray":
        red, blue = LUMA_WEIGHTS.get(tags.matrix, LUMA_WEIGHTS[BT709])
        weights = np.array([red, 1 - red - blue, blue], np.float32)
        return [np.float32(black) + np.float32(span) * (colour @ weights)]
    return list(cv2.split(cv2.transform(np.ascontiguousarray(colour, np.float32), _matrix(tags, samples)[:3])))


def _matrix(tags: ColorTags, samples: Samples) -> np.ndarray:
    """(4, 4): (R, G, B, 1) → (Y', Cb, Cr, 1) in whole numbers."""
    red, blue = LUMA_WEIGHTS.get(tags.matrix, LUMA_WEIGHTS[BT709])
    black, span, chroma_span = levels(tags, samples)
    luma = np.array([red, 1 - red - blue, blue])
    middle = 1 << (samples.bits - 1)
    out = np.eye(4)
    out[0] = [*(span * luma), black]
    out[1] = [*(chroma_span * (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))), middle]
    out[2] = [*(chroma_span * (np.array([1, 0, 0]) - luma) / (2 * (1 - red))), middle]
    return out


def enlarged(chroma: np.ndarray, shift: tuple[int, int], width: int, height: int) -> np.ndarray:
    """Chroma (h, w) at luma's size, (H, W), every sample repeated."""
    import cv2

    across, down = shift
    if across or down:
        size = chroma.shape[1] << across, chroma.shape[0] << down
        chroma = cv2.resize(chroma, size, interpolation=cv2.INTER_NEAREST)
    return chroma[:height, :width]


def reduced(chroma: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """Chroma of luma's size, (H, W) float32, as means of the pixels that one sample covers, (h, w)."""
    import cv2

    across, down = shift
    if not across and not down:
        return chroma
    height, width = chroma.shape
    low, right = -height % (1 << down), -width % (1 << across)
    if low or right:
        chroma = cv2.copyMakeBorder(chroma, 0, low, 0, right, cv2.BORDER_REPLICATE)
    size = chroma.shape[1] >> across, chroma.shape[0] >> down
    return cv2.resize(chroma, size, interpolation=cv2.INTER_AREA)


def rounded(plane: np.ndarray, bits: int) -> np.ndarray:
    """Float32 → whole numbers of so many bits."""
    whole = np.clip(np.rint(plane), 0, (1 << bits) - 1)
    return whole.astype(np.uint8 if bits <= 8 else np.uint16)


def convert(
    planes: Sequence[np.ndarray],
    source: Samples,
    source_tags: ColorTags,
    target: Samples,
    tags: ColorTags,
    *,
    down: int = 1,
) -> list[np.ndarray]:
    """Samples of one kind as samples of another: the same numbers where both are alike, else rounded once.

    `down` is where chroma of 4:2:0 lies, in halves of a row (`chroma.py`).
    """
    alpha = [_alpha(planes, source, target.bits)] if target.alpha else []
    if replace(source, alpha=False) == replace(target, alpha=False) and (
        source.model != "yuv" or (source_tags.range == FULL, source_tags.matrix) == (tags.range == FULL, tags.matrix)
    ):
        return [*planes[: 3 if source.model != "gray" else 1], *alpha]
    same_matrix = source.model == "gray" or source_tags.matrix == tags.matrix
    if target.model == "yuv" and source.model != "rgb" and same_matrix:
        return [*_relevelled(planes, source, source_tags, target, tags, down), *alpha]
    made = from_rgb(to_rgb(planes, source, source_tags), target, tags)
    if target.model == "yuv":
        made = [made[0], *(reduced(plane, target.shift) for plane in made[1:])]
    return [*(rounded(plane, target.bits) for plane in made), *alpha]


def _relevelled(  # noqa: PLR0917
    planes: Sequence[np.ndarray], source: Samples, source_tags: ColorTags, target: Samples, tags: ColorTags, down: int
) -> list[np.ndarray]:
    """Luma and chroma in other levels, and chroma at another size."""
    import cv2

    height, width = planes[0].shape
    black, span, chroma_span = levels(source_tags, source)
    new_black, new_span, new_chroma_span = levels(tags, target)
    luma = planes[0]
    if (black, span, source.bits) != (new_black, new_span, target.bits):
        scaled = (luma.astype(np.float32) - np.float32(black)) * np.float32(new_span / span) + np.float32(new_black)
        luma = rounded(scaled, target.bits)
    middle, new_middle = 1 << (source.bits - 1), 1 << (target.bits - 1)
    if source.model == "gray":
        dtype = np.uint8 if target.bits == 8 else np.uint16
        return [luma, *(np.full(target.chroma_size(width, height), new_middle, dtype) for _ in range(2))]
    chroma = []
    for plane in planes[1:3]:
        made = plane.astype(np.float32)
        if source.shift[1] > target.shift[1] and source.shift[0] == target.shift[0]:
            # Row y of the picture lies at (y - down / 2) / 2 among the rows of chroma.
            rows = np.array([[1, 0, 0], [0, 0.5, -down / 4]])
            how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            made = cv2.warpAffine(made, rows, (made.shape[1], height), flags=how, borderMode=cv2.BORDER_REPLICATE)
        elif source.shift != target.shift:
            made = reduced(enlarged(made, source.shift, width, height), target.shift)
        made = (made - np.float32(middle)) * np.float32(new_chroma_span / chroma_span) + np.float32(new_middle)
        chroma.append(rounded(made, target.bits))
    return [luma, *chroma]


def _alpha(planes: Sequence[np.ndarray], source: Samples, bits: int) -> np.ndarray:
    whole = (1 << bits) - 1
    if not source.alpha:
        return np.full(planes[0].shape, whole, np.uint8 if bits <= 8 else np.uint16)
    if source.bits == bits:
        return planes[-1]
    return rounded(planes[-1].astype(np.float32) * np.float32(whole / ((1 << source.bits) - 1)), bits)
