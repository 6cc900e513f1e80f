"""The crop's table, on a tiny model."""

from pathlib import Path

import numpy as np

from layerlift.bench.crop import HOLE_SHARE, crop_tables, moving_hole
from layerlift.device import choose_policy
from layerlift.model import open_model
from layerlift.model.testing import write_tiny_model


def test_holes_are_small_and_move() -> None:
    hole = moving_hole(3, 576, 384, 9)
    assert np.abs(hole.mean((1, 2)) / HOLE_SHARE - 1).max() < 0.05
    assert (hole[0] & ~hole[-1]).any()
    assert not np.array_equal(moving_hole(4, 576, 384, 9), hole)


def test_tables_have_both_ways_and_what_they_cost(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    inside, tokens = crop_tables([1000], model, choose_policy("cpu", resident=True), size=(128, 96), frames=5)
    assert list(inside.rows) == ["whole picture", "around the mask"]
    assert list(tokens.rows) == ["around the mask"]
    assert 0 < next(iter(tokens.rows["around the mask"].values())) <= 1
