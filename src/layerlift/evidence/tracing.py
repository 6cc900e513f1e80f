"""Finding the traces of a clip along dense motion. Read `find_traces` from top to bottom.

What hides a pixel also hides how it moves. So motion is found twice: first continued under the hole from around it,
then between frames whose holes were filled along that. In the last round a frame also looks at frames farther away,
past neighbours that hide the same. Of all ways to a frame that shows a pixel the one counts whose links explain their
surroundings best: the sum of their errors is what a trace *costs*, and tells how far off its colour is likely to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from layerlift.ahead import pool
from layerlift.evidence.exposure import find_exposures
from layerlift.evidence.fills import fill_unseen
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies
from layerlift.evidence.tracer import Tracer
from layerlift.evidence.traces import Traces
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.jobs.shelf import Shelf
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
    keeper: Keeper = TEMPORARY,
) -> Traces:
    """Find the traces of all frames; no link leads from one shot to another, no trace farther than `reach` frames.

    `painted` is what reference frames show in their holes, (h, w) bool by their numbers. Traces that lead there are
    found besides, even where another frame is nearer. `fills`: fill what no frame shows, too. `progress` advances by
    `STEPS` for every frame.
    """
    with pool() as threads:
        each_frame(threads, proxies.count, proxies.is_filled, proxies.fill, progress=progress, keeper=keeper)
    exposures = find_exposures(proxies, motion, progress, keeper)
    filled: Shelf | None = None
    traces: Traces | None = None
    try:
        with ExitStack() as files:
            for number, strides in enumerate(ROUNDS):
                before, filled = filled, files.enter_context(keeper.shelf(f"filled-{number}", packed=False))
                last = number == len(ROUNDS) - 1
                if len(filled) == proxies.count and not last:
                    keeper.skip(progress, "trace", 2 * proxies.count)
                    continue
                own = keeper.part(f"round-{number}")
                tracer = Tracer(
                    proxies, motion, exposures, reach, strides=strides, filled=before, progress=progress, keeper=own
                )
                files.callback(tracer.close)
                traces = Traces(proxies.size, exposures, own.shelf("traces"))
                trace_round(tracer, traces, filled, painted if last else None, proxies, progress=progress, keeper=own)
                if not last:
                    traces.close()
                    tracer.drop()
                    own.drop("traces")
                elif fills:
                    traces.fills = fill_unseen(
                        proxies, motion, tracer, filled, references=painted or (), progress=progress, keeper=own
                    )
    except BaseException:
        if traces is not None:
            traces.close()
        raise
    assert traces is not None
    return traces


def trace_round(
    tracer: Tracer,
    traces: Traces,
    filled: Shelf,
    painted: Mapping[int, np.ndarray] | None,
    proxies: Proxies,
    *,
    progress: StageProgress,
    keeper: Keeper,
) -> None:
    """One round: put the traces of all frames into `traces`, and every frame as they fill it into `filled`.

    `painted`: see `find_traces`; None where no traces to what reference frames show are wanted.
    """
    with pool() as threads:
        # 1. How every frame lies to the others: the links of a pair lead both ways.
        each_frame(threads, proxies.count, tracer.is_linked, tracer.link, progress=progress, keeper=keeper)
        # 2. Follow them to frames that show what is hidden, before and after.
        walks: list[tuple[Traces, Mapping[int, np.ndarray] | None]] = [(traces, None)]
        if painted:
            traces.painted = Traces(proxies.size, traces.exposures, keeper.shelf("painted"))
            walks.append((traces.painted, painted))
        for done in [threads.submit(tracer.walk, side, *walk) for walk in walks for side in (0, 1)]:
            done.result()

        # 3. Fill the frames: for the round that comes, and in the last one for what no frame shows.
        def fill(index: int) -> None:
            filled.put(index, *tracer.fill(traces, index))

        each_frame(threads, proxies.count, filled.__contains__, fill, progress=progress, keeper=keeper)


def each_frame(
    threads: ThreadPoolExecutor,
    count: int,
    done: Callable[[int], bool],
    work: Callable[[int], None],
    *,
    progress: StageProgress,
    keeper: Keeper,
) -> None:
    """Work on the frames that are not `done`; `progress` advances by one for every frame."""
    left = [index for index in range(count) if not done(index)]
    keeper.skip(progress, "trace", count - len(left))
    for _ in threads.map(work, left):
        progress.advance()
