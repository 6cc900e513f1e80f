"""What a clip is: its metadata and a way to read its frames in order, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from layerlift.clip.hdr import HdrMetadata
    from layerlift.clip.samples import Samples

# "stored" is for label images, whose numbers count: see `decode.stored_array`.
Pixels = Literal["rgb24", "rgba", "stored"]

FieldOrder = Literal["top", "bottom"]

# read(start, stop, pixels) yields frames start … stop - 1 as (H, W, 3) or (H, W, 4) uint8, or as they are stored.
FrameReader = Callable[[int, int, Pixels], Iterator[np.ndarray]]


class Picture(Protocol):
    """A decoded picture as it is stored, and how it is made upright."""

    @property
    def frame(self) -> VideoFrame: ...

    @property
    def orientation(self) -> Any:
        """How it is made upright (`decode.Orientation`)."""

    @property
    def samples(self) -> Samples | None:
        """The kind of its samples when it stands upright; None where it has no planes."""

    @property
    def tags(self) -> ColorTags:
        """What its samples mean."""

    def array(self, pixels: Pixels) -> np.ndarray:
        """What `Clip.frames` gives of it: (H, W, 3) or (H, W, 4) uint8."""

    def planes(self) -> list[np.ndarray]:
        """Its samples, upright: see `samples.planes_of`."""


# read(start, stop) yields pictures start … stop - 1.
PictureReader = Callable[[int, int], Iterator[Picture]]


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How colours are coded, as FFmpeg's integers (AVColorRange, AVColorSpace, AVColorPrimaries, AVColorTransfer...).

    Unknown is 0 for the range and 2 for the others. The default is what clips made in memory are written as: BT.709 in
    limited range.
    """

    range: int = 1
    matrix: int = 1
    primaries: int = 1
    transfer: int = 1


