"""The crop's table, on a tiny model."""

from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.crop import HOLE_SHARE, crop_tables, fixed_hole
from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.runtime import Runtime
from layerlift.scenes import make_scene
from tiny_model import write_tiny_model


@pytest.mark.parametrize("seed", [1000, 1001, 1002, 1003])
def test_holes_are_small_and_stay_on_their_spot(seed: int) -> None:
    scene = make_scene(seed, 288, 192, 5)
    hole = fixed_hole(scene)
    assert np.abs(hole.mean((1, 2)) / HOLE_SHARE - 1).max() < 0.1
    moves = (hole[0] != hole[-1]).any()
    assert moves == scene.spec.panning
    # The spot under it looks the same wherever it is: what ripples, ripples about the same colour.
    colours = [frame[where].mean(0) for frame, where in zip(scene.background, hole, strict=True)]
    assert np.ptp(np.stack(colours), axis=0).max() < 6


def test_tables_have_both_ways_and_what_they_cost(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    runtime = Runtime(model, choose_policy("cpu", resident=True))
    inside, tokens, seconds = crop_tables([1000], runtime, size=(160, 128), frames=5)
    ways = ["whole picture", "whole picture at the clip's size", "around the mask"]
    assert [list(table.rows) for table in (inside, tokens, seconds)] == [ways] * 3
    whole, native, near = (tokens.rows[way][1000] for way in ways)
    assert max(whole, near) < native == 1
