"""Which segmenter looks at a clip, and how it is opened."""

from __future__ import annotations

from layerlift.errors import InputError
from layerlift.runtime import Runtime
from layerlift.stages.segment.base import Segmenter

AUTO, CLASSIC, MOBILE = "auto", "classic", "mobile-sam"


def choose_segmenter(given: str, runtime: Runtime) -> str:
    """The name of the segmenter to open. Raises InputError for an unknown one."""
    if given in (CLASSIC, MOBILE):
        return given
    if given == AUTO:
        return MOBILE
    raise InputError(f"unknown --segmenter {given!r}: choose {AUTO}, {MOBILE} or {CLASSIC}.")


def open_segmenter(name: str, runtime: Runtime | None = None) -> Segmenter:
    """A segmenter that `choose_segmenter` named, ready to look."""
    runtime = runtime or Runtime()
    if name == CLASSIC:
        from layerlift.stages.segment.classic import ClassicSegmenter

        return ClassicSegmenter()
    from layerlift.stages.segment.mobile import MobileSamSegmenter

    return MobileSamSegmenter(runtime.policy.backend)