@dataclass(frozen=True, slots=True)
class Clip:
    """A video: metadata, and frames that can be read in order any number of times.

    `timestamps` are presentation times in units of `time_base` seconds, one per frame; both are None when frame i is
    shown at i / rate. `path` is the file whose sound belongs to the clip, None for clips without one. `start_time` is
    the time in seconds at which frame 0 lies in that file.
    """

    width: int
    height: int
    frame_count: int
    rate: Fraction
    reader: FrameReader = field(repr=False, compare=False)
    time_base: Fraction | None = None
    timestamps: tuple[int, ...] | None = field(default=None, repr=False)
    last_duration: int | None = None  # of the last frame, in units of time_base
    color: ColorTags = ColorTags()
    hdr: HdrMetadata | None = None  # what an HDR clip says of the display that it was graded on
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel over its height
    has_alpha: bool = False
    path: Path | None = None
    name: str = "clip"
    start_time: Fraction = Fraction(0)
    first: int = 0  # where a cut clip begins in the clip it was cut from
    source_frame_count: int | None = None  # length of the clip it was cut from, None if it was not cut
    field_order: FieldOrder | None = None  # of an interlaced clip, whose frames here are fields: which comes first
    deinterlaced: bool = False  # whether its frames were made of an interlaced file's
    damage: str | None = None  # what was lost of a damaged file that is to be used all the same
    rate_assumed: bool = False  # where nothing says how fast the frames follow each other
    # The clip's own samples, for writers, which leave alone what a result does not change (`recompose.py`).
    samples: Samples | None = None
    pictures: PictureReader | None = field(default=None, repr=False, compare=False)
    picture_size: tuple[int, int] | None = None  # upright, (width, height)
    chroma_place: tuple[int, int] | None = None  # of its samples, upright: see `chroma.py`

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's appearance to the last frame's end."""
        if self.timestamps is None or self.time_base is None:
            return self.frame_count / self.rate
        last = self.last_duration if self.last_duration is not None else round(1 / (self.rate * self.time_base))
        return (self.timestamps[-1] - self.timestamps[0] + last) * self.time_base

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as (H, W, 3) uint8 RGB; only one is in memory at a time."""
        return self.reader(*self._span(start, stop), "rgb24")

    def rgba_frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start … stop - 1 as (H, W, 4) uint8 RGBA with straight alpha, 255 where there is no alpha."""
        return self.reader(*self._span(start, stop), "rgba")

    def numpy(self) -> np.ndarray:
        """All frames at once, (F, H, W, 3) uint8 RGB."""
        out = np.empty((self.frame_count, self.height, self.width, 3), np.uint8)
        for index, frame in enumerate(self.frames()):
            out[index] = frame
        return out

    def cut(self, start: int, stop: int) -> Clip:
        """Frames start … stop - 1 as a clip of their own, with their timestamps and their span of the sound.

        Raises InputError when the span is empty or reaches beyond the clip.
        """
        if not 0 <= start < stop <= self.frame_count:
            raise InputError(
                f"{self.name} has frames 0:{self.frame_count}, so frames {start}:{stop} cannot be read; choose a "
                "range within those, with its start below its end."
            )
        if self.field_order is not None and (start % 2 or stop % 2):
            raise InputError(
                f"{self.name} is interlaced with two fields a frame, so fields {start}:{stop} would split a frame; "
                "give even numbers."
            )
        source, pictures = self.reader, self.pictures
        last = self.last_duration
        if self.timestamps is not None and self.time_base is not None:
            offset = (self.timestamps[start] - self.timestamps[0]) * self.time_base
            if stop < self.frame_count:
                last = self.timestamps[stop] - self.timestamps[stop - 1]
        else:
            offset = start / self.rate

        def reader(begin: int, end: int, pixels: Pixels) -> Iterator[np.ndarray]:
            return source(start + begin, start + end, pixels)

        whole = self.source_frame_count if self.source_frame_count is not None else self.frame_count
        return replace(
            self,
            frame_count=stop - start,
            reader=reader,
            pictures=None if pictures is None else lambda a, b: pictures(start + a, start + b),
            timestamps=self.timestamps[start:stop] if self.timestamps is not None else None,
            last_duration=last,
            start_time=self.start_time + offset,
            first=self.first + start,
            source_frame_count=whole if stop - start < whole else None,
        )

    def with_colours(self, frames: np.ndarray) -> Clip:
        """This clip with other colours, (F, H, W, 3) uint8 in memory; all else of it stays, its alpha too."""
        own = self.reader

        def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
            if pixels == "rgb24":
                yield from frames[start:stop]
                return
            for frame, rgba in zip(frames[start:stop], own(start, stop, "rgba"), strict=True):
                yield np.dstack([frame, rgba[..., 3]])

        plain = Clip.from_array(frames).reader
        return replace(self, reader=reader if self.has_alpha else plain)

    def number_of(self, index: int) -> int:
        """The number that users know the frame at an index by: in the file, which has a frame for every two fields."""
        return (self.first + index) // (1 if self.field_order is None else 2)

    def index_of(self, number: int) -> int:
        """The inverse of `number_of`: where the frame is, of an interlaced clip its first field."""
        return number * (1 if self.field_order is None else 2) - self.first

    def doubled(self) -> Clip:
        """Every frame twice: what was drawn for the frames of an interlaced clip, for its fields."""
        source = self.reader

        def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
            for number, frame in enumerate(source(start // 2, (stop + 1) // 2, pixels), start // 2):
                yield from (frame for field in (2 * number, 2 * number + 1) if start <= field < stop)

        return replace(self, frame_count=2 * self.frame_count, rate=2 * self.rate, reader=reader, pictures=None,
                       timestamps=None, last_duration=None)  # fmt: skip

    @staticmethod
    def from_array(frames: np.ndarray, rate: Fraction | int = 24, name: str = "clip") -> Clip:
        """A clip of frames in memory: (F, H, W, 3) or, with straight alpha, (F, H, W, 4) uint8."""
        if frames.ndim != 4 or frames.shape[3] not in (3, 4) or frames.dtype != np.uint8 or 0 in frames.shape:
            raise InputError(
                f"the frames have shape {frames.shape} and type {frames.dtype}, but a clip is (F, H, W, 3) or (F, H, "
                "W, 4) uint8 with at least one frame; convert them first."
            )
        count, height, width, channels = frames.shape

        def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
            for frame in frames[start:stop]:
                if pixels == "rgb24":
                    yield frame[..., :3]
                elif channels == 4:
                    yield frame
                else:
                    yield np.dstack([frame, np.full((height, width, 1), 255, np.uint8)])

        return Clip(width, height, count, Fraction(rate), reader, has_alpha=channels == 4, name=name)

    def _span(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = self.frame_count if stop is None else stop
        if not 0 <= start <= stop <= self.frame_count:
            raise ValueError(f"frames {start}:{stop} of a clip with {self.frame_count} frames")
        return start, stop
