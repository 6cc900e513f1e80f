"""MobileSAM as a segmenter: the default, whose weights come with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerlift.clip import Clip
from layerlift.engine.device.policy import Backend
from layerlift.engine.mobile_sam import BOTTOM_RIGHT, CELLS, LOW, NEGATIVE, POSITIVE, SIDE, TOP_LEFT, open_mobile_sam
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.progress import QUIET, Cancellation, Progress
from layerlift.stages.segment.base import Embedding, Prediction, Prompts, Target
from layerlift.stages.segment.prompts import asked_again


class MobileSamSegmenter:
    """Asks MobileSAM about single frames, and follows objects between them along dense flow."""

    name = "mobile-sam"
    embedding_shape = (256, CELLS, CELLS)

    def __init__(self, backend: Backend = "cpu") -> None:
        self._sam = open_mobile_sam(backend)

    def embed(self, frame: np.ndarray, cancellation: Cancellation | None = None) -> Embedding:
        """See `Segmenter`. What is kept is (256, 64, 64) float16, 2 MiB."""
        made = self._sam.encode(frame, cancellation).astype(np.float16)
        return self.restored(made, (frame.shape[1], frame.shape[0]))

    def restored(self, content: np.ndarray, size: tuple[int, int]) -> Embedding:
        """An embedding from its content, which was kept."""
        height, width = (-(-side * CELLS // max(size)) for side in size[::-1])
        cells = content[:, :height, :width].astype(np.float32).transpose(1, 2, 0)
        return Embedding(content, size, cells / np.linalg.norm(cells, axis=2, keepdims=True).clip(1e-6))

    def predict(self, embedding: Embedding, prompts: Prompts, cancellation: Cancellation | None = None) -> Prediction:
        """See `Segmenter`."""
        scale = SIDE / max(embedding.size)
        points = [prompts.points]
        labels = [np.where(prompts.inside, POSITIVE, NEGATIVE)]
        if prompts.box is not None:
            points.append(np.reshape(prompts.box, (2, 2)))
            labels.append(np.array([TOP_LEFT, BOTTOM_RIGHT]))
        height, width = (-(-side * LOW // max(embedding.size)) for side in embedding.size[::-1])
        logits = None
        if prompts.logits is not None:
            logits = np.full((LOW, LOW), prompts.logits.min(), np.float32)
            logits[:height, :width] = prompts.logits
        # A pixel's centre is half a pixel from where it begins; a box is made of beginnings.
        places = np.vstack(points) + (np.arange(len(np.vstack(points))) < len(prompts.points))[:, None] / 2
        masks, scores = self._sam.decode(
            embedding.content, places * scale, np.concatenate(labels), logits, cancellation
        )
        clear = prompts.box is not None or len(prompts.points) > 1
        return Prediction(
            masks[:, :height, :width], scores, 0 if clear else 1 + int(scores[1:].argmax()), embedding.size
        )

    def again(
        self, embedding: Embedding, expected: np.ndarray, others: np.ndarray, said: Prompts | None = None
    ) -> Prediction:
        """See `PerImage`."""
        return asked_again(self, embedding, expected, others, said)

    def track(
        self,
        clip: Clip,
        targets: Sequence[Target],
        progress: Progress = QUIET,
        keeper: Keeper = TEMPORARY,
        start: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Segmenter`."""
        from layerlift.stages.segment.track import track  # which needs torch; `layerlift app` predicts without it

        return track(self, clip, targets, progress, keeper, start)
