"""From frames in which objects are known to every frame: for segmenters of single frames.

Keyframes are looked at, a few frames apart. From one to the next, masks follow dense flow; there the segmenter is asked
again about what is expected: the mask that came along the flow, and what looks like the object did in other frames. The
clip is gone through forward and backward, from every frame that the user touched; between two of those the results are
blended. Frames between keyframes take the masks of both, carried along the flow, with the frame's own edges.

Nothing that grows with the clip stays in memory: small frames, embeddings and masks wait in temporary files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.jobs.keeper import TEMPORARY, Keeper, kept
from layerlift.progress import Progress
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target, from_grid
from layerlift.stages.segment.between import at_key, between, labels_of
from layerlift.stages.segment.prompts import asked_of_user, without
from layerlift.stages.segment.survey import Survey, chosen_frames, keyframes, working_size
from layerlift.stages.segment.walk import PerImage, Walk, goes_on, sigmoid
from layerlift.stages.spool import FrameSpool

WAYS = "forward", "backward"
# A mask of more of the picture is no object; a click may miss its mask by this share of the picture's longer side.
EVERYTHING, NEARBY = 0.98, 0.01


def track(
    segmenter: PerImage,
    clip: Clip,
    targets: Sequence[Target],
    progress: Progress,
    keeper: Keeper = TEMPORARY,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """See `Segmenter.track`."""
    if start == clip.frame_count:
        return
    with ExitStack() as files:
        known, looked = first_look(segmenter, clip, targets, progress, keeper)
        survey = files.enter_context(Survey(clip, progress, keeper))
        keys = keyframes(clip.frame_count, survey.shots, targets)
        ways = [files.enter_context(FrameSpool(keeper.shelf(name))) for name in WAYS]
        if min(map(len, ways)) < len(keys):
            with FrameSpool(keeper.shelf("views", packed=False)) as views:
                look(segmenter, clip, keys, looked, views, progress=progress, keeper=keeper)
                follow(Walk(segmenter, clip, targets, survey, keys, views, known), ways, progress, keeper)
        looked.clear()
        keeper.drop("views", *(f"{name}-trail" for name in WAYS))
        forward, backward = ways
        with progress.stage("masks", clip.frame_count) as bar:
            keeper.skip(bar, "masks", start)
            both = zip(keys, forward.frames(), backward.frames_backward(), strict=True)
            shares = between(keys, (at_key(targets, *masks) for masks in both), survey.grey, start)
            for frame, share in zip(clip.frames(start), shares, strict=True):
                yield labels_of(frame, share)
                bar.advance()


def first_look(
    segmenter: PerImage, clip: Clip, targets: Sequence[Target], progress: Progress, keeper: Keeper
) -> tuple[dict[tuple[int, int], np.ndarray], dict[int, np.ndarray]]:
    """The masks (h, w) float32 of targets in frames where all is said of them, by number of the target and the frame.

    With them, what the embeddings of frames that were looked at hold. Raises InputError where nothing is found.
    """
    size = working_size(clip)
    frames = sorted({frame for target in targets for frame in target.prompts})

    def looks(done: int) -> Iterator[tuple[np.ndarray, dict[int, np.ndarray]]]:
        keeper.skip(bar, "first look", done)
        for index, frame in zip(frames[done:], chosen_frames(clip, frames[done:]), strict=True):
            embedding = segmenter.embed(frame)
            yield embedding.content, seen_at(segmenter, embedding, clip, targets, index)
            bar.advance()

    known: dict[tuple[int, int], np.ndarray] = {}
    looked: dict[int, np.ndarray] = {}
    with progress.stage("first look", len(frames)) as bar:
        for index, (content, masks) in zip(frames, kept(keeper, "first", looks, pack, unpack), strict=True):
            looked[index] = content
            known |= {(number, index): mask for number, mask in masks.items()}
    for number, target in enumerate(targets):
        for index, mask in target.masks.items():
            known[number, index] = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return known, looked


def seen_at(
    segmenter: PerImage, embedding: Embedding, clip: Clip, targets: Sequence[Target], index: int
) -> dict[int, np.ndarray]:
    """The masks (h, w) float32 at the working size of targets of which all is said in frame `index`, by their numbers.

    Raises InputError where nothing is found.
    """
    said = {
        number: target.prompts[index]
        for number, target in enumerate(targets)
        if index in target.prompts and (target.prompts[index].box is not None or index == target.touched[0])
    }
    answers = {number: asked_of_user(segmenter, embedding, prompts) for number, prompts in said.items()}
    for number, answer in answers.items():
        if is_nothing(answer.mask(), said[number]):
            raise nothing_found(targets[number], clip, index)
    return {
        number: from_grid(sigmoid(answer.masks[answer.best]), working_size(clip))
        for number, answer in told_apart(segmenter, embedding, said, answers).items()
    }


def told_apart(
    segmenter: PerImage, embedding: Embedding, said: Mapping[int, Prompts], answers: Mapping[int, Prediction]
) -> dict[int, Prediction]:
    """Answers to what the user says of several objects, the less sure ones with the others known.

    An object behind another is easily taken for the one in front. The surest answer stands; every other one that is
    mostly the same as a surer one is asked for again, with points that are the surer one's.
    """
    settled = dict[int, Prediction]()
    for number in sorted(answers, key=lambda number: -answers[number].scores[answers[number].best]):
        answer = answers[number]
        others = [other.mask() for other in settled.values() if mostly_shared(answer.mask(), other.mask())]
        if others:
            again = asked_of_user(segmenter, embedding, without(said[number], others))
            answer = answer if is_nothing(again.mask(), said[number]) else again
        settled[number] = answer
    return {number: settled[number] for number in answers}


def mostly_shared(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two masks (H, W) bool have most of the smaller one's pixels in common."""
    return bool((one & other).sum() > min(one.sum(), other.sum()) / 2)


