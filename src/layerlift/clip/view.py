"""What the stages see of a picture: 8 bits of RGB, as a standard display shows it.

Colours are those of the formula, neither brighter nor darker, and every sample of chroma is repeated for the pixels it
covers. The view of an HDR clip is its HLG signal: BT.2100's hybrid log-gamma is made to be shown on a standard display
as it is, with SDR white at 75%. PQ is brought there per channel, for a display of 1000 cd/m² (BT.2408): what is
brighter than that is white in the view. Primaries stay those of the clip.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.clip import ColorTags, Pixels
from layerlift.clip.convert import converted
from layerlift.clip.samples import FULL, LIMITED, Samples, enlarged, frame_of, planes_of, samples_of, to_rgb
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

PQ, HLG = 16, 18  # AVColorTransferCharacteristic

HLG_PEAK = 1000.0  # cd/m² of the display that PQ is brought to
SDR_WHITE = 203.0  # cd/m², BT.2408
_HLG_GAMMA = 1.2  # the system gamma of a display of 1000 cd/m²


def is_hdr(tags: ColorTags) -> bool:
    """Whether a clip's transfer is PQ or HLG."""
    return tags.transfer in (PQ, HLG)


def view_array(frame: VideoFrame, pixels: Pixels) -> np.ndarray:
    """A decoded picture as (H, W, 3) or (H, W, 4) uint8, straight alpha."""
    samples = samples_of(frame.format)
    tags = tags_of(frame)
    if samples is None or not (_needs_formula(samples, tags) or tags.transfer == PQ):
        return _by_swscale(frame, samples, pixels)
    planes = planes_of(frame, samples)
    colour = to_rgb(planes, samples, tags)
    shown = _pq_view(colour) if tags.transfer == PQ else np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8)
    if pixels == "rgb24":
        return shown
    alpha = np.full(shown.shape[:2], 255, np.uint8)
    if samples.alpha:
        alpha = np.rint(planes[-1] * (255 / ((1 << samples.bits) - 1))).astype(np.uint8)
    return np.dstack([shown, alpha])


def tags_of(frame: VideoFrame) -> ColorTags:
    """What a decoded picture says of its colours."""
    return ColorTags(int(frame.color_range), int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc))


def _needs_formula(samples: Samples, tags: ColorTags) -> bool:
    """Where swscale is off (full range of many bits is scaled as limited range is) or drops what lies under alpha."""
    limited_grey = samples.model == "gray" and tags.range == LIMITED
    return samples.alpha or limited_grey or (samples.deep and (samples.model != "yuv" or tags.range == FULL))


def _by_swscale(frame: VideoFrame, samples: Samples | None, pixels: Pixels) -> np.ndarray:
    import av.error
    from av.video.reformatter import Interpolation

    if samples is not None and samples.model == "yuv" and samples.shift != (0, 0):
        # swscale would shift chroma by the place that the file says it lies at, which not every container can say.
        luma, *chroma = planes_of(frame, samples)
        full = [luma, *(enlarged(plane, samples.shift, frame.width, frame.height) for plane in chroma)]
        whole = frame_of(full, replace(samples, shift=(0, 0)))
        whole.color_range, whole.colorspace = frame.color_range, frame.colorspace
        frame = whole
    accurate = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    try:
        return converted(frame, pixels, accurate).to_ndarray()
    except (MemoryError, BlockingIOError):  # FFmpeg's own are such: no memory, no thread
        raise
    except av.error.FFmpegError as error:  # of a frame whose header is damaged, too
        raise InputError(
            f"a frame says that its colours have the matrix {int(frame.colorspace)} of ITU-T H.273, which cannot be "
            "converted to RGB; export the clip again with BT.709 colours."
        ) from error


def _pq_view(colour: np.ndarray) -> np.ndarray:
    codes = np.rint(np.clip(colour, 0, 1) * 65535).astype(np.uint16)
    return _pq_table()[codes]


@cache
def _pq_table() -> np.ndarray:
    """(65536,) uint8: PQ's signal at 16 bits → the view."""
    nits = pq_to_nits(np.arange(65536) / 65535)
    return np.rint(np.clip(nits_to_hlg(nits), 0, 1) * 255).astype(np.uint8)


def view_to_signal(view: np.ndarray, transfer: int) -> np.ndarray:
    """RGB of a view in [0, 1] → the signal of a clip with that transfer, the inverse of `view_array`."""
    return nits_to_pq(hlg_to_nits(view)).astype(np.float32) if transfer == PQ else view


def sdr_to_view(colour: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB of an SDR picture in [0, 1], BT.709 → the view of an HDR clip, BT.2020 (BT.2408, BT.2087)."""
    light = np.power(np.clip(colour, 0, 1), 2.4)  # BT.1886
    wide = (
        light @ np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]], np.float32).T
    )
    return nits_to_hlg(SDR_WHITE * wide).astype(np.float32)


def pq_to_nits(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: a signal in [0, 1] → cd/m²."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.power(np.clip(signal, 0, 1), 1 / m2)
    return 10000 * np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """The inverse of `pq_to_nits`."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.power(np.clip(nits / 10000, 0, 1), m1)
    return np.power((c1 + c2 * power) / (1 + c3 * power), m2)


def nits_to_hlg(nits: np.ndarray) -> np.ndarray:
    """cd/m² of a display of 1000 cd/m² → ARIB STD-B67's signal, per channel (BT.2100)."""
    scene = np.power(np.clip(nits / HLG_PEAK, 0, 1), 1 / _HLG_GAMMA)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    with np.errstate(invalid="ignore"):
        high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def hlg_to_nits(signal: np.ndarray) -> np.ndarray:
    """The inverse of `nits_to_hlg`."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return HLG_PEAK * np.power(scene, _HLG_GAMMA)
