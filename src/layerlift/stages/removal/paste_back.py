"""Generated pixels go back into the frames they were made for, and whoever asks is told where pixels come from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from layerlift.engine.device import Policy
from layerlift.evidence import State
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.arrays import grow
from layerlift.pixels.work import Patch, paste_patches

# Frames (H, W, 3) uint8, each with where its pixels come from, `State` (H, W) uint8.
Frames = Iterator[tuple[np.ndarray, np.ndarray]]
# Told where a frame's pixels come from, before the frame is handed on: `State` (H, W) uint8.
Provenance = Callable[[np.ndarray], None]
NOTHING = np.zeros((0, 0), bool)


def told(frames: Frames, provenance: Provenance | None) -> Iterator[np.ndarray]:
    """The frames alone; where their pixels come from is told before each."""
    for frame, state in frames:
        if provenance is not None:
            provenance(state)
        yield frame


def paste_generated(
    frames: Iterable[tuple[np.ndarray, np.ndarray]],
    generated: Iterable[Patch | None],
    feather: int,
    policy: Policy,
    provenance: Provenance | None = None,
    *,
    shelf: Shelf | None = None,
    first: int = 0,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 with what was generated where no frame of the clip tells.

    `frames` yields (H, W, 3) uint8 with `State` (H, W) uint8; `provenance` is told that with GENERATED in place of
    UNKNOWN. Against the clip's own pixels the result fades inside the hidden ones, against gathered pixels over those.

    Frames and patches begin with frame `first`, what is yielded with frame `start`; `shelf`: see `paste_patches`.
    """
    states: deque[np.ndarray] = deque()

    def items() -> Iterator[tuple[np.ndarray, np.ndarray, Patch | None]]:
        for (frame, state), patch in zip(frames, generated, strict=True):
            if patch is None:
                blended, made = NOTHING, state
            else:
                left, top, right, bottom = patch.spot
                under = state[top:bottom, left:right]
                unknown = under == State.UNKNOWN
                blended = grow(unknown, feather) & (under != State.ORIGINAL)
                made = state
                if provenance is not None:
                    made = state.copy()
                    made[top:bottom, left:right][unknown] = State.GENERATED
            states.append(made)
            yield frame, blended, patch

    pasted = ((frame, states.popleft()) for frame in paste_patches(items(), feather, policy, shelf, first))
    yield from told(islice(pasted, start - first, None), provenance)
