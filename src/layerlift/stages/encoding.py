"""The first step of generating: the clip is read once, and its windows become latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from layerlift.engine.base import Encode, Latents
from layerlift.engine.device import Policy
from layerlift.engine.device.memory import trim_host
from layerlift.geometry.fit import Window
from layerlift.geometry.focus import Box
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.sense import LOOKED_AT_EVERY, Look, liveliest, look
from layerlift.pixels.work import fit_regions
from layerlift.progress import StageProgress
from layerlift.stages.windows import cut, filed, kept_frames

if TYPE_CHECKING:
    from layerlift.stages.generation import Job

# A frame (H, W, 3) uint8 at the clip's size, and (H, W) bool, True where its pixels are to be generated.
Wanted = tuple[np.ndarray, np.ndarray]
# Of a section that was read and not encoded yet.
NO_LATENTS = np.zeros((1, 0, 0, 0, 0), np.float32)


@dataclass(slots=True)
class Section:
    """A window with something to generate, between the steps.

    Attributes:
        window: its frames.
        latents: (1, C, f, h, w) float32, in a file.
        unknown: (f, h, w) bool.
        shown: whether any frame kept from this window has a pixel to generate.
        box: the part of the picture it shows; None: all of it.
        own: what the clip looks like in it.
    """

    window: Window
    latents: Latents
    unknown: np.ndarray
    shown: bool
    box: Box | None = None
    own: Look | None = None

    def copy(self) -> Section:
        """One whose arrays can be changed while these stay."""
        return replace(self, latents=filed(self.latents), unknown=self.unknown.copy())


def kept_sections(job: Job, shelf: Shelf | None) -> list[Section | None]:
    """The first windows as they lie on a shelf."""
    sections: list[Section | None] = []
    for number in range(0 if shelf is None else len(shelf)):
        assert shelf is not None
        found = shelf.get(number)
        section = None
        if found:
            latents, unknown, shown, own = found
            window, box = job.windows[number], job.view.boxes[number]
            section = Section(window, filed(latents), unknown, bool(shown), box, Look(*own.tolist()))
        sections.append(section)
    return sections


def encode_windows(
    encode: Encode,
    frames: Callable[[int], Iterable[Wanted]],
    job: Job,
    frame_count: int,
    policy: Policy,
    done: int = 0,
    shelf: Shelf | None = None,
    *,
    progress: StageProgress,
) -> Iterator[Section | None]:
    """Read the frames once and encode the windows in which anything is to be generated; the others are None.

    The first `done` windows are left out; the others are put onto the shelf, too.
    """
    for number, read in enumerate(read_windows(frames, job, frame_count, policy, done, progress=progress), done):
        section = None if read is None else encode_section(encode, *read)
        keep_section(shelf, number, section)
        yield section
        # Frames that come and go leave gaps in the heap, more of them the longer the clip.
        trim_host()


def read_windows(
    frames: Callable[[int], Iterable[Wanted]],
    job: Job,
    frame_count: int,
    policy: Policy,
    done: int = 0,
    *,
    progress: StageProgress,
) -> Iterator[tuple[np.ndarray, Section] | None]:
    """Read the frames once: of each window its own (F, H, W, 3) uint8 at the model's size, and a section without
    latents; None where nothing is to be generated. The first `done` windows are left out."""
    view = job.view
    if done == len(view.windows):
        return
    first = view.windows[done].start

    def counted() -> Iterator[Wanted]:
        for item in frames(first):
            yield item
            progress.advance()

    regions = (view.region(index) for index in range(first, frame_count))
    fitted = fit_regions(counted(), regions, view.fit, policy)
    windows, boxes = view.windows[done:], view.boxes[done:]
    for (window, parts), box in zip(cut(fitted, windows, first), boxes, strict=True):
        # Frames beyond the clip's end repeat the last one, which the last window sees whole.
        pairs = [part.cut(box) for part in parts if part is not None]
        hidden = np.stack([hidden for _, hidden in pairs])  # (F, H, W)
        if not hidden.any():
            yield None
            continue
        shown = bool(hidden[kept_frames(window)].any())
        own = liveliest([look(frame.astype(np.float32), ~hides) for frame, hides in pairs[::LOOKED_AT_EVERY]])
        yield (
            np.stack([frame for frame, _ in pairs]),
            Section(window, NO_LATENTS, job.model.unknown_tokens(hidden), shown, box, own),
        )
    for _ in fitted:
        pass  # what no window needs


def encode_section(encode: Encode, frames: np.ndarray, section: Section) -> Section:
    """A section of `read_windows` with its latents."""
    return replace(section, latents=filed(encode(frames)))


def keep_section(shelf: Shelf | None, number: int, section: Section | None) -> None:
    """Put a section onto a shelf, as `kept_sections` finds it."""
    if shelf is None:
        return
    if section is None:
        shelf.put(number)
        return
    assert section.own is not None
    shelf.put(number, section.latents, section.unknown, np.array(section.shown), np.array(astuple(section.own)))
