"""Finding the traces of a clip along dense motion. Read `find_traces` from top to bottom.

What hides a pixel also hides how it moves. So motion is found twice: first continued under the hole from around it,
then between frames whose holes were filled along that. In the last round a frame also looks at frames farther away,
past neighbours that hide the same. Of all ways to a frame that shows a pixel the one counts whose links explain their
surroundings best: the sum of their errors is what a trace *costs*, and tells how far off its colour is likely to be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from layerlift.evidence.exposure import find_exposures
from layerlift.evidence.fills import fill_unseen
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies
from layerlift.evidence.shelf import Shelf
from layerlift.evidence.tracer import Tracer
from layerlift.evidence.traces import Traces
from layerlift.progress import StageProgress

# How many frames away links lead, round by round.
ROUNDS = ((1,), (1, 3, 8))
# Frames are linked by so many threads: OpenCV works outside of the interpreter.
WORKERS = min(4, os.cpu_count() or 1)


def find_traces(
    proxies: Proxies,
    motion: Motion,
    reach: int,
    progress: StageProgress,
    painted: Mapping[int, np.ndarray] | None = None,
) -> Traces:
    """Find the traces of all frames; no link leads from one shot to another, no trace farther than `reach` frames.

    `painted` is what reference frames show in their holes, (h, w) bool by their numbers. Traces that lead there are
    found besides, even where another frame is nearer. `progress` advances by `len(ROUNDS)` for every frame.
    """
    filled: Shelf | None = None
    indices = range(proxies.count)
    with ThreadPoolExecutor(WORKERS) as threads:
        for _ in threads.map(proxies.fill, indices):
            pass
    exposures = find_exposures(proxies, motion)
    traces = Traces(proxies.size, exposures)
    try:
        for number, strides in enumerate(ROUNDS):
            traces.close()
            traces = Traces(proxies.size, exposures)
            tracer = Tracer(proxies, motion, exposures, reach, strides=strides, filled=filled)
            with ThreadPoolExecutor(WORKERS) as threads:
                # 1. How every frame lies to the others: the links of a pair lead both ways.
                for _ in threads.map(tracer.link, indices):
                    progress.advance()
                # 2. Follow them to frames that show what is hidden, before and after.
                walks: list[tuple[Traces, Mapping[int, np.ndarray] | None]] = [(traces, None)]
                if painted and number == len(ROUNDS) - 1:
                    traces.painted = Traces(proxies.size, exposures)
                    walks.append((traces.painted, painted))
                for done in [threads.submit(tracer.walk, side, *walk) for walk in walks for side in (0, 1)]:
                    done.result()
                # 3. Fill the frames: for the round that comes, and in the last one for what no frame shows.
                before, filled = filled, Shelf()
                for index, parts in enumerate(threads.map(partial(tracer.fill, traces), indices)):
                    filled.put(index, *parts)
                if before is not None:
                    before.close()
                if number == len(ROUNDS) - 1:
                    traces.fills = fill_unseen(
                        proxies, motion, tracer, filled, references=painted or (), threads=threads
                    )
            tracer.close()
    except BaseException:
        traces.close()
        raise
    finally:
        if filled is not None:
            filled.close()
    return traces
