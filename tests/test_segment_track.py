"""Objects in every frame from a few: occlusion, re-entry, cuts, corrections, several objects, memory.

A segmenter that knows colours alone stands in for the network: what is tested is what lies around it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.errors import InputError
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.progress import QUIET, Cancellation, CancelledError, Progress
from layerlift.runtime import Runtime
from layerlift.stages.segment.base import Embedding, Embeddings, Prediction, Prompts, Target, from_grid, onto_grid
from layerlift.stages.segment.prompts import asked_again, asked_of_user, middles, prompts_of
from layerlift.stages.segment.track import track
from layerlift.stages.spool import resumed_frames
from support import survive

SIZE = (120, 160)  # height, width
RED, BLUE, BAR = (220, 40, 40), (40, 60, 220), (90, 90, 90)
ALIKE = 40  # levels


class ByColour:
    """Finds what has the colour of the first point inside, or of a box's middle, and is in the box or near it."""

    name = "by colour"

    def __init__(self) -> None:
        self.looks = 0

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding:
        if cancellation is not None:
            cancellation.check()
        self.looks += 1
        return self.restored(frame, (frame.shape[1], frame.shape[0]))

    def restored(self, content: np.ndarray, size: tuple[int, int]) -> Embedding:
        cells = cv2.resize(content, (32, 24), interpolation=cv2.INTER_AREA).astype(np.float32) - 100
        return Embedding(content, size, cells / np.linalg.norm(cells, axis=2, keepdims=True).clip(1))

    def predict(self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None) -> Prediction:
        picture = embedding.content.astype(np.int16)
        left, top, right, bottom = prompts.box or (0, 0, *embedding.size)
        x, y = next(iter(prompts.points[prompts.inside]), ((left + right) / 2, (top + bottom) / 2))
        inside = np.abs(picture - picture[int(y), int(x)]).max(-1) < ALIKE
        y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
        slack = 12
        inside &= (x >= left - slack) & (x < right + slack) & (y >= top - slack) & (y < bottom + slack)
        for x0, y0 in prompts.points[~prompts.inside]:
            inside &= np.hypot(x - x0, y - y0) > 15
        return Prediction(np.where(inside, 8.0, -8.0).astype(np.float32)[None], np.ones(1), 0, embedding.size)

    def again(
        self, embedding: Embedding, expected: np.ndarray, others: np.ndarray, said: Prompts | None = None
    ) -> Prediction:
        return asked_again(self, embedding, expected, others, said)

    def track(
        self,
        clip: Clip,
        targets: Sequence[Target],
        progress: Progress = QUIET,
        keeper: Keeper = TEMPORARY,
        start: int = 0,
    ) -> Iterator[np.ndarray]:
        return track(self, clip, targets, progress, keeper, start)


def ground(seed: int = 0) -> np.ndarray:
    """Greenish texture, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 50, (20, 27, 3), dtype=np.uint8)
    return cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC) + np.array([70, 110, 60], np.uint8)


def scene(places: Sequence[tuple[float, float] | None], colour: tuple = RED, seed: int = 0) -> np.ndarray:
    """A square of 24 pixels at each frame's place (its centre), or nowhere: (F, H, W, 3) uint8."""
    return np.stack([draw(ground(seed), place, colour) for place in places])


def draw(frame: np.ndarray, place: tuple[float, float] | None, colour: tuple) -> np.ndarray:
    if place is not None:
        x, y = (round(value) for value in place)
        frame[max(0, y - 12) : y + 12, max(0, x - 12) : x + 12] = colour
    return frame


def square(place: tuple[float, float] | None) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    if place is not None:
        x, y = (round(value) for value in place)
        mask[max(0, y - 12) : max(0, y + 12), max(0, x - 12) : max(0, x + 12)] = True
    return mask


def click(x: float, y: float, *not_there: tuple[float, float]) -> Prompts:
    return Prompts(np.array([(x, y), *not_there], np.float32), np.array([True, *[False] * len(not_there)]))


