"""`--weights`: 8 bits or as they are, whoever runs the transformer."""

import numpy as np
import pytest

import layerlift
from layerlift.engine.model import open_model
from layerlift.engine.model.testing import write_tiny_model


def test_remove_in_8_bits(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    model = open_model(write_tiny_model(tmp_path))
    under = []
    real = type(model).transformer
    monkeypatch.setattr(
        type(model), "transformer", lambda self, policy: (under.append(policy.int8), real(self, policy))[1]
    )
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    hidden = np.zeros((48, 64), bool)
    hidden[16:32, 16:32] = True
    made = {
        weights: layerlift.remove(
            frames, hidden, model=model, device="cpu", evidence="off", steps=2, weights=weights
        ).numpy()
        for weights in ("auto", "full", "8bit")
    }
    assert under == [None, False, True]
    assert np.array_equal(made["auto"], made["full"])
    assert 0 < np.abs(made["8bit"].astype(int) - made["full"]).max() <= 40
