"""How frames become a video stream or images: the codec that an ending asks for, and samples that hold the clip's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.chroma import Place, place_in
from layerlift.clip.clip import Clip, ColorTags, FieldOrder
from layerlift.clip.fields import weave
from layerlift.clip.recompose import Recomposer
from layerlift.clip.samples import BT709, FULL, LIMITED, LUMA_WEIGHTS, RGB_MATRIX, UNKNOWN, Samples, frame_of

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# Visually lossless: about 45 dB PSNR on the shared clips, well above what anyone sees.
CRF = "12"
# The same for VP9, whose scale is another, and near-lossless for layers: 48 dB over a plate, on scenes.
VP9_CRF = "10"
# Bits a macroblock of ProRes may take. FFmpeg's own choice leaves visible errors in hard edges, and noise too dark.
PRORES_BITS = "8000"

# So many whatever the machine's load and cores: with another number of threads the encoders write other frames.
THREADS = 8

_X265_HELD_BACK = 3

# 8-bit RGB in FFV1 has orders of its own.
_FFV1_ORDER = {"gbrp": "bgr0", "gbrap": "bgra"}
# What FFV1 holds only since FFmpeg 8: written at 16 bits, in which every value has its place.
_FFV1_NEW = frozenset(["yuva422p12le", "yuva444p12le", "gbrap14le", "gray14le"])


@dataclass(frozen=True, slots=True)
class Coding:
    """How frames become a video stream: FFmpeg's codec, its pixel format, colour tags and options.

    `picture` makes a frame of that pixel format from an array; it is called once for every frame, in their order.
    `metadata` is kept in the file.
    """

    codec: str
    pixel_format: str
    tags: ColorTags
    options: dict[str, str]
    picture: Callable[[np.ndarray], VideoFrame | None]
    metadata: dict[str, str] = field(default_factory=dict)
    fields: FieldOrder | None = None  # of interlaced frames, which `picture` gives at every second call
    tag: str | None = None  # the codec's four letters, where a container has several
    chroma: Place | None = None  # where its samples lie, where that is known


def clip_coding(  # noqa: PLR0911
    like: Clip, ending: str, *, lossless: bool, alpha: bool = False, grey: bool = False
) -> Coding:
    """How frames of `like` are coded in a file with an ending.

    `lossless` is FFV1, with the clip's own kind of samples; so is a clip with alpha in Matroska. Otherwise 8 bits are
    H.264 (VP9 in WebM), and more are ProRes in .mov and HEVC elsewhere, at 10 bits. `grey` is for masks, (H, W).

    The clip's own matrix is used and kept, even an unknown one: a player then shows the result as it shows the clip. An
    RGB clip, or one with a matrix that is no matrix of ITU-T H.273's kind, is written as BT.709.
    """
    own = like.samples or Samples("rgb", alpha=alpha)
    if lossless or (alpha and ending == ".mkv"):
        kept = Samples("gray") if grey else replace(own, alpha=alpha)
        if kept.pixel_format in _FFV1_NEW:
            kept = replace(kept, bits=16)
        said = (
            replace(like.color, range=FULL) if grey else like.color
        )  # a mask has black and white, whatever the clip has
        tags = like.color if kept.model == "yuv" else _rgb_tags(said, kept)
        order = _FFV1_ORDER.get(kept.pixel_format, kept.pixel_format)
        return _coding(like, "ffv1", kept, tags, {"level": "3"}, strict=True, pixel_format=order)
    odd = bool(like.width % 2 or like.height % 2)
    tags = _yuv_tags(like.color, like)
    if alpha and ending == ".mov":
        return _coding(like, "prores_ks", Samples("yuv", 10, (0, 0), True), _limited(tags), prores_options("4444"))
    if ending == ".webm":
        options = vp9_options()
        return _coding(like, "libvpx-vp9", Samples("yuv", 8, (1, 1), alpha), tags, options)
    if own.deep and ending == ".mov":
        full = own.model == "rgb" or own.shift == (0, 0) or odd
        samples = Samples("yuv", 10, (0, 0) if full else (1, 0))
        return _coding(like, "prores_ks", samples, _limited(tags), prores_options("4444" if full else "hq"))
    samples = Samples("yuv", 10 if own.deep else 8, (0, 0) if odd else (1, 1))
    if own.deep and like.field_order is not None:  # HEVC has no interlaced frames, H.264 has
        return _coding(like, "libx264", samples, tags, with_hdr(x264_options(like.field_order), like, "libx264"))
    if own.deep:
        tag = "hvc1" if ending in (".mp4", ".m4v") else None  # what Apple's players take
        return _coding(
            like, "libx265", samples, tags, with_hdr(x265_options(like.frame_count), like, "libx265"), tag=tag
        )
    return _coding(like, "libx264", samples, tags, x264_options(like.field_order))


def clip_codec(like: Clip, path: str | Path, *, lossless: bool) -> str | None:
    """FFmpeg's encoder for a clip of more than 8 bits at a path; None for a folder and for other clips."""
    if like.samples is None or not like.samples.deep or not Path(path).suffix:
        return None
    return clip_coding(like, Path(path).suffix.lower(), lossless=lossless).codec


