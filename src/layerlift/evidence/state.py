"""Where a pixel of the clean plate comes from, and what can be chosen about gathering."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MOST_SAMPLES = 20  # which of them a pixel has is looked up in a table of all 2^20 patterns


class State(IntEnum):
    """Of a pixel; the numbers are what provenance arrays hold."""

    ORIGINAL = 0  # the clip's own, not masked
    GATHERED = 1  # hidden here, but shown by other frames
    UNKNOWN = 2  # no frame tells: to be generated or filled
    GENERATED = 3  # written by removal in place of UNKNOWN


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """What can be chosen about gathering.

    Attributes:
        reach: frames to look back and ahead; None is ten seconds.
        samples: frames looked at for one frame, at most 20; of large regions fewer.
        memory: bytes that frames in reach may take; where it is short, far frames are held more sparsely.
        fills: fill what no frame shows, see `fills`; what is gathered stays the same without.
    """

    reach: int | None = None
    samples: int = 16
    memory: int = 390 * 2**20
    fills: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise ValueError(f"{self.samples} samples were asked for: give 1 to {MOST_SAMPLES}")
