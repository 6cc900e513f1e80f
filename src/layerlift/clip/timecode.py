"""SMPTE timecode (ST 12-1): hours, minutes, seconds and frames, with or without dropped numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def moved_timecode(timecode: str, seconds: Fraction, rate: Fraction) -> str:
    """A timecode so much later, at `rate` frames a second. One that is none of SMPTE's is returned as it is."""
    match = _TIMECODE.fullmatch(timecode.strip())
    frames = round(seconds * rate)
    if match is None or frames == 0:
        return timecode
    hours, minutes, seconds_, frame = (int(match[i]) for i in (1, 2, 3, 5))
    whole = max(round(rate), 1)  # numbers a second
    drop = whole // 15 if match[4] in ";." else 0  # numbers left out at each minute but every tenth
    total_minutes = 60 * hours + minutes
    count = (60 * total_minutes + seconds_) * whole + frame - drop * (total_minutes - total_minutes // 10)
    count = (count + frames) % (24 * (60 * 60 * whole - drop * 54))
    if drop:
        tens, rest = divmod(count, 600 * whole - 9 * drop)
        count += 9 * drop * tens + (drop * ((rest - drop) // (60 * whole - drop)) if rest > drop else 0)
    seconds_, frame = divmod(count, whole)
    return f"{seconds_ // 3600:02}:{seconds_ // 60 % 60:02}:{seconds_ % 60:02}{match[4]}{frame:02}"
