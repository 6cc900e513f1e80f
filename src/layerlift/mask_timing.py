"""Animated pictures as masks: their writers merge frames that are equal, so they are matched to the clip by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip, Pixels
from layerlift.clip.stills import picture_kind
from layerlift.clip.timing import held
from layerlift.errors import InputError

# By FFmpeg's names: what they are called, and the shortest time in seconds that their writers count.
_KINDS = {"gif": ("GIF", Fraction(1, 100)), "webp": ("WebP", Fraction(1, 1000)), "apng": ("APNG", Fraction(1, 1000))}
_HALF = Fraction(1, 2)


def timed(source: Clip, path: Path, clip: Clip) -> Clip:
    """A mask whose pictures are held as long as its file says, where that gives it the clip's number of frames.

    Only GIF, WebP and APNG with another number of pictures; any other mask is returned as it is. Raises InputError for
    such a file whose times do not fit a clip of constant rate.
    """
    kind = picture_kind(path) if path.is_file() else None
    if kind is None or kind.demuxer not in _KINDS or source.frame_count == 1 or clip.timestamps is not None:
        return source
    name, tick = _KINDS[kind.demuxer]
    lengths = [clip.frame_count] if clip.source_frame_count is None else [clip.source_frame_count, clip.frame_count]
    if source.timestamps is None and source.frame_count in lengths:
        return source  # nothing was merged
    for length in lengths:
        if source.frame_count == length:
            return source
        places = _places(source, length, clip.rate, tick)
        if places is not None:
            return _held(source, places, length, clip.rate)
    raise InputError(
        f"the mask {path} has {source.frame_count} frames ({float(source.duration):.2f} s), but the clip {clip.name} "
        f"has {lengths[0]} ({float(lengths[0] / clip.rate):.2f} s); {name} encoders merge identical frames, and the "
        "frame times here do not match the clip's: export the mask as PNGs or a video, with one frame for each frame "
        "of the clip."
    )


def _held(source: Clip, places: tuple[int, ...], length: int, rate: Fraction) -> Clip:
    own = source.reader

    def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return held(lambda a, b: own(a, b, pixels), places)(start, stop)

    return replace(source, frame_count=length, rate=rate, reader=reader, pictures=None, time_base=None, timestamps=None,
                   last_duration=None)  # fmt: skip


def _places(source: Clip, length: int, rate: Fraction, tick: Fraction) -> tuple[int, ...] | None:
    """The number among `length` frames at which each picture appears; None where its times say otherwise.

    Writers round either every duration alike, so that all are multiples of one step, or the times at which pictures
    appear, which are then those at the clip's rate.
    """
    if source.timestamps is None or source.time_base is None:
        times = [index / source.rate for index in range(source.frame_count)]
    else:
        times = [(time - source.timestamps[0]) * source.time_base for time in source.timestamps]
    step = source.duration / length
    if abs(step - 1 / rate) < tick and all((time / step).denominator == 1 for time in times):
        return tuple(int(time / step) for time in times)
    places = tuple(floor(time * rate + _HALF) for time in times)
    rising = all(a < b for a, b in pairwise([*places, length]))
    return places if rising and floor(source.duration * rate + _HALF) == length else None
