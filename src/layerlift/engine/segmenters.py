"""SAM 2.1 on the hub: the segmenters known by name, where their weights are, and under which licence.

As published by Meta in facebook/sam2.1-hiera-*; sizes in decimal gigabytes, from the published numbers of parameters
(38.9, 46, 80.8 and 224.4 millions) in float32. SAM 3 is gated and has a licence of its own: it is used from a local
path alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True, slots=True)
class SegmenterEntry:
    """One segmenter that can be asked for by name."""

    name: str
    title: str
    repo: str
    gigabytes: float
    licence: str = "Apache-2.0"


# From the least to the best.
_ENTRIES = (
    SegmenterEntry("sam2-tiny", "SAM 2.1 tiny, finds objects", "facebook/sam2.1-hiera-tiny", 0.16),
    SegmenterEntry("sam2-small", "SAM 2.1 small, finds objects", "facebook/sam2.1-hiera-small", 0.18),
    SegmenterEntry("sam2-base", "SAM 2.1 base-plus, finds objects", "facebook/sam2.1-hiera-base-plus", 0.32),
    SegmenterEntry("sam2-large", "SAM 2.1 large, finds objects", "facebook/sam2.1-hiera-large", 0.9),
)
SEGMENTERS: Mapping[str, SegmenterEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def find_segmenter(entry: SegmenterEntry) -> Path | None:
    """The folder in the hub's cache that holds a segmenter's files; None where one is missing."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(entry.repo, file) for file in FILES]
    return Path(found[0]).parent if all(isinstance(file, str) for file in found) else None


def best_installed() -> SegmenterEntry | None:
    """The best segmenter of the table on this machine; None where there is none."""
    return next((entry for entry in reversed(_ENTRIES) if find_segmenter(entry) is not None), None)
