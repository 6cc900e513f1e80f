"""When a file's frames are shown: at a constant rate, with frames missing, or at times of their own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from av.container import InputContainer

_Shown = TypeVar("_Shown")

_FEW = 20  # a clip has a hole for every so many frames at most; with more, its rate is variable


@dataclass(frozen=True, slots=True)
class Index:
    """Where a file's frames lie in time, in units of the stream's time base and in presentation order."""

    count: int
    pts: tuple[int, ...] | None  # None where the file does not say
    keys: tuple[int, ...]  # of the key frames
    last_duration: int | None


def index_of(times: Sequence[int | None], last_duration: int | None, keys: Sequence[int] = ()) -> Index:
    """The index of frames that were decoded: their times count where all have one, and they rise."""
    known = tuple(time for time in times if time is not None)
    ordered = len(known) == len(times) and all(a < b for a, b in pairwise(known))
    return Index(len(times), known if ordered and known else None, tuple(keys), last_duration)


def constant_rate(pts: Sequence[int] | None, time_base: Fraction, rates: list[Fraction]) -> Fraction | None:
    """The rate at which frame i is shown at i / rate, to the time base's precision; None when there is none."""
    if pts is None:
        return None
    return next((rate for rate in rates if places_at(pts, time_base, rate) == tuple(range(len(pts)))), None)


def places_at(pts: Sequence[int], time_base: Fraction, rate: Fraction) -> tuple[int, ...] | None:
    """For every frame the number that it has at a rate; None where a frame lies between two numbers."""
    step = 1 / (rate * time_base)  # ticks a frame
    slack = 0 if step.denominator == 1 else 1  # rounding of presentation times to whole ticks
    gone = (np.asarray(pts, np.int64) - pts[0]).astype(object)
    places = (2 * gone * step.denominator + step.numerator) // (2 * step.numerator)  # rounded, of exact numbers
    off = np.abs(gone * step.denominator - places * step.numerator)
    found = tuple(int(place) for place in places)
    rising = all(a < b for a, b in pairwise(found))
    return found if rising and max(off) <= slack * step.denominator else None


def missing(places: Sequence[int]) -> list[int]:
    """Numbers between the first and the last that no frame has."""
    return sorted(set(range(places[-1] + 1)) - set(places))


def rate_with_holes(
    container: InputContainer,
    index: Index,
    pts: Sequence[int],
    time_base: Fraction,
    rates: list[Fraction],
    *,
    known_damage: bool,
) -> tuple[Fraction | None, tuple[int, ...] | None]:
    """The rate of a clip of constant rate that lacks frames, and the numbers of those it has; None for other clips.

    With `known_damage`, whatever lies at multiples of a rate is such a clip; else only what can be nothing else.
    """
    for rate in rates:
        places = places_at(pts, time_base, rate)
        if places is not None and (known_damage or _is_damage(container, index, pts, places, time_base)):
            return rate, places
    return None, None


def _is_damage(
    container: InputContainer, index: Index, pts: Sequence[int], places: Sequence[int], time_base: Fraction
) -> bool:
    """Whether frames are missing of a clip of constant rate, which is damage, and not a rate that is variable.

    A Matroska file that lacks a cluster has few holes, each as long as a number of frames at the rate that its header
    says; behind each a key frame follows, and the sound has the same hole.
    """
    behind = [number for number in range(1, len(pts)) if places[number] - places[number - 1] > 1]
    if not container.format.name.startswith("matroska") or len(behind) > max(1, len(pts) // _FEW):
        return False
    keys = set(index.keys)
    if any(pts[number] not in keys for number in behind):
        return False
    step = Fraction(pts[-1] - pts[0], places[-1]) * time_base
    holes = [(pts[n - 1] * time_base + step, pts[n] * time_base) for n in behind]
    return not _sound_runs_on(container, holes)


def _sound_runs_on(container: InputContainer, holes: list[tuple[Fraction, Fraction]]) -> bool:
    """Whether most of any hole, from … to in seconds, has sound."""
    if not container.streams.audio:
        return False
    heard = [Fraction(0)] * len(holes)
    container.seek(0)
    for packet in container.demux(container.streams.audio[0]):
        if packet.pts is None or packet.time_base is None:
            continue
        begin = packet.pts * packet.time_base
        end = begin + (packet.duration or 0) * packet.time_base
        for number, (start, stop) in enumerate(holes):
            heard[number] += max(min(end, stop) - max(begin, start), Fraction(0))
    return any(2 * sound > stop - start for sound, (start, stop) in zip(heard, holes, strict=True))


def held(
    pictures: Callable[[int, int], Iterator[_Shown]], places: Sequence[int]
) -> Callable[[int, int], Iterator[_Shown]]:
    """Pictures by their numbers at a constant rate; where none has a number, the one before it is shown."""

    def read(start: int, stop: int) -> Iterator[_Shown]:
        if start >= stop:
            return
        first, last = bisect_right(places, start) - 1, bisect_right(places, stop - 1)
        ends = [*places[first + 1 : last], stop]
        for number, (picture, end) in enumerate(zip(pictures(first, last), ends, strict=True), first):
            for _ in range(max(places[number], start), end):
                yield picture

    return read
