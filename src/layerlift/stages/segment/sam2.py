"""SAM 2 as a segmenter: better than MobileSAM, and slow without a GPU. Its memory follows objects by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.engine.sam2 import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT, Sam2
from layerlift.engine.sam2.video import Following
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.progress import QUIET, Cancellation, Progress, StageProgress
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target
from layerlift.stages.segment.between import labels_of
from layerlift.stages.segment.survey import chosen_frames
from layerlift.stages.segment.track import is_nothing, nothing_found
from layerlift.stages.segment.walk import sigmoid
from layerlift.stages.spool import FrameSpool

# What the network remembers is kept after every so many frames.
EVERY = 32


class Remembered:
    """What the network remembers, kept now and then in one of two files by turns: when a kill comes, one is whole."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper, self._names = keeper, ["memory-0", "memory-1"]

    def restore(self, following: Following, most: int) -> int:
        """Restore what was remembered after so many frames at `most`; returns after how many, 0 for nothing."""
        if not self._keeper.lasts:
            return 0
        found: list[tuple[int, str]] = []
        for name in self._names:
            with self._keeper.shelf(name, packed=False) as shelf:
                found.append((shelf.last(most) or 0, name))
        (_, self._names[0]), (done, self._names[1]) = sorted(found)
        if done:
            with self._keeper.shelf(self._names[1], packed=False) as shelf:
                following.restore(shelf.get(done))
        return done

    def keep(self, following: Following, done: int) -> None:
        """Keep what is remembered after `done` frames, if it is time to."""
        if not self._keeper.lasts or done % EVERY:
            return
        self._keeper.drop(self._names[0])
        with self._keeper.shelf(self._names[0], packed=False) as shelf:
            shelf.put(done, *following.state())
        self._names.reverse()


