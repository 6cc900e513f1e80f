"""From frames in which objects are known to every frame: for segmenters of single frames.

Keyframes are looked at, a few frames apart. From one to the next, masks follow dense flow; there the segmenter is asked
again about what is expected: the mask that came along the flow, and what looks like the object did in other frames. The
clip is gone through forward and backward, from every frame that the user touched; between two of those the results are
blended. Frames between keyframes take the masks of both, carried along the flow, with the frame's own edges.

Nothing that grows with the clip stays in memory: small frames, embeddings and masks wait in temporary files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.progress import Cancellation, Progress
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target, from_grid, onto_grid
from layerlift.stages.segment.between import at_key, between, labels_of
from layerlift.stages.segment.flow import carried, flow_between
from layerlift.stages.segment.memory import Memory
from layerlift.stages.segment.prompts import asked_of_user
from layerlift.stages.segment.survey import Survey, chosen_frames, keyframes, working_size
from layerlift.stages.spool import FrameSpool

# Of what is expected, the share that memory has a say in; the rest is what came along the flow.
REMEMBERED = 0.5
# What a mask's own score counts beside how well it agrees with what is expected.
SCORE_WEIGHT = 0.5
# A mask that agrees less with what is expected is not believed: the expected one stays.
BELIEVED = 0.4
# A mask of more of the picture is no object; a click may miss its mask by this share of the picture's longer side.
EVERYTHING, NEARBY = 0.98, 0.01
# Fewer pixels of the working size than this are no object.
LEAST_AREA = 8
# An object that was lost is found again where memory and the segmenter agree by this much, and the latter is sure.
FOUND_AGAIN, SURE = 0.5, 0.8
# What memory finds less likely than this, on average, is not the target any more.
RECOGNISED = 0.2


class PerImage(Protocol):
    """A segmenter of single frames."""

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding: ...

    def restored(self, content: np.ndarray, size: tuple[int, int]) -> Embedding:
        """An embedding from its content, which was kept."""
        ...

    def predict(
        self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None
    ) -> Prediction: ...

    def again(
        self, embedding: Embedding, expected: np.ndarray, others: np.ndarray, said: Prompts | None = None
    ) -> Prediction:
        """What it offers for an object that is expected somewhere; see `prompts.asked_again`."""
        ...


def track(segmenter: PerImage, clip: Clip, targets: Sequence[Target], progress: Progress) -> Iterator[np.ndarray]:
    """See `Segmenter.track`."""
    with ExitStack() as files:
        known, looked = first_look(segmenter, clip, targets, progress)
        survey = files.enter_context(Survey(clip, progress))
        keys = keyframes(clip.frame_count, survey.shots, targets)
        views = files.enter_context(FrameSpool())
        with progress.stage("look", len(keys)) as bar:
            for key, frame in zip(keys, chosen_frames(clip, keys), strict=True):
                views.append(looked.pop(key) if key in looked else segmenter.embed(frame).content)
                bar.advance()
        walk = Walk(segmenter, clip, targets, survey, keys, views, known)
        with progress.stage("follow", 2 * len(keys)) as bar:
            forward = files.enter_context(FrameSpool())
            for masks in walk.sweep(range(len(keys))):
                forward.append(masks)
                bar.advance()
            backward = files.enter_context(FrameSpool())
            for masks in walk.sweep(range(len(keys))[::-1]):
                backward.append(masks)
                bar.advance()
        with progress.stage("masks", clip.frame_count) as bar:
            both = zip(keys, forward.frames(), backward.frames_backward(), strict=True)
            shares = between(keys, (at_key(targets, *masks) for masks in both), survey.grey)
            for frame, share in zip(clip.frames(), shares, strict=True):
                yield labels_of(frame, share)
                bar.advance()


def first_look(
    segmenter: PerImage, clip: Clip, targets: Sequence[Target], progress: Progress
) -> tuple[dict[tuple[int, int], np.ndarray], dict[int, np.ndarray]]:
    """The masks (h, w) float32 of targets in frames where all is said of them, by number of the target and the frame.

    With them, what the embeddings of frames that were looked at hold. Raises InputError where nothing is found.
    """
    known: dict[tuple[int, int], np.ndarray] = {}
    looked: dict[int, np.ndarray] = {}
    size = working_size(clip)
    frames = sorted({frame for target in targets for frame in target.prompts})
    with progress.stage("first look", len(frames)) as bar:
        for index, frame in zip(frames, chosen_frames(clip, frames), strict=True):
            embedding = segmenter.embed(frame)
            looked[index] = embedding.content
            for number, target in enumerate(targets):
                said = target.prompts.get(index)
                if said is None or not (said.box is not None or index == target.touched[0]):
                    continue
                answer = asked_of_user(segmenter, embedding, said)
                found = sigmoid(answer.masks[answer.best])
                if is_nothing(from_grid(found, embedding.size) > 0.5, said):
                    raise nothing_found(target, clip, index)
                known[number, index] = from_grid(found, size)
            bar.advance()
    for number, target in enumerate(targets):
        for index, mask in target.masks.items():
            known[number, index] = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return known, looked


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


@dataclass(frozen=True, slots=True)
class Expected:
    """Where a target should be in a keyframe, at the working size.

    Attributes:
        mask: (h, w) float32 in [0, 1]: what came along the flow and what is remembered, together.
        likely: (h, w) float32 in [0, 1], what is remembered alone; None where nothing is.
        lost: whether nothing came along the flow, so that the target is looked for everywhere.
    """

    mask: np.ndarray
    likely: np.ndarray | None
    lost: bool


class Walk:
    """Goes from keyframe to keyframe with every target's mask."""

    def __init__(
        self,
        segmenter: PerImage,
        clip: Clip,
        targets: Sequence[Target],
        survey: Survey,
        keys: Sequence[int],
        views: FrameSpool,
        known: dict[tuple[int, int], np.ndarray],
    ) -> None:
        self.segmenter, self.clip, self.targets, self.survey = segmenter, clip, targets, survey
        self.keys, self.known = keys, known
        self._views = views
        self.shape = working_size(clip)[::-1]

    def sweep(self, order: Sequence[int]) -> Iterator[np.ndarray]:
        """The masks at keyframes in an order, (n, h, w) uint8, 255 where the target surely is; 0 before it is known."""
        memories = [Memory() for _ in self.targets]
        states: list[np.ndarray | None] = [None] * len(self.targets)
        before: int | None = None
        for place in order:
            key = self.keys[place]
            view = self.segmenter.restored(next(self._views.frames(place, place + 1)), self._size)
            flow = None
            if before is not None and self.survey.shots[before] == self.survey.shots[key]:
                flow = flow_between(self.survey.grey, key, before)
            expected = [
                None if state is None else self._expected(state, memory, view, flow)
                for state, memory in zip(states, memories, strict=True)
            ]
            found = []
            for number, target in enumerate(self.targets):
                mask = self.known.get((number, key))
                ours = expected[number]
                if mask is None and ours is not None:
                    others = taken_by_others(expected, number, self.shape)
                    mask = self._find(ours, view, others, target.prompts.get(key))
                    if key in target.prompts:
                        self.known[number, key] = mask
                found.append(mask)
            states = exclusive(found)
            for number, state in enumerate(states):
                if state is not None and view.cells is not None and (state > 0.5).sum() >= LEAST_AREA:
                    share = onto_grid(state, view.cells.shape[:2])
                    memories[number].learn(view.cells, share, known=(number, key) in self.known)
            before = key
            yield np.stack([as_bytes(np.zeros(self.shape) if state is None else state) for state in states])

    @property
    def _size(self) -> tuple[int, int]:
        return self.clip.width, self.clip.height

    def _expected(self, state: np.ndarray, memory: Memory, view: Embedding, flow: np.ndarray | None) -> Expected:
        came = np.zeros(self.shape, np.float32) if flow is None else carried(state, flow)
        lost = (came > 0.5).sum() < LEAST_AREA
        if view.cells is None or not memory:
            return Expected(came, None, lost)
        likely = from_grid(memory.look(view.cells, anywhere=lost), self.shape[::-1])
        return Expected(likely if lost else (1 - REMEMBERED) * came + REMEMBERED * likely, likely, lost)

    def _find(self, expected: Expected, view: Embedding, others: np.ndarray, said: Prompts | None) -> np.ndarray:
        """A target's mask in a keyframe, (h, w) float32 in [0, 1]; empty where it is not to be seen."""
        nothing = np.zeros(self.shape, np.float32)
        where = expected.mask > 0.5
        if where.sum() < LEAST_AREA:
            return nothing
        offered = self.segmenter.again(view, expected.mask, others, said)
        masks = [from_grid(mask, self.shape[::-1]) for mask in offered.masks]
        agreed = np.array([agreement(where, mask > 0) for mask in masks])
        worth = agreed + SCORE_WEIGHT * offered.scores
        if said is not None:
            worth += [obeys(said, mask, self._size) for mask in offered.masks]
            return sigmoid(masks[int(worth.argmax())])
        best = int(worth.argmax())
        if expected.lost and not (agreed[best] >= FOUND_AGAIN and offered.scores[best] >= SURE):
            return nothing
        mask = sigmoid(masks[best]) if agreed[best] >= BELIEVED else expected.mask
        if expected.likely is not None and expected.likely[mask > 0.5].mean() < RECOGNISED:
            return nothing
        return mask


