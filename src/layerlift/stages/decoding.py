"""The last step of generating: latents of windows become pixels, frame by frame, as long as they are a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from layerlift.engine.base import Decode, Noise, Picture
from layerlift.engine.device.memory import trim_host
from layerlift.errors import PrecisionError
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.sense import LOOKED_AT_EVERY, Look, look, nonsense
from layerlift.pixels.work import Patch, make_patches
from layerlift.report import Report
from layerlift.stages.windows import kept_frames

if TYPE_CHECKING:
    from layerlift.stages.encoding import Section
    from layerlift.stages.generation import Job

T = TypeVar("T")


def precisely(work: Callable[[Job, int], Iterator[T]], job: Job, report: Report, start: int = 0) -> Iterator[T]:
    """What `work` yields from number `start` on; in float32 from where the result is no picture, if memory allows.

    What was yielded already stays.

    Raises PrecisionError where the result is no picture in float32 either, or there is no memory for it.
    """
    while True:
        try:
            for item in work(job, start):
                yield item
                start += 1
            return
        except PrecisionError as error:
            precise, said = job.plan.precise(), str(error)
            if precise is None:
                raise
        # Beyond the block: the exception holds on to everything that the work had made.
        report.note(f"{said.split(':', maxsplit=1)[0]}; trying again in float32")
        job = replace(job, plan=precise)


def check_picture(frame: Picture, own: Look, job: Job, made: np.ndarray | None = None) -> None:
    """Raises PrecisionError for a frame that is saturated, of one colour, or noise, where the clip, `own`, is not.

    `made` (H, W) bool: where the model made it; None: everywhere.
    """
    wrong = None if job.model.settings.random else nonsense(look(frame, made), own)
    if wrong is not None:
        exact = job.plan.precise() is None and job.policy.transformer_dtype == "float32"
        why = "its weights are damaged" if exact else f"{job.policy.transformer_dtype} is too coarse for it here"
        way = "choose another --model, or fetch it again" if exact else "try --dtype float32"
        raise PrecisionError(f"{job.model.name} made a frame that is {wrong}: {why}; {way}")


def sensible(frames: Iterable[Picture], own: Look | None, job: Job) -> Iterator[Picture]:
    """The frames that a model made, as long as they are pictures; `own` is what the clip looks like there.

    The first is looked at, and one of LOOKED_AT_EVERY after it. Raises PrecisionError as `check_picture`.
    """
    for index, frame in enumerate(frames):
        if own is not None and index % LOOKED_AT_EVERY == 0:
            check_picture(frame, own, job)
        yield frame


def decoded_before(start: int, job: Job, sections: Sequence[Section | None], shelf: Shelf | None, noise: Noise) -> int:
    """How many frames lie in windows that end before frame `start` and need not be decoded again; the noise is put
    where it stood after them."""
    done = 0
    for number, (window, section) in enumerate(zip(job.windows, sections, strict=True)):
        drawn = section is not None and section.shown
        if window.keep_stop > start or (drawn and (shelf is None or number not in shelf)):
            break
        if drawn and shelf is not None:
            noise.set_state(shelf.get(number)[0])
        done = window.keep_stop
    return done


def kept_pictures(decode: Decode, section: Section, noise: Noise) -> Iterator[Picture]:
    """The pictures of a window's kept frames. Noise that is drawn at the beginning has been drawn on return."""
    kept = kept_frames(section.window)
    return islice(decode(section.latents, noise), kept.start, kept.stop)


def decode_windows(
    decode: Callable[[int], Iterable[Picture]],
    sections: Sequence[Section | None],
    job: Job,
    frame_count: int,
    done: int = 0,
) -> Iterator[Patch | None]:
    """For every frame of the clip what was generated, or None where nothing is wanted.

    `decode` is asked for the pictures of a window's kept frames, by the window's number. The first `done` frames, which
    are those of whole windows, are left out.
    """
    view = job.view
    for number, (window, section, box) in enumerate(zip(view.windows, sections, view.boxes, strict=True)):
        if window.keep_stop <= done:
            continue
        yield from (None for _ in range(done, window.keep_start))
        done = window.keep_stop
        kept = kept_frames(window)
        if section is None or not section.shown:
            yield from (None for _ in range(kept.start, kept.stop))
            continue
        yield from make_patches(sensible(decode(number), section.own, job), view, box)
        trim_host()
    yield from (None for _ in range(done, frame_count))
