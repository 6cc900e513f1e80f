"""A removal that goes on where an earlier process ended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from layerlift.stages.removal import RemovalPlan, run_removal
from layerlift.stages.removal.paste_back import Provenance
from layerlift.stages.spool import FrameSpool


def go_on_removing(plan: RemovalPlan, provenance: Provenance | None = None) -> Iterator[np.ndarray]:
    """Yield the clean plate's frames as `run_removal` does: those that are kept, then the rest, which is kept.

    `provenance` is told of all of them.
    """
    keeper = plan.runtime.keeper
    if not keeper.lasts:
        yield from run_removal(plan, provenance)
        return
    with FrameSpool(keeper.shelf("plate"), plan.clip.frames) as plates, keeper.shelf("states") as states:
        done = len(plates) if provenance is None else min(len(plates), len(states))
        numbers = count(done)

        def tell(state: np.ndarray) -> None:
            if provenance is not None:
                states.put(next(numbers), state)
                provenance(state)

        for index, frame in enumerate(plates.frames(0, done)):
            if provenance is not None:
                provenance(states.get(index)[0])
            yield frame
        for index, frame in enumerate(run_removal(plan, tell, done), done):
            if index == len(plates):
                plates.append(frame)
            yield frame
