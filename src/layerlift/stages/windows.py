"""A clip in windows: what lies between the passes of a model, and the passes themselves.

A model never has all of a clip before it, and never all of itself in memory: each of its parts is opened once, runs
over every window, and goes. Between the passes nothing is kept of the video but latents, which lie in temporary files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TypeVar

import numpy as np

from layerlift.engine.base import Decode, Encode, Engine
from layerlift.engine.device.budget import attempt, attempt_each
from layerlift.engine.device.plan import Plan
from layerlift.geometry.fit import Window
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.temporary import reserve, temporary_file

T = TypeVar("T")
Part = TypeVar("Part")


def run_pass(
    part: Callable[[Plan], AbstractContextManager[Part]],
    work: Callable[[Part, Plan, StageProgress], T],
    plan: Plan,
    stage: str,
    total: int,
    runtime: Runtime,
    *,
    name: str | None = None,
) -> tuple[T, Plan]:
    """One pass over a clip's windows by one part of a model: what `work` made, and the plan it was made under.

    Args:
        part: opens the part under a plan.
        work: is given the part, the plan and the stage's progress; it may be called again, under a smaller plan, when
            memory ran out in it, so it must leave what it was given as it was.
        plan: how it runs in the memory there is.
        stage: of the plan: "encode", "denoise" or "decode".
        total: steps of the progress.
        runtime: whom it tells.
        name: of the stage for the user; None is the plan's.

    Raises:
        LayerliftError: memory ran out and there is no smaller plan.
    """

    def once(given: Plan) -> T:
        with (
            runtime.report.stage(name or stage),
            runtime.progress.stage(name or stage, total) as bar,
            part(given) as opened,
        ):
            return work(opened, given, bar)

    return attempt(plan, stage, once, runtime.report.note, name=name)


def run_pass_each(
    part: Callable[[Plan], AbstractContextManager[Part]],
    work: Callable[[Part, Plan, StageProgress], Iterator[T]],
    plan: Plan,
    stage: str,
    total: int,
    runtime: Runtime,
) -> Iterator[T]:
    """`run_pass` for work that yields: what was yielded already is made again and left out."""

    def once(given: Plan) -> Iterator[T]:
        with (
            runtime.report.stage(stage),
            runtime.progress.stage(stage, total) as bar,
            part(given) as opened,
        ):
            yield from work(opened, given, bar)

    return attempt_each(plan, stage, once, runtime.report.note)


def encoder(model: Engine) -> Callable[[Plan], AbstractContextManager[Encode]]:
    """A model's VAE encoder as a pass opens it."""
    return lambda plan: model.encoding(plan.policy)


def decoder(model: Engine) -> Callable[[Plan], AbstractContextManager[Decode]]:
    """A model's VAE decoder as a pass opens it."""
    return lambda plan: model.decoding(plan.policy)


def cut(items: Iterator[T], windows: Sequence[Window], first: int = 0) -> Iterator[tuple[Window, list[T]]]:
    """Deal one item a frame, from frame `first` on, out to windows, which may overlap or leave frames out.

    The last is repeated at the end. One window's items are held.
    """
    held: deque[T] = deque()
    for window in windows:
        while first < window.start:
            if held:
                held.popleft()
            else:
                next(items)
            first += 1
        while len(held) < window.frame_count:
            held.append(next(items, held[-1]) if held else next(items))
        yield window, list(islice(held, window.frame_count))


def kept_frames(window: Window) -> slice:
    """Which of a window's own frames are the clip's."""
    return slice(window.keep_start - window.start, window.keep_stop - window.start)


def filed(array: np.ndarray) -> np.ndarray:
    """A copy of an array whose memory is a temporary file's: the system may drop it and read it again, so that a clip's
    length costs no memory. The file has no name, and goes when the array does.

    Raises LayerliftError when the disk has no room for it.
    """
    if array.size == 0:
        return array.copy()
    with temporary_file("latents") as file:
        reserve(file.fileno(), array.nbytes)
        # The mapping keeps the file until it is let go of.
        copy = np.memmap(file, array.dtype, "w+", shape=array.shape)
    copy[...] = array
    return np.asarray(copy)