class Sam2Segmenter:
    """Asks SAM 2 (or SAM 3) about single frames, and lets its memory follow objects."""

    def __init__(self, name: str, folder: Path, device: str = "cpu") -> None:
        self.name, self._sam = name, Sam2(folder, device)

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding:
        """See `Segmenter`. It stops before or after the network has run, not while it does."""
        if cancellation is not None:
            cancellation.check()
        content = self._sam.encode(frame)
        if cancellation is not None:
            cancellation.check()
        return Embedding(content, (frame.shape[1], frame.shape[0]))

    def predict(self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None) -> Prediction:
        """See `Segmenter`."""
        if cancellation is not None:
            cancellation.check()
        points, labels = as_points(prompts)
        clear = len(points) > 1
        masks, scores = self._sam.decode(embedding.content, embedding.size, points, labels, prompts.logits, clear=clear)
        return Prediction(masks, scores, int(scores.argmax()), embedding.size, stretched=True)

    def track(
        self,
        clip: Clip,
        targets: Sequence[Target],
        progress: Progress = QUIET,
        keeper: Keeper = TEMPORARY,
        start: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Segmenter`. First all frames in which something is said, then back to the first, then on to the last."""
        if start == clip.frame_count:
            return
        following = self._sam.follow((clip.width, clip.height), clip.frame_count)
        begin = min(target.touched[0] for target in targets)
        memory = Remembered(keeper)
        with FrameSpool(keeper.shelf("earlier")) as earlier:
            # Frames that were followed: first those before the touched one, backward, then the others.
            done = memory.restore(following, max(begin, start) if len(earlier) == begin else len(earlier))
            if not done:
                self._first_look(following, clip, targets, progress)
            with progress.stage("follow", clip.frame_count) as bar:
                keeper.skip(bar, "follow", done)
                if done < begin:
                    self._back(following, clip, targets, earlier, memory, done, bar)
                if done <= begin:
                    following.turn()
                first = max(begin, done)
                lead = min(start, first)
                for index, frame in enumerate(clip.frames(lead), lead):
                    if index < begin:
                        masks = next(earlier.frames(begin - 1 - index, begin - index))
                    elif index >= first:
                        masks = self._masks(following, index, frame, targets, False)
                        bar.advance()
                    if index >= start:
                        yield labels_of(frame, masks)
                    if index >= first:
                        memory.keep(following, index + 1)

    def _first_look(self, following: Following, clip: Clip, targets: Sequence[Target], progress: Progress) -> None:
        """Frames in which all is said of a target. Raises InputError where nothing is found."""
        conditions = sorted({index for target in targets for index in conditions_of(target)})
        with progress.stage("first look", len(conditions)) as bar:
            for index, frame in zip(conditions, chosen_frames(clip, conditions), strict=True):
                said = tell(following, targets, index, corrections=False)
                numbers, masks = following.step(index, frame)
                found = dict(zip(numbers, masks, strict=True))
                for number in said:
                    check_found(found[number], targets[number], clip, index)
                bar.advance()

    def _back(
        self,
        following: Following,
        clip: Clip,
        targets: Sequence[Target],
        earlier: FrameSpool,
        memory: Remembered,
        done: int,
        bar: StageProgress,
    ) -> None:
        """Follow backward to the first frame, into `earlier`, which may have some masks; the first `done` are."""
        begin = min(target.touched[0] for target in targets)
        with FrameSpool() as frames:
            for frame in clip.frames(0, begin - done):  # a clip is read forward
                frames.append(frame)
            for index in range(begin - done)[::-1]:
                masks = self._masks(following, index, next(frames.frames(index, index + 1)), targets, True)
                if begin - 1 - index == len(earlier):
                    earlier.append(masks)
                bar.advance()
                memory.keep(following, begin - index)

    def _masks(
        self, following: Following, index: int, frame: np.ndarray, targets: Sequence[Target], reverse: bool
    ) -> np.ndarray:
        """Every target's mask, (n, h, w) float32 in [0, 1], by the network's own grid."""
        numbers, masks = following.step(index, frame, reverse=reverse)
        corrected = [] if reverse else tell(following, targets, index, corrections=True)
        if corrected:
            numbers, masks = following.step(index, frame)
            for number in corrected:
                following.settle(number, index)
        out = np.zeros((len(targets), *masks.shape[1:]), np.float32)
        out[numbers] = sigmoid(masks)
        return out


def conditions_of(target: Target) -> list[int]:
    """The frames in which all is said of a target; in others, clicks correct what was found."""
    boxed = [index for index, said in target.prompts.items() if said.box is not None]
    return sorted({target.touched[0], *target.masks, *boxed})


def tell(following: Following, targets: Sequence[Target], index: int, *, corrections: bool) -> list[int]:
    """Hand on what is said of frame `index`, either what corrects or what does not; the numbers of those targets."""
    told = []
    for number, target in enumerate(targets):
        if index not in target.touched or (index in conditions_of(target)) is corrections:
            continue
        if index in target.masks:
            following.show(number, index, target.masks[index])
        else:
            following.say(number, index, *as_points(target.prompts[index]))
        told.append(number)
    return told


def as_points(prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) float32 and what each is (N,): a box is its two corners, which come first."""
    points, labels = prompts.points, np.where(prompts.inside, POSITIVE, NEGATIVE)
    if prompts.box is None:
        return points, labels
    corners = np.reshape(np.array(prompts.box, np.float32), (2, 2))
    return np.vstack([corners, points]), np.concatenate([[TOP_LEFT, BOTTOM_RIGHT], labels])


def check_found(mask: np.ndarray, target: Target, clip: Clip, index: int) -> None:
    """Raises InputError where a mask (h, w) of logits is no answer to what is said of a target in a frame."""
    said = target.prompts.get(index)
    if said is not None:
        full = cv2.resize(mask, (clip.width, clip.height), interpolation=cv2.INTER_LINEAR)
        if is_nothing(full > 0, said):
            raise nothing_found(target, clip, index)