def found(frames: np.ndarray, *targets: Target) -> np.ndarray:
    """Labels (F, H, W) uint8."""
    return np.stack(list(ByColour().track(Clip.from_array(frames), targets)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


PATH = [(30 + 4 * i, 60) for i in range(22)]


@pytest.mark.parametrize("touched", [0, 11, 21])
def test_an_object_is_followed_forward_and_backward_from_the_frame_that_was_touched(touched: int) -> None:
    labels = found(scene(PATH), Target("dog", {touched: click(*PATH[touched])}))
    assert labels.dtype == np.uint8
    assert min(iou(label == 1, square(place)) for label, place in zip(labels, PATH, strict=True)) > 0.85


def test_a_box_does_as_well() -> None:
    labels = found(scene(PATH), Target("dog", {0: Prompts(box=(18, 48, 42, 72))}))
    assert min(iou(label == 1, square(place)) for label, place in zip(labels, PATH, strict=True)) > 0.85


def test_a_clip_of_one_frame() -> None:
    labels = found(scene(PATH[:1]), Target("dog", {0: click(*PATH[0])}))
    assert labels.shape == (1, *SIZE)
    assert iou(labels[0] == 1, square(PATH[0])) > 0.9


def test_an_object_that_leaves_has_empty_masks_and_is_found_when_it_comes_back() -> None:
    path = [*[(100 + 8 * i, 60) for i in range(8)], *[None] * 12, *[(156 - 8 * i, 60) for i in range(10)]]
    labels = found(scene(path), Target("dog", {0: click(100, 60)}))
    assert not labels[9:19].any()
    assert iou(labels[-1] == 1, square(path[-1])) > 0.8


def test_an_object_that_is_never_visible_again_leaves_empty_masks() -> None:
    path = [*PATH[:8], *[None] * 12]
    labels = found(scene(path), Target("dog", {0: click(*PATH[0])}))
    assert iou(labels[5] == 1, square(PATH[5])) > 0.8
    assert not labels[12:].any()


def test_an_object_behind_a_bar_is_found_on_the_other_side() -> None:
    frames = scene([(20 + 5 * i, 60) for i in range(25)])
    frames[:, :, 60:95] = BAR
    labels = found(frames, Target("dog", {0: click(20, 60)}))
    hidden = square((78, 60))
    assert not labels[11:13, 60:95][:, hidden[60:95]].any(), "the bar is not the object"
    assert iou(labels[-1] == 1, square((140, 60))) > 0.8


def test_nothing_is_carried_across_a_cut_but_the_object_is_looked_for() -> None:
    frames = np.concatenate([scene(PATH[:8]), scene([(110, 40)] * 8, seed=5)[:, ::-1]])
    labels = found(frames, Target("dog", {0: click(*PATH[0])}))
    assert iou(labels[7] == 1, square(PATH[7])) > 0.85, "up to the last frame before the cut"
    after = np.zeros(SIZE, np.bool_)
    after[::-1] = square((110, 40))
    assert iou(labels[8] == 1, after) > 0.8, "from the first frame after it"
    gone = np.concatenate([scene(PATH[:8]), scene([None] * 8, seed=5)[:, ::-1]])
    assert not found(gone, Target("dog", {0: click(*PATH[0])}))[8:].any()


def test_two_objects_that_cross_are_told_apart_and_no_pixel_is_both() -> None:
    left, right = [(45 + 3 * i, 55) for i in range(20)], [(115 - 3 * i, 70) for i in range(20)]
    frames = np.stack([draw(draw(ground(), b, BLUE), a, RED) for a, b in zip(left, right, strict=True)])
    segmenter = ByColour()
    targets = [Target("red", {0: click(*left[0])}), Target("blue", {0: click(*right[0])})]
    labels = np.stack(list(segmenter.track(Clip.from_array(frames), targets)))
    assert set(np.unique(labels)) == {0, 1, 2}
    assert segmenter.looks == 6, "every keyframe is looked at once, for both"
    for a, b, label in zip(left, right, labels, strict=True):
        assert iou(label == 1, square(a)) > 0.7
        assert iou(label == 2, square(b) & ~square(a)) > 0.6


def test_an_object_behind_another_is_not_taken_for_the_one_in_front() -> None:
    class Greedy(ByColour):
        """Takes both objects for the blue one, and is not sure, until it is told a point that is not."""

        def predict(
            self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None
        ) -> Prediction:
            own = super().predict(embedding, prompts)
            x, y = prompts.points[0].astype(int)
            if not prompts.inside.all() or embedding.content[y, x, 2] < BLUE[2]:
                return own
            red = super().predict(embedding, click(60, 60))
            return replace(own, masks=np.maximum(own.masks, red.masks), scores=np.array([0.8]))

    frames = np.stack([draw(draw(ground(), (80, 60), BLUE), (60, 60), RED)] * 3)
    behind, front = Target("behind", {0: click(86, 60)}), Target("front", {0: click(60, 60)})
    labels = np.stack(list(Greedy().track(Clip.from_array(frames), [behind, front])))
    assert iou(labels[0] == 1, square((80, 60)) & ~square((60, 60))) > 0.8
    assert iou(labels[0] == 2, square((60, 60))) > 0.8


def test_a_second_answer_that_collapses_is_not_taken() -> None:
    class Collapses(ByColour):
        def predict(
            self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None
        ) -> Prediction:
            own = super().predict(embedding, prompts)
            return own if prompts.logits is None else replace(own, masks=own.masks - 16, scores=np.array([score]))

    embedding = ByColour().embed(scene([(60, 60)])[0])
    score = 0.85
    assert asked_of_user(Collapses(), embedding, click(60, 60)).mask().sum() == 24**2
    score = 0.95
    assert not asked_of_user(Collapses(), embedding, click(60, 60)).mask().any(), "it is nearly as sure: it is better"


def test_a_mask_on_a_later_frame_is_kept_and_improves_the_frames_between() -> None:
    frames = scene(PATH)
    # A second square of the same colour touches the first: by colour it is one object.
    for frame, (x, y) in zip(frames, PATH, strict=True):
        draw(frame, (x, y + 24), RED)
    whole = Target("dog", {0: Prompts(box=(18, 48, 42, 96))})
    corrected = Target("dog", whole.prompts, {20: square(PATH[20])})
    before, after = found(frames, whole), found(frames, corrected)
    assert iou(after[20] == 1, square(PATH[20])) > 0.95
    assert iou(after[19] == 1, square(PATH[19])) > iou(before[19] == 1, square(PATH[19])) + 0.2
    np.testing.assert_array_equal(after[0], before[0])


def test_a_click_on_a_later_frame_corrects_what_came_along() -> None:
    frames = scene(PATH)
    for frame, (x, y) in zip(frames, PATH, strict=True):
        draw(frame, (x, y + 34), RED)
        frame[y + 12 : y + 22, x - 4 : x + 4] = RED
    x, y = PATH[8]
    said = {0: Prompts(box=(18, 48, 42, 106)), 8: Prompts(np.array([(x, y + 34)], np.float32), np.zeros(1, np.bool_))}
    labels = found(frames, Target("dog", said))
    assert not labels[8, y + 34, x]
    assert labels[8, y, x] == 1


def test_a_click_on_nothing_is_told_in_one_sentence() -> None:
    class Blind(ByColour):
        def predict(self, embedding: Embedding, *_: object) -> Prediction:  # type: ignore[override]
            return Prediction(np.full((1, *SIZE), -8.0, np.float32), np.ones(1), 0, embedding.size)

    with pytest.raises(InputError, match="nothing was found for dog in frame 0: give a --point inside the object"):
        next(Blind().track(Clip.from_array(scene(PATH)), [Target("dog", {0: click(30, 60)})]))


def test_the_same_input_gives_the_same_masks() -> None:
    target = Target("dog", {5: click(*PATH[5])})
    np.testing.assert_array_equal(found(scene(PATH), target), found(scene(PATH), target))


@pytest.mark.slow
def test_what_is_killed_goes_on_with_all_that_was_remembered(tmp_path: Path) -> None:
    left, right = [(45 + 2 * i, 55) for i in range(40)], [(125 - 2 * i, 70) for i in range(40)]
    clip = Clip.from_array(np.stack([draw(draw(ground(), b, BLUE), a, RED) for a, b in zip(left, right, strict=True)]))
    red = Target("red", {0: click(*left[0]), 30: click(*left[30], right[30])})
    targets = [red, Target("blue", {9: click(*right[9])}, {37: square(right[37])})]

    def work(runtime: Runtime) -> np.ndarray:
        runtime = runtime.part("objects")
        track = partial(ByColour().track, clip, targets, runtime.progress, runtime.keeper)
        return np.stack(list(resumed_frames(runtime.keeper, "labels", track)))

    made, kills = survive(tmp_path / "job", Runtime(), work, 17)
    assert kills >= 8
    np.testing.assert_array_equal(made, work(Runtime()))
    assert set(np.unique(made)) == {0, 1, 2}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip() -> None:
    still = scene(PATH[:1])[0]

    def peak(count: int) -> int:
        def reader(start: int, stop: int, _: object) -> Iterator[np.ndarray]:
            return (np.roll(still, index % 7, 1) for index in range(start, stop))

        one = Clip.from_array(still[None])
        clip = Clip(one.width, one.height, count, one.rate, reader)  # type: ignore[arg-type]
        tracemalloc.start()
        for _ in ByColour().track(clip, [Target("dog", {0: click(30, 60)})]):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(150) < 1.15 * peak(30)


def test_it_stops_where_that_is_asked_for() -> None:
    cancellation = Cancellation()
    labels = ByColour().track(Clip.from_array(scene(PATH)), [Target("dog", {0: click(30, 60)})], cancellation.watched())
    next(labels)
    cancellation.cancel()
    with pytest.raises(CancelledError):
        list(labels)


def test_embeddings_are_kept_up_to_a_number() -> None:
    segmenter = ByColour()
    kept = Embeddings(segmenter, Clip.from_array(scene(PATH)), kept=2)
    assert kept.of(0) is kept.of(0)
    assert segmenter.looks == 1
    for index in (1, 2, 0):
        kept.of(index)
    assert segmenter.looks == 4, "frame 0 had made room"
    cancelled = Cancellation()
    cancelled.cancel()
    with pytest.raises(CancelledError):
        kept.of(5, cancelled)


def test_a_question_has_the_box_deep_points_and_those_of_others() -> None:
    expected, others = np.zeros((60, 80), np.float32), np.zeros((60, 80), np.bool_)
    expected[20:40, 10:30] = 1
    others[22:38, 26:60] = True
    expected[others] = 0.2
    asked = prompts_of(expected, others, (160, 120))
    assert asked.box == (20, 40, 60, 80)
    for x, y in asked.points[asked.inside] / 2:
        assert expected[round(y), round(x)] > 0.5
    for x, y in asked.points[~asked.inside] / 2:
        assert others[round(y), round(x)]
    assert not asked.inside.all()
    said = Prompts(np.array([(100, 100)], np.float32), np.array([True]))
    assert prompts_of(expected, others, (160, 120), said).box == (20, 40, 101, 101), "it reaches to what was said"


def test_middles_are_deep_and_apart() -> None:
    mask = np.zeros((50, 100), np.bool_)
    mask[10:40, 5:35] = mask[10:40, 60:90] = True
    (x0, _), (x1, _) = middles(mask, 2)
    assert abs(x0 - x1) > 40
    assert middles(np.zeros((9, 9), np.bool_), 2) == []


@pytest.mark.parametrize("size", [(1280, 690), (854, 480), (100, 333), (64, 64)])
def test_a_grid_lies_over_a_frame_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cells = tuple(-(-side * 64 // max(size)) for side in (height, width))
    for values in (x / width, y / height):
        again = from_grid(onto_grid(values, cells), size)
        inner = (slice(height // 8, -height // 8), slice(width // 8, -width // 8))
        assert again.shape == values.shape
        assert np.abs(again - values)[inner].max() < 0.02