def taken_by_others(expected: Sequence[Expected | None], number: int, shape: tuple[int, int]) -> np.ndarray:
    """Where targets other than one are expected, (h, w) bool."""
    taken = np.zeros(shape, np.bool_)
    for other, theirs in enumerate(expected):
        if other != number and theirs is not None:
            taken |= theirs.mask > 0.5
    return taken


def obeys(said: Prompts, mask: np.ndarray, size: tuple[int, int]) -> float:
    """The share of the points that a mask (h, w) of logits, on a grid over the frame, has on the right side."""
    full = from_grid(mask, size) > 0
    right = [full[int(y), int(x)] == inside for (x, y), inside in zip(said.points, said.inside, strict=True)]
    return float(np.mean(right)) if right else 1.0


def exclusive(masks: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Masks (h, w) float32 of which at most one is above a half anywhere: the greatest keeps what several claim."""
    there = [mask for mask in masks if mask is not None]
    if len(there) < 2:
        return list(masks)
    greatest = np.maximum.reduce(there)
    return [None if mask is None else np.where(mask >= greatest, mask, np.minimum(mask, 0.5)) for mask in masks]


def agreement(expected: np.ndarray, mask: np.ndarray) -> float:
    """How well a mask (h, w) bool meets an expected one, (h, w) bool: their IoU."""
    return float((expected & mask).sum() / max(1, (expected | mask).sum()))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits → shares in [0, 1]."""
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def as_bytes(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] → uint8."""
    return np.rint(shares * 255).astype(np.uint8)
