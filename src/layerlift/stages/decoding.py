"""The last step of generating: latents of windows become pixels, frame by frame, as long as they are a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from layerlift.engine.base import Decode, Noise, Picture
from layerlift.engine.device.memory import trim_host
from layerlift.errors import PrecisionError
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.sense import LOOKED_AT_EVERY, Look, look, nonsense
from layerlift.pixels.work import Patch, make_patches
from layerlift.stages.windows import kept_frames

if TYPE_CHECKING:
    from layerlift.stages.generation import Job, Section


def sensible(frames: Iterable[Picture], own: Look | None, job: Job) -> Iterator[Picture]:
    """The frames that a model made, as long as they are pictures; `own` is what the clip looks like there.

    The first is looked at, and one of LOOKED_AT_EVERY after it.

    Raises PrecisionError for one that is saturated, of one colour, or noise, where the clip is not.
    """
    if job.model.settings.random:
        own = None
    for index, frame in enumerate(frames):
        wrong = None if own is None or index % LOOKED_AT_EVERY else nonsense(look(frame), own)
        if wrong is not None:
            exact = job.plan.precise() is None and job.policy.transformer_dtype == "float32"
            why = "its weights are damaged" if exact else f"{job.policy.transformer_dtype} is too coarse for it here"
            way = "choose another --model, or fetch it again" if exact else "try --dtype float32"
            raise PrecisionError(f"{job.model.name} made a frame that is {wrong}: {why}; {way}")
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


def decode_windows(
    decode: Decode,
    sections: Sequence[Section | None],
    job: Job,
    frame_count: int,
    *,
    noise: Noise,
    done: int = 0,
    shelf: Shelf | None = None,
) -> Iterator[Patch | None]:
    """For every frame of the clip what was generated, or None where nothing is wanted.

    The first `done` frames, which are those of whole windows, are left out. The shelf is given where the noise stands
    after each window.
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
        frames = islice(decode(section.latents, noise), kept.start, kept.stop)
        yield from make_patches(sensible(frames, section.own, job), view, box)
        if shelf is not None:
            shelf.put(number, noise.get_state())
        trim_host()
    yield from (None for _ in range(done, frame_count))
