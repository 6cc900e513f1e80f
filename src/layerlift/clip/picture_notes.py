"""What an output does not keep of how a clip's pictures are shown, in words."""

from __future__ import annotations

from layerlift.clip.clip import Clip

VP9, PNGS = "VP9 in .webm", "a folder of PNGs"


def shape_note(like: Clip) -> list[str]:
    """That a folder of PNGs loses the shape of a clip's pixels. Empty for square pixels."""
    shape = like.pixel_aspect
    if shape == 1:
        return []
    shown = "narrower" if shape > 1 else "wider"
    return [
        f"The pixels' shape of {_named(like)} ({shape.numerator}:{shape.denominator}) is not kept by {PNGS}: players "
        f"show the picture {shown}."
    ]


def fields_note(like: Clip, holder: str) -> list[str]:
    """That the fields of a clip are not woven again in `holder`. Empty for a progressive clip."""
    if like.field_order is None:
        return []
    return [
        f"{_named(like)} is interlaced, which {holder} cannot be: each field becomes a picture of its own, "
        f"{float(like.rate):.4g} a second."
    ]


def _named(like: Clip) -> str:
    return like.name if like.path is None else str(like.path)
