"""What an HDR clip says of the display that it was graded on: kept where a codec can say it, named where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_CHROMATICITY, _LUMINANCE = 50000, 10000  # units of SMPTE ST 2086 as HEVC codes it: 0.00002 and 0.0001 cd/m²


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static and dynamic metadata of an HDR clip.

    Attributes:
        display: the mastering display (SMPTE ST 2086) as x264 and x265 take it, ``G(x,y)B(x,y)R(x,y)WP(x,y)L(a,b)``.
        light: brightest pixel and brightest frame on average, cd/m² (CTA-861.3).
        dynamic: names of metadata for each frame, which belong to the pictures as they were.
    """

    display: str | None = None
    light: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()

    def names(self, *, codec: str | None) -> list[str]:
        """What a codec (FFmpeg's encoder) does not keep; None keeps nothing."""
        static = {"mastering display": self.display, "content light level": self.light}
        lost = [] if codec in _KEEPING else [name for name, said in static.items() if said is not None]
        return [*lost, *self.dynamic]

    def parameters(self, codec: str) -> list[str]:
        """Parameters for x264 or x265 that keep it."""
        display, light = _KEEPING[codec]
        found = [] if self.display is None else [f"{display}={self.display}"]
        return found if self.light is None else [*found, f"{light}={self.light[0]},{self.light[1]}"]


_KEEPING = {"libx265": ("master-display", "max-cll"), "libx264": ("mastering-display", "cll")}


def hdr_metadata(frame: VideoFrame) -> HdrMetadata | None:
    """What a clip's first frame says; None where it says nothing."""
    from av.sidedata.sidedata import Type

    from layerlift.clip.decode import side_data

    kinds: Any = Type  # PyAV's stubs take this enumeration for a dictionary
    display = side_data(frame, kinds.MASTERING_DISPLAY_METADATA)
    light = side_data(frame, kinds.CONTENT_LIGHT_LEVEL)
    dynamic = {
        "HDR10+": kinds.DYNAMIC_HDR_PLUS,
        "Dolby Vision": kinds.DOVI_METADATA,
        "HDR Vivid": kinds.DYNAMIC_HDR_VIVID,
    }
    found = HdrMetadata(
        None if display is None else _display(np.frombuffer(display, np.int32)),
        None if light is None else tuple(np.frombuffer(light, np.uint32)[:2].tolist()),
        tuple(name for name, kind in dynamic.items() if side_data(frame, kind) is not None),
    )
    return None if found == HdrMetadata() else found


def _display(numbers: np.ndarray) -> str | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten fractions, and whether there are primaries and luminance."""
    if len(numbers) < 22 or not (numbers[20] and numbers[21]) or (numbers[1:20:2] == 0).any():
        return None
    values = numbers[0:20:2] / numbers[1:20:2]
    red, green, blue, white = np.rint(values[:8] * _CHROMATICITY).astype(int).reshape(4, 2).tolist()
    low, high = np.rint(values[8:] * _LUMINANCE).astype(int).tolist()
    points = zip(("G", "B", "R", "WP", "L"), (green, blue, red, white, (high, low)), strict=True)
    return "".join(f"{name}({a},{b})" for name, (a, b) in points)
