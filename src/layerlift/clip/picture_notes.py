"""What an output does not keep of how a clip's pictures are shown, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlift.clip.chroma import is_kept, place_name
from layerlift.clip.clip import Clip
from layerlift.clip.view import HLG, PQ

if TYPE_CHECKING:
    from layerlift.clip.coding import Coding

_CODECS = {"libx264": "H.264", "libx265": "HEVC", "prores_ks": "ProRes", "ffv1": "FFV1", "libvpx-vp9": "VP9"}
_TRANSFERS, _PRIMARIES = {PQ: "PQ", HLG: "HLG"}, {9: "BT.2020 primaries", 11: "DCI-P3 primaries", 12: "P3 primaries"}
VP9, PNGS = "VP9 in .webm", "a folder of PNGs"


def shape_note(like: Clip) -> list[str]:
    """That a folder of PNGs loses the shape of a clip's pixels. Empty for square pixels."""
    shape = like.pixel_aspect
    if shape == 1:
        return []
    shown = "narrower" if shape > 1 else "wider"
    return [
        f"A folder of PNGs cannot store the pixel aspect ratio of {_named(like)} "
        f"({shape.numerator}:{shape.denominator}): players show the picture {shown}."
    ]


def colour_note(like: Clip) -> list[str]:
    """That a folder of PNGs does not say what the colours of a clip of HDR or of a wide gamut are. Else empty."""
    said = [*filter(None, (_TRANSFERS.get(like.color.transfer), _PRIMARIES.get(like.color.primaries)))]
    if not said:
        return []
    return [f"{_named(like)} has colours in {' with '.join(said)}, which {PNGS} cannot record."]


def chroma_note(like: Clip, coding: Coding, ending: str) -> list[str]:
    """That an output loses where the chroma of a clip lies. Empty where it says that, or nothing is known."""
    if coding.chroma is None or is_kept(coding.chroma, coding.codec, ending):
        return []
    holder = f"{_CODECS[coding.codec]} in {ending}"
    return [f"{holder} does not keep the chroma sample position of {_named(like)} ({place_name(coding.chroma)})."]


def fields_note(like: Clip, holder: str) -> list[str]:
    """That the fields of a clip are not woven again in `holder`. Empty for a progressive clip."""
    if like.field_order is None:
        return []
    return [
        f"{_named(like)} is interlaced, which {holder} cannot be: each field becomes its own picture, "
        f"{float(like.rate):.4g} a second."
    ]


def _named(like: Clip) -> str:
    return like.name if like.path is None else str(like.path)
