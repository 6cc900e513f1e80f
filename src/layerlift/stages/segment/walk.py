"""From keyframe to keyframe: masks come along the flow, and the segmenter is asked again about what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from layerlift.clip import Clip
from layerlift.jobs.shelf import Shelf
from layerlift.progress import Cancellation
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target, from_grid, onto_grid
from layerlift.stages.segment.flow import carried, flow_between
from layerlift.stages.segment.memory import Memory
from layerlift.stages.segment.survey import Survey, working_size
from layerlift.stages.spool import FrameSpool

# Of what is expected, the share that memory has a say in; the rest is what came along the flow.
REMEMBERED = 0.5
# What a mask's own score counts beside how well it agrees with what is expected.
SCORE_WEIGHT = 0.5
# A mask that agrees less with what is expected is not believed: the expected one stays.
BELIEVED = 0.4
# Fewer pixels of the working size than this are no object.
LEAST_AREA = 8
# An object that was lost is found again where memory and the segmenter agree by this much, and the latter is sure.
FOUND_AGAIN, SURE = 0.5, 0.8
# What memory finds less likely than this, on average, is not the target any more.
RECOGNISED = 0.2
# A walk that is kept can go on after every so many keyframes.
EVERY = 8


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


@dataclass(slots=True)
class Step:
    """What a process that goes on with a walk has to know of a keyframe, by the targets' numbers.

    Attributes:
        learned: the share of each cell that a target covers, (h, w) float32, where it was remembered.
        corrected: masks (h, w) float32 that clicks had corrected.
        states: the masks (h, w) float32 to go on from; of some keyframes only, see `EVERY`.
    """

    learned: dict[int, np.ndarray] = field(default_factory=dict)
    corrected: dict[int, np.ndarray] = field(default_factory=dict)
    states: dict[int, np.ndarray] = field(default_factory=dict)

    def write(self, shelf: Shelf, place: int) -> None:
        """Put it onto a shelf."""
        parts = list[np.ndarray]()
        for part in (self.learned, self.corrected, self.states):
            parts += [np.array([*part], np.int64), np.array([*part.values()], np.float32)]
        shelf.put(place, *parts)

    @staticmethod
    def read(shelf: Shelf, place: int) -> Step:
        """Take it from there."""
        found = shelf.get(place)
        return Step(*(dict(zip(found[at].tolist(), found[at + 1], strict=True)) for at in (0, 2, 4)))


def goes_on(done: int, count: int) -> int:
    """With which of `count` keyframes, by its number in their order, a sweep goes on after `done` of them."""
    return count if done >= count else done - done % EVERY


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

    def sweep(self, order: Sequence[int], trail: Shelf | None = None, first: int = 0) -> Iterator[np.ndarray]:
        """The masks at keyframes in an order, (n, h, w) uint8, 255 where the target surely is; 0 before it is known.

        A `trail` is given what a later process needs to go on, see `Step`. The sweep goes on with the keyframe that is
        number `first` in the order, from what the trail tells of those before it.
        """
        memories = [Memory() for _ in self.targets]
        states: list[np.ndarray | None] = [None] * len(self.targets)
        before: int | None = None
        for place in range(first):
            assert trail is not None
            states = self._repeat(Step.read(trail, place), self.keys[order[place]], self._view(order[place]), memories)
            before = self.keys[order[place]]
        for place, at in enumerate(order[first:], first):
            key, view = self.keys[at], self._view(at)
            flow = None
            if before is not None and self.survey.shots[before] == self.survey.shots[key]:
                flow = flow_between(self.survey.grey, key, before)
            expected = [
                None if state is None else self._expected(state, memory, view, flow)
                for state, memory in zip(states, memories, strict=True)
            ]
            step = Step()
            found = []
            for number, target in enumerate(self.targets):
                mask = self.known.get((number, key))
                ours = expected[number]
                if mask is None and ours is not None:
                    others = taken_by_others(expected, number, self.shape)
                    mask = self._find(ours, view, others, target.prompts.get(key))
                    if key in target.prompts:
                        self.known[number, key] = step.corrected[number] = mask
                found.append(mask)
            states = exclusive(found)
            for number, state in enumerate(states):
                if state is not None and view.cells is not None and (state > 0.5).sum() >= LEAST_AREA:
                    step.learned[number] = share = onto_grid(state, view.cells.shape[:2])
                    memories[number].learn(view.cells, share, known=(number, key) in self.known)
            before = key
            if trail is not None:
                if place % EVERY == EVERY - 1:
                    step.states |= {number: state for number, state in enumerate(states) if state is not None}
                step.write(trail, place)
            yield np.stack([as_bytes(np.zeros(self.shape) if state is None else state) for state in states])

    def _view(self, at: int) -> Embedding:
        """What the segmenter saw at a keyframe, by its number among them."""
        return self.segmenter.restored(next(self._views.frames(at, at + 1)), self._size)

    def _repeat(self, step: Step, key: int, view: Embedding, memories: Sequence[Memory]) -> list[np.ndarray | None]:
        """Learn what was learned at a keyframe; returns the masks that it was left with, where the step tells them."""
        for number, mask in step.corrected.items():
            self.known[number, key] = mask
        for number, share in step.learned.items():
            assert view.cells is not None
            memories[number].learn(view.cells, share, known=(number, key) in self.known)
        return [step.states.get(number) for number in range(len(self.targets))]

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
