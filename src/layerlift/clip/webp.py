"""Animated WebP, which FFmpeg's decoders here do not read, through Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Picture, Pixels
from layerlift.clip.decode import UPRIGHT, DecodedPicture
from layerlift.clip.machine import check_machine
from layerlift.clip.samples import Samples
from layerlift.errors import InputError
from layerlift.limits import MAX_PIXELS

_TICK = Fraction(1, 1000)  # WebP counts milliseconds
_SHORTEST = 10  # ms; what is said to be shorter is shown for 100 ms, as browsers do
_INSTEAD = 100


def open_webp(path: Path) -> Clip:
    """A clip of an animated WebP file. Raises InputError when it cannot be decoded."""
    with _opened(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{path} is {width}x{height} pixels, more than layerlift reads; scale it down first.")
        count = int(getattr(image, "n_frames", 1))
        alpha = "A" in image.mode
        durations = []
        for number in range(count):
            _show(image, path, number)
            said = int(image.info.get("duration", 0))
            durations.append(said if said >= _SHORTEST else _INSTEAD)
    kind = "RGBA" if alpha else "RGB"

    def pictures(start: int, stop: int) -> Iterator[Picture]:
        from av.video.frame import VideoFrame

        with _opened(path) as image:
            for number in range(start, stop):
                _show(image, path, number)
                shown = np.asarray(image.convert(kind))
                yield DecodedPicture(VideoFrame.from_ndarray(shown, format="rgba" if alpha else "rgb24"), UPRIGHT)

    def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return (picture.array(pixels) for picture in pictures(start, stop))

    rate = Fraction(1000 * count, sum(durations))
    clip = Clip(width, height, count, rate, reader, color=ColorTags(), has_alpha=alpha, name=path.stem,
                samples=Samples("rgb", alpha=alpha), pictures=pictures, picture_size=(width, height))  # fmt: skip
    if len(set(durations)) == 1:
        return clip
    times = tuple(accumulate(durations[:-1], initial=0))
    return replace(clip, time_base=_TICK, timestamps=times, last_duration=durations[-1])


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path, formats=["WEBP"])
    except Exception as error:
        check_machine(path, error)
        raise InputError(f"{path} cannot be read as an animated WebP; save it again.") from error


def _show(image: Any, path: Path, number: int) -> None:
    try:
        image.seek(number)
        image.load()
    except Exception as error:
        check_machine(path, error)
        raise InputError(f"{path} is damaged: its frame {number} cannot be decoded; save it again.") from error
