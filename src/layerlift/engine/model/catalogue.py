"""The models known by name: where their weights are, under which licence, and how each is sampled.

File names, settings and licences as published in the hub repository Lightricks/LTX-Video and in the configs of
github.com/Lightricks/LTX-Video; sizes in decimal gigabytes. 0.9.7 and 0.9.8 are published with a second, upscaled
pass; here they run their first pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from layerlift.engine.model.settings import Settings

HUB_REPO = "Lightricks/LTX-Video"
TEXT_ENCODER_GB = 19.1

OPEN_RAIL = "LTX-Video Open RAIL-M (commercial use allowed, use-based restrictions)"
OPEN_WEIGHTS = "LTXV Open Weights License 0.X (free below 10 M$ yearly revenue)"

# First-pass noise levels of the 0.9.7 and 0.9.8 distilled checkpoints.
DISTILLED_SIGMAS = (1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model that can be asked for by name."""

    name: str
    title: str
    repo: str
    file: str
    gigabytes: float
    settings: Settings


def _entry(
    name: str,
    title: str,
    file: str,
    gigabytes: float,
    licence: str,
    *,
    steps: int,
    guidance: float,
    sigmas: tuple[float, ...] | None = None,
    stochastic: bool = False,
) -> Entry:
    settings = Settings(
        steps=steps,
        guidance=guidance,
        size=(704, 480),
        frames=97,
        longest=257,
        rate=24.0,
        licence=licence,
        sigmas=sigmas,
        stochastic=stochastic,
    )
    return Entry(name, title, HUB_REPO, file, gigabytes, settings)


# In the order in which they are looked for when no model is named.
_ENTRIES = (
    # Published with 40 steps; 30 is where the pictures stop changing, and what the method's users run.
    _entry(
        "ltx-2b-0.9.5",
        "LTX-Video 2B 0.9.5, the default",
        "ltx-video-2b-v0.9.5.safetensors",
        6.34,
        OPEN_RAIL,
        steps=30,
        guidance=3.0,
    ),
    _entry(
        "ltx-2b-0.9.6-distilled",
        "LTX-Video 2B 0.9.6 distilled, 8 steps without guidance",
        "ltxv-2b-0.9.6-distilled-04-25.safetensors",
        6.34,
        OPEN_WEIGHTS,
        steps=8,
        guidance=1.0,
        stochastic=True,
    ),
    _entry(
        "ltx-2b-0.9.8-distilled",
        "LTX-Video 2B 0.9.8 distilled, 7 listed steps without guidance",
        "ltxv-2b-0.9.8-distilled.safetensors",
        6.34,
        OPEN_WEIGHTS,
        steps=len(DISTILLED_SIGMAS),
        guidance=1.0,
        sigmas=DISTILLED_SIGMAS,
    ),
    _entry(
        "ltx-13b-0.9.7",
        "LTX-Video 13B 0.9.7",
        "ltxv-13b-0.9.7-dev.safetensors",
        28.6,
        OPEN_WEIGHTS,
        steps=30,
        guidance=5.0,
    ),
    _entry(
        "ltx-13b-0.9.8",
        "LTX-Video 13B 0.9.8",
        "ltxv-13b-0.9.8-dev.safetensors",
        28.6,
        OPEN_WEIGHTS,
        steps=30,
        guidance=5.0,
    ),
    _entry(
        "ltx-13b-0.9.8-distilled",
        "LTX-Video 13B 0.9.8 distilled, 7 listed steps without guidance",
        "ltxv-13b-0.9.8-distilled.safetensors",
        28.6,
        OPEN_WEIGHTS,
        steps=len(DISTILLED_SIGMAS),
        guidance=1.0,
        sigmas=DISTILLED_SIGMAS,
    ),
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
DEFAULT = _ENTRIES[0]
DEMO = "demo"


def names() -> str:
    """Every name that can be asked for, for messages."""
    return ", ".join([DEMO, *CATALOGUE])


def by_file(file_name: str) -> Entry | None:
    """The entry whose checkpoint has this file name."""
    return next((entry for entry in _ENTRIES if entry.file == file_name), None)
