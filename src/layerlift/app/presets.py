"""Formats that results are saved in, under the names of the programs that read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import Preset


@dataclass(frozen=True, slots=True)
class Format:
    """One format: the ending of what is written, "" for a folder of pictures, and the flags that ask for it."""

    preset: Preset
    ending: str
    words: tuple[str, ...] = ()


def _of(
    kind: Literal["layers", "plate", "composite", "mask"], *rows: tuple[str, str, str, str, tuple[str, ...]]
) -> list[Format]:
    return [Format(Preset(f"{kind}-{name}", title, detail, kind), ending, words)
            for name, title, detail, ending, words in rows]  # fmt: skip


CLIPS = (
    ("mp4", "For everything", "H.264, visually lossless, .mp4", ".mp4", ()),
    ("mov", "Resolve / Final Cut", "QuickTime, .mov", ".mov", ()),
    ("png", "After Effects / Nuke", "PNG sequence", "", ()),
    ("webm", "Web", "WebM, VP9", ".webm", ()),
    ("lossless", "Lossless", "FFV1, bit for bit, .mkv", ".mkv", ("--lossless",)),
)
FORMATS = [
    *_of(
        "layers",
        ("prores", "Resolve / Final Cut", "ProRes 4444 with alpha, .mov", ".mov", ()),
        ("after-effects", "After Effects", "PNG sequence, 16 bits, straight alpha", "", ("--format=png",)),
        ("exr", "Nuke", "OpenEXR sequence, half float, premultiplied, linear light", "", ("--format=exr",)),
        ("webm", "Web", "WebM, VP9 with alpha", ".webm", ()),
        ("lossless", "Lossless", "FFV1 with alpha, 16 bits, .mkv", ".mkv", ()),
    ),
    *_of("plate", *CLIPS),
    *_of("composite", *CLIPS),
    *_of(
        "mask",
        ("lossless", "Lossless", "FFV1, .mkv", ".mkv", ("--mask",)),
        ("png", "After Effects / Nuke", "PNG sequence", "", ("--mask",)),
        ("mp4", "For everything", "H.264, .mp4", ".mp4", ("--mask",)),
    ),
]  # fmt: skip


def format_of(name: object) -> Format:
    """A format by its preset's name. Raises RefusalError (400) for one that does not exist."""
    found = next((one for one in FORMATS if one.preset.name == name), None)
    if found is None:
        known = ", ".join(one.preset.name for one in FORMATS)
        raise RefusalError(400, f"there is no preset {str(name)[:40]!r}: give one of {known}.")
    return found