def pack(seen: tuple[np.ndarray, dict[int, np.ndarray]]) -> list[np.ndarray]:
    """What was seen of a frame as arrays."""
    content, masks = seen
    return [content, np.array([*masks], np.int64), *masks.values()]


def unpack(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The inverse of `pack`."""
    content, numbers, *masks = arrays
    return content, dict(zip(numbers.tolist(), masks, strict=True))


def look(
    segmenter: PerImage,
    clip: Clip,
    keys: Sequence[int],
    looked: Mapping[int, np.ndarray],
    views: FrameSpool,
    *,
    progress: Progress,
    keeper: Keeper,
) -> None:
    """Look at all keyframes but those that were `looked` at, into `views`, which may have the first of them."""
    with progress.stage("look", len(keys)) as bar:
        done = len(views)
        keeper.skip(bar, "look", done)
        for key, frame in zip(keys[done:], chosen_frames(clip, keys[done:]), strict=True):
            views.append(looked[key] if key in looked else segmenter.embed(frame).content)
            bar.advance()


def follow(walk: Walk, ways: Sequence[FrameSpool], progress: Progress, keeper: Keeper) -> None:
    """Go through all keyframes forward and backward, into the spools, which may have the first masks of a way."""
    count = len(walk.keys)
    with progress.stage("follow", 2 * count) as bar:
        for name, way, order in zip(WAYS, ways, (range(count), range(count)[::-1]), strict=True):
            with keeper.shelf(f"{name}-trail") if keeper.lasts else nullcontext() as trail:
                first = 0 if trail is None else goes_on(min(len(trail), len(way)), count)
                keeper.skip(bar, "follow", first)
                for place, masks in enumerate(walk.sweep(order, trail, first), first):
                    if place == len(way):
                        way.append(masks)
                    bar.advance()


def is_nothing(mask: np.ndarray, said: Prompts) -> bool:
    """Whether a mask (H, W) bool is no answer: it is empty, is all of the picture, or is not where the user clicked."""
    if not mask.any() or mask.mean() > EVERYTHING:
        return True
    near = round(NEARBY * max(mask.shape))
    clicked = said.points[said.inside].astype(int)
    return any(not mask[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1].any() for x, y in clicked)


def nothing_found(target: Target, clip: Clip, index: int) -> InputError:
    """What is said where a segmenter finds nothing."""
    return InputError(
        f"nothing was found for {target.name} in frame {clip.number_of(index)}: give a --point inside the object, or a "
        "--box around it."
    )
