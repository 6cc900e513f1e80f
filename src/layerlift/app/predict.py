"""Clicks → a mask of one frame, at once: a segmenter in one thread, and what it saw in the frames clicked on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layerlift.app.pictures import png, scaled
from layerlift.app.projects import OpenProject
from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import Predict
from layerlift.progress import Cancellation, CancelledError

if TYPE_CHECKING:
    from layerlift.stages.segment.base import Embeddings, Segmenter

MASK_WIDTH = 1280  # pixels at most


@dataclass(frozen=True, slots=True)
class Answer:
    """A mask as PNG, and how good it is thought to be, 0 to 1."""

    png: bytes
    score: float


class Predictor:
    """Asks MobileSAM, one question at a time; a page's newer question ends its older one.

    The page always asks MobileSAM: it needs no torch. What follows the objects through the clip is a job, whose
    segmenter can be chosen.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "segmenter")
        self._lock = threading.Lock()
        self._asked: dict[str, Cancellation] = {}
        self._segmenter: Segmenter | None = None
        self._embeddings: tuple[str, Embeddings] | None = None

    def warm(self) -> None:
        """Open the networks in the background."""
        with suppress(RuntimeError):  # the server ends
            self._thread.submit(self._open)

    def close(self) -> None:
        """Stop what runs; whoever waits for it is refused."""
        with self._lock:
            for cancellation in self._asked.values():
                cancellation.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def ask(self, project: OpenProject, asked: Predict, tab: str) -> Answer:
        """The mask of what is clicked on; waits for it. Raises RefusalError (409) where a newer question came."""
        cancellation = Cancellation()
        with self._lock:
            if tab in self._asked:
                self._asked[tab].cancel()
            self._asked[tab] = cancellation
        try:
            return self._thread.submit(self._answer, project, asked, cancellation).result()
        except CancelledError as error:
            raise RefusalError(409, "a newer request took the place of this one.") from error
        finally:
            with self._lock:
                if self._asked.get(tab) is cancellation:
                    del self._asked[tab]

    def _open(self) -> Segmenter:
        if self._segmenter is None:
            from layerlift.stages.segment.mobile import MobileSamSegmenter

            self._segmenter = MobileSamSegmenter()
        return self._segmenter

    def _answer(self, project: OpenProject, asked: Predict, cancellation: Cancellation) -> Answer:
        from layerlift.stages.segment.base import Embeddings, Prompts, Target
        from layerlift.stages.segment.plan import check_target
        from layerlift.stages.segment.prompts import asked_of_user

        cancellation.check()
        opened = project.opened
        points = np.array([(x, y) for x, y, _ in asked.points], np.float32).reshape(-1, 2)
        inside = np.array([within for *_, within in asked.points], np.bool_)
        target = check_target(Target("the object", {asked.frame: Prompts(points, inside, asked.box)}), opened.clip)
        segmenter = self._open()
        with project.frames.aside():
            if self._embeddings is None or self._embeddings[0] != opened.facts.stamp:
                self._embeddings = opened.facts.stamp, Embeddings(segmenter, opened.clip, read=opened.frame)
            embedding = self._embeddings[1].of(asked.frame, cancellation)
            found = asked_of_user(segmenter, embedding, target.prompts[asked.frame], cancellation)
        mask = found.mask().astype(np.uint8) * 255
        width = min(mask.shape[1], MASK_WIDTH)
        return Answer(png((scaled(mask, width) > 127).astype(np.uint8) * 255), float(found.scores[found.best]))
