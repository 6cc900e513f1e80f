"""Finding the traces of a clip along dense motion. Read `find_traces` from top to bottom.

What hides a pixel also hides how it moves. So motion is found twice: first continued under the hole from around it,
then between frames whose holes were filled along that. In the last round a frame also looks at frames farther away,
past neighbours that hide the same. Of all ways to a frame that shows a pixel the one counts whose links explain their
surroundings best: the sum of their errors is what a trace *costs*, and tells how far off its colour is likely to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np

from layerlift.ahead import pool
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
# Done with every frame: it is inpainted, linked and filled in each round, and looked at for what no frame shows.
STEPS = 2 + 2 * len(ROUNDS)


def find_traces(
    proxies: Proxies,
    motion: Motion,
    reach: int,
    progress: StageProgress,
    painted: Mapping[int, np.ndarray] | None = None,
    *,
    fills: bool = True,
) -> Traces:
    """Find the traces of all frames; no link leads from one shot to another, no trace farther than `reach` frames.

    `painted` is what reference frames show in their holes, (h, w) bool by their numbers. Traces that lead there are
    found besides, even where another frame is nearer. `fills`: fill what no frame shows, too. `progress` advances by
    `STEPS` for every frame.
    """
    indices = range(proxies.count)
    with pool() as threads:
        for _ in threads.map(proxies.fill, indices):
            progress.advance()
    exposures = find_exposures(proxies, motion, progress)
    traces, filled = Traces(proxies.size, exposures), None
    try:
        for number, strides in enumerate(ROUNDS):
            last = number == len(ROUNDS) - 1
            traces.close()
            traces = Traces(proxies.size, exposures)
            with ExitStack() as stack, pool() as threads:
                if filled is not None:
                    stack.callback(filled.close)
                tracer = Tracer(proxies, motion, exposures, reach, strides=strides, filled=filled, progress=progress)
                stack.callback(tracer.close)
                # 1. How every frame lies to the others: the links of a pair lead both ways.
                for _ in threads.map(tracer.link, indices):
                    progress.advance()
                # 2. Follow them to frames that show what is hidden, before and after.
                walks: list[tuple[Traces, Mapping[int, np.ndarray] | None]] = [(traces, None)]
                if painted and last:
                    traces.painted = Traces(proxies.size, exposures)
                    walks.append((traces.painted, painted))
                for done in [threads.submit(tracer.walk, side, *walk) for walk in walks for side in (0, 1)]:
                    done.result()
                # 3. Fill the frames: for the round that comes, and in the last one for what no frame shows.
                filled = Shelf()
                for index, parts in enumerate(threads.map(partial(tracer.fill, traces), indices)):
                    filled.put(index, *parts)
                    progress.advance()
                if last and fills:
                    traces.fills = fill_unseen(
                        proxies, motion, tracer, filled, references=painted or (), threads=threads, progress=progress
                    )
    except BaseException:
        traces.close()
        raise
    finally:
        if filled is not None:
            filled.close()
    return traces