def image_samples(like: Clip, alpha: bool) -> Samples:
    """The kind of samples of a folder of PNGs: RGB, at 16 bits for a clip of more than 8."""
    return Samples("rgb", 16 if like.samples is not None and like.samples.deep else 8, alpha=alpha)


def _coding(
    like: Clip,
    codec: str,
    samples: Samples,
    tags: ColorTags,
    options: dict[str, str],
    *,
    strict: bool = False,
    pixel_format: str | None = None,
    tag: str | None = None,
) -> Coding:
    recomposer = Recomposer(like, samples, tags, strict=strict)
    order = like.field_order if codec != "libvpx-vp9" else None
    waiting: list[list[np.ndarray]] = []

    def picture(frame: np.ndarray) -> VideoFrame | None:
        planes = recomposer.planes(frame)
        if order is None:
            return frame_of(planes, samples, pixel_format)
        waiting.append(planes)
        if len(waiting) < 2:
            return None
        woven = weave(order, *waiting)
        waiting.clear()
        return frame_of(woven, samples, pixel_format)

    form, chroma = pixel_format or samples.pixel_format, place_in(like, samples)
    return Coding(codec, form, tags, options, picture, fields=order, tag=tag, chroma=chroma)


def x264_options(fields: FieldOrder | None = None) -> dict[str, str]:
    """libx264's settings. Its mbtree routine for AVX-512 reads memory that was never written, so it is not used."""
    import cv2

    options = {"crf": CRF, "preset": "medium", "threads": str(THREADS)}
    parameters = (
        ["asm=avx2"] if cv2.checkHardwareSupport(13) else []
    )  # CPU_AVX_512F; OpenCV's Python has no name for it
    if fields is not None:
        parameters.append({"top": "tff=1", "bottom": "bff=1"}[fields])
    return options | ({"x264-params": ":".join(parameters)} if parameters else {})


def x265_options(frames: int) -> dict[str, str]:
    """libx265's settings for so many frames; its frame threads are as many on every machine.

    Fewer frames than it holds back for B frames get decoding times from memory that was never written.
    """
    few = ":bframes=0" if frames < _X265_HELD_BACK else ""
    return {"crf": CRF, "preset": "medium", "x265-params": f"log-level=none:frame-threads=2{few}"}


def with_hdr(options: dict[str, str], like: Clip, codec: str) -> dict[str, str]:
    """The settings of libx264 or libx265 with what the clip says of the display that it was graded on."""
    name = codec.replace("lib", "") + "-params"
    parameters = [] if like.hdr is None else like.hdr.parameters(codec)
    if not parameters:
        return options
    return options | {name: ":".join([*([options[name]] if name in options else []), *parameters])}


def prores_options(profile: str) -> dict[str, str]:
    """prores_ks' settings for a profile, "hq" or "4444"."""
    options = {"profile": profile, "vendor": "apl0", "bits_per_mb": PRORES_BITS}
    return options if profile == "hq" else options | {"alpha_bits": "16"}


def vp9_options() -> dict[str, str]:
    """libvpx-vp9's settings: without alternate reference frames, because FFmpeg's alpha needs one packet a frame."""
    return {"crf": VP9_CRF, "b": "0", "auto-alt-ref": "0", "lag-in-frames": "0", "row-mt": "1", "cpu-used": "3",
            "threads": str(THREADS)}  # fmt: skip


def _rgb_tags(tags: ColorTags, samples: Samples) -> ColorTags:
    if samples.model == "gray":
        return ColorTags(LIMITED if tags.range == LIMITED else FULL, UNKNOWN, tags.primaries, tags.transfer)
    return ColorTags(FULL, RGB_MATRIX, tags.primaries, tags.transfer)


def _yuv_tags(tags: ColorTags, like: Clip) -> ColorTags:
    """The clip's; for RGB, and for a matrix of another kind, those of BT.709 or BT.2020."""
    said = like.samples is None or like.samples.model != "rgb" or tags.matrix != UNKNOWN
    if tags.matrix in LUMA_WEIGHTS and said:
        return tags
    return ColorTags(LIMITED, 9 if tags.primaries == 9 else BT709, tags.primaries, tags.transfer)


def _limited(tags: ColorTags) -> ColorTags:
    """ProRes has no full range."""
    return replace(tags, range=LIMITED)
