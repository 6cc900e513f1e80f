"""Evidence: what the clip shows of its hidden pixels in other frames. Read `gather_evidence` from top to bottom.

The clip is passed twice: once to follow the camera, once to gather. What is held is the frames in reach, and what was
gathered goes to a temporary file.
"""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.align import Aligner, Box
from layerlift.evidence.choose import Lag, choose_frames
from layerlift.evidence.combine import combine
from layerlift.evidence.decide import Decider
from layerlift.evidence.join import join
from layerlift.evidence.motion import Motion, follow
from layerlift.evidence.reach import Reach
from layerlift.evidence.state import EvidenceOptions, State
from layerlift.evidence.store import Evidence, Spool
from layerlift.masks import Mask
from layerlift.pixels import distance_to, grow
from layerlift.progress import QUIET, Progress

# Frames in reach unless said otherwise, in seconds.
REACH_SECONDS = 10.0
# What lies within this share of the picture's shorter side around the mask tells how frames agree; at least so many
# pixels.
RING_SHARE = 1 / 16
RING_LEAST = 24


def gather_evidence(
    clip: Clip,
    mask: Mask,
    *,
    dilate: int,
    options: EvidenceOptions | None = None,
    progress: Progress = QUIET,
) -> Evidence:
    """Gather what other frames show of the pixels that the mask, grown by `dilate` pixels, hides.

    Returns an `Evidence` that has to be closed. Nothing is taken across a cut.
    """
    options = options or EvidenceOptions()
    # 1. Follow the camera.
    with progress.stage("motion", clip.frame_count) as bar:
        motion = follow(clip, mask, dilate, bar)

    # 2. Gather, frame by frame and box by box.
    reach = round(REACH_SECONDS * clip.rate) if options.reach is None else options.reach
    held = Reach(clip, mask, dilate, min(reach, clip.frame_count - 1), options.memory)
    width = max(RING_LEAST, round(RING_SHARE * min(clip.width, clip.height)))
    spool, aligner, decider, lag = Spool(), Aligner(motion, held), Decider(motion), Lag()
    hidden_count = gathered_count = 0
    try:
        with progress.stage("gather", clip.frame_count) as bar:
            for present in held.walk():
                hidden = held[present].hidden
                frame = held[present].frame.copy()
                state = np.where(hidden, np.uint8(State.UNKNOWN), np.uint8(State.ORIGINAL))
                decider.begin(hidden.shape)
                for box in boxes_around(hidden, width):
                    gather_box(
                        frame, state, motion=motion, held=held, present=present, box=box, width=width,
                        options=options, aligner=aligner, decider=decider, lag=lag,
                    )  # fmt: skip
                decider.end(present)
                aligner.forget(present)
                spool.append(frame, state)
                hidden_count += int(hidden.sum())
                gathered_count += int((state == State.GATHERED).sum())
                bar.advance()
    except BaseException:
        spool.close()
        raise
    finally:
        aligner.close()
    return Evidence(clip, spool, motion, hidden=hidden_count, gathered=gathered_count)


def gather_box(
    frame: np.ndarray,
    state: np.ndarray,
    *,
    motion: Motion,
    held: Reach,
    present: int,
    box: Box,
    width: int,
    options: EvidenceOptions,
    aligner: Aligner,
    decider: Decider,
    lag: Lag,
) -> None:
    """Write what is found about a box into `frame` (H, W, 3) uint8 and `state` (H, W) uint8."""
    left, top, right, bottom = box
    part = np.s_[top:bottom, left:right]
    hidden, truth = held[present].hidden[part], held[present].frame[part]
    ring = ~hidden & (distance_to(hidden) <= width)
    sources, carriers = choose_frames(motion, held, present, box, count=options.samples, lag=lag)
    samples = aligner.take(present, sources, box, ring)
    if not samples.sources:
        return
    places = [samples.sources.index(source) for source in carriers if source in samples.sources]
    samples, doubt = decider.leave_out(samples)
    found = combine(samples, truth, hidden, ring, carriers=places)
    sure = decider.sure(found, doubt, truth, hidden, present=present, box=box)
    values = join(found.values, truth, hidden, ring & found.any_sample)
    taken = hidden & sure
    frame[part][taken] = np.clip(np.rint(values[taken]), 0, 255).astype(np.uint8)
    state[part][taken] = State.GATHERED


def boxes_around(hidden: np.ndarray, width: int) -> list[Box]:
    """Boxes (left, top, right, bottom) around hidden regions and `width` pixels about them; none overlap."""
    if not hidden.any():
        return []
    height, full = hidden.shape
    # Whatever is nearer than twice the ring shares it.
    near = grow(hidden, width)
    count, _, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:count]]
    merged = True
    while merged:
        merged = False
        for i in range(len(boxes)):
            for j in range(i):
                a, b = boxes[i], boxes[j]
                if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
                    boxes[j] = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
                    del boxes[i]
                    merged = True
                    break
            if merged:
                break
    return [(max(0, x0), max(0, y0), min(full, x1), min(height, y1)) for x0, y0, x1, y1 in boxes]
