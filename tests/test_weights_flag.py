"""`--weights`: 8 bits or as they are, whoever runs the transformer."""

from pathlib import Path

import numpy as np

import layerlift
from layerlift.engine.model import open_model
from support import watched
from tiny_model import write_tiny_model


def test_remove_in_8_bits(tmp_path: Path) -> None:
    model, opened = watched(open_model(write_tiny_model(tmp_path)))
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros((48, 64), bool)
    hidden[16:32, 16:32] = True
    made = {
        weights: layerlift.remove(
            frames, hidden, model=model, device="cpu", evidence="off", steps=2, weights=weights
        ).numpy()
        for weights in ("auto", "full", "8bit")
    }
    assert [policy.int8 for part, policy in opened if part == "denoising"] == [None, False, True]
    assert np.array_equal(made["auto"], made["full"])
    assert 0 < np.abs(made["8bit"].astype(int) - made["full"]).max() <= 40
