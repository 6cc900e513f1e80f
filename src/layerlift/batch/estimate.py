"""How long clips take, as far as one can tell beforehand, and who gets which."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from layerlift.batch.ledger import Record

# Seconds of a clip whatever it is, and for every million pixels of its frames, of each object, without a model.
BEGIN, PIXELS = 0.6, 2.2
# What a device multiplies in a second while a transformer runs on it; a CPU what it is not.
SPEED = {"cuda": 150e12, "mps": 5e12, "cpu": 0.1e12}


def estimate(facts: Mapping[str, Any]) -> float:
    """Seconds that a clip takes, from what `check_run` says of it."""
    pixels = facts["width"] * facts["height"] * facts["frames"] / 1e6
    speed = SPEED.get(str(facts["device"]).partition(":")[0], SPEED["cpu"])
    return BEGIN + PIXELS * pixels * (1 + facts["objects"]) / 2 + facts["flops"] / speed


def correction(records: Iterable[Record]) -> float:
    """What estimates are to be multiplied by, from the clips that are done: a machine's own speed."""
    shares = [record.seconds / record.estimated for record in records if record.seconds and record.estimated]
    return median(shares) if shares else 1.0


def share_out(seconds: Sequence[float], places: int) -> tuple[list[int], float]:
    """Which place gets which clip if each takes as long as estimated, the longest first; and how long all take."""
    free = [(0.0, place) for place in range(places)]
    given = [0] * len(seconds)
    for number in sorted(range(len(seconds)), key=lambda number: -seconds[number]):
        when, place = heapq.heappop(free)
        given[number] = place
        heapq.heappush(free, (when + seconds[number], place))
    return given, max(when for when, _ in free)
