"""Which segmenter looks at a clip, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from layerlift.engine.segmenters import SEGMENTERS, best_installed, find_segmenter
from layerlift.errors import InputError
from layerlift.names import at_home
from layerlift.runtime import Runtime
from layerlift.stages.segment.base import Segmenter

AUTO, CLASSIC, MOBILE = "auto", "classic", "mobile-sam"


def choose_segmenter(given: str, runtime: Runtime) -> str:
    """The name of the segmenter to open, or the path of its folder; for "auto" the best that suits the machine.

    No weight is read. Raises InputError for one that is unknown, or is not on this machine.
    """
    if given == AUTO:
        # Without a GPU, SAM 2 takes seconds a frame.
        best = None if runtime.policy.backend == "cpu" else best_installed()
        return MOBILE if best is None else best.name
    if given in (CLASSIC, MOBILE):
        return given
    entry = SEGMENTERS.get(given)
    if entry is not None:
        if find_segmenter(entry) is None:
            raise InputError(
                f"{given} is not on this machine ({entry.gigabytes:g} GB): run `layerlift download {given}`, or leave "
                "--segmenter out."
            )
        return given
    folder = at_home(given)
    if not folder.is_dir():
        names = ", ".join([AUTO, MOBILE, *SEGMENTERS])
        raise InputError(
            f"unknown --segmenter {given!r}: choose {names} or {CLASSIC}, or give a folder with SAM 2 or SAM 3."
        )
    from layerlift.engine.sam2 import family_of

    family_of(folder)
    return str(folder)


def open_segmenter(name: str, runtime: Runtime | None = None) -> Segmenter:
    """A segmenter that `choose_segmenter` named, ready to look.

    Raises InputError where its weights cannot be read.
    """
    runtime = runtime or Runtime()
    if name == CLASSIC:
        from layerlift.stages.segment.classic import ClassicSegmenter

        return ClassicSegmenter()
    if name == MOBILE:
        from layerlift.stages.segment.mobile import MobileSamSegmenter

        return MobileSamSegmenter(runtime.policy.backend)
    from layerlift.stages.segment.sam2 import Sam2Segmenter

    folder = weights_of(name)
    assert folder is not None, f"{name} was there when it was chosen"
    return Sam2Segmenter(name, folder, runtime.policy.device)


def weights_of(name: str) -> Path | None:
    """The folder that a segmenter's weights are read from; None where they come with the package, or it has none."""
    if name in (CLASSIC, MOBILE):
        return None
    entry = SEGMENTERS.get(name)
    return Path(name) if entry is None else find_segmenter(entry)
