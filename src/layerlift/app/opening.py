"""Clips as the page sees them: progressive frames, numbered as they are in the file, and the facts about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from layerlift.app.decoders import Decoders
from layerlift.app.shapes import Facts
from layerlift.clip import Clip, open_clip
from layerlift.clip.container import open_input
from layerlift.clip.view import is_hdr
from layerlift.errors import InputError


@dataclass(frozen=True, slots=True)
class Opened:
    """A clip that was opened, and what it is. May be asked from any thread."""

    path: Path
    clip: Clip
    facts: Facts
    decoders: Decoders = field(repr=False, compare=False)

    def frame(self, index: int, between: Callable[[], object] = lambda: None) -> np.ndarray:
        """A frame, (H, W, 3) uint8, quickly where that can be; `between` is called on the way, and may end it.

        Raises InputError where it cannot be decoded.
        """
        with closing(self.frames(index, index + 1, between)) as found:
            return next(found)

    def frames(self, start: int, end: int, between: Callable[[], object]) -> Generator[np.ndarray]:
        """Frames in order; see `frame`."""
        number = start
        with self.decoders.taken(start) as decoder, suppress(InputError):  # the slow way knows what is wrong
            while decoder is not None and number < end:
                frame = decoder.picture(number, between).array("rgb24")
                number += 1
                yield frame
        if number < end:
            for frame in self.clip.frames(number, end):
                between()
                yield frame


def open_for_page(path: Path) -> Opened:
    """Open a clip. Interlaced ones have progressive frames here, so that numbers are those of the command line.

    Raises InputError as `open_clip`.
    """
    clip = open_clip(path, deinterlace=True)
    decoders = Decoders(clip)
    codec, sound = _streams(clip, decoders)
    size = sum(file.stat().st_size for file in _files(path))
    facts = Facts(
        clip.width, clip.height, clip.frame_count, clip.rate.as_integer_ratio(), float(clip.duration), sound, codec,
        size, _notes(clip), stamp_of(path),
    )  # fmt: skip
    return Opened(path, clip, facts, decoders)


def stamp_of(path: Path) -> str:
    """A short text that changes when a clip's files do. Raises OSError where they are gone."""
    told = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)]
    return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))


def _streams(clip: Clip, decoders: Decoders) -> tuple[str, bool]:
    """The codec's name, and whether there is sound."""
    if clip.path is None:
        return "images", False
    try:
        with nullcontext(decoders.first.container) if decoders.first else open_input(clip.path) as container:
            names = [stream.codec_context.name for stream in container.streams.video if stream.codec_context]
            return (names[0] if names else "images"), bool(container.streams.audio)
    except InputError:  # pictures that another library reads
        return "image", False


def _notes(clip: Clip) -> list[str]:
    """What was understood of a clip, a phrase each."""
    notes = []
    bits = None if clip.samples is None else clip.samples.bits
    if bits is not None and bits > 8:
        notes.append(f"{bits} bits per channel")
    if is_hdr(clip.color):
        notes.append("HDR, shown as on a standard display")
    if clip.deinterlaced:
        notes.append("interlaced, shown as progressive frames")
    if clip.timestamps is not None:
        notes.append("variable frame rate")
    if clip.has_alpha:
        notes.append("has transparency")
    if clip.pixel_aspect != 1:
        notes.append(f"pixels are {float(clip.pixel_aspect):.3g} times as wide as high")
    if clip.rate_assumed:
        notes.append(f"states no frame rate: {float(clip.rate):g} is assumed")
    if clip.frame_count == 1:
        notes.append("a single picture")
    return notes
