"""Exemplar-based inpainting: structure goes on through a hole, everything else stays, equal seeds are equal pixels."""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from layerlift.evidence.exemplar import exemplar_fill, exemplars_available
from layerlift.metrics import psnr

needs_exemplars = pytest.mark.skipif(not exemplars_available(), reason="pypatchmatch has no wheel for this machine")

HOLE = np.s_[40:72, 60:100]


def bricks(height: int = 120, width: int = 160) -> np.ndarray:
    """A wall: dark joints every 10 rows and 20 columns, every other course shifted, with a little grain."""
    rows, columns = np.mgrid[:height, :width]
    joint = (rows % 10 < 2) | ((columns + 10 * (rows // 10 % 2)) % 20 < 2)
    wall = np.where(joint[..., None], [90, 85, 80], [180, 90, 70])
    return (wall + np.random.default_rng(0).integers(-4, 5, wall.shape)).astype(np.uint8)


def hole_in(frame: np.ndarray) -> np.ndarray:
    hole = np.zeros(frame.shape[:2], bool)
    hole[HOLE] = True
    return hole


@needs_exemplars
def test_bricks_go_on_through_a_hole_and_nothing_else_changes() -> None:
    truth = bricks()
    hole = hole_in(truth)
    given = np.where(hole[..., None], np.uint8(255), truth)
    kept = given.copy()
    filled = exemplar_fill(given, hole, seed=0)
    np.testing.assert_array_equal(filled[~hole], truth[~hole])
    np.testing.assert_array_equal(given, kept)
    smeared = cv2.inpaint(given, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    ours, telea = (psnr(made[None], truth[None], hole[None]) for made in (filled, smeared))
    assert ours > telea + 3


@pytest.mark.slow
@needs_exemplars
def test_equal_seeds_give_equal_pixels_on_every_thread() -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    hole = hole_in(frame)
    expected = {seed: exemplar_fill(frame, hole, seed=seed) for seed in (1, 2)}
    assert (expected[1] != expected[2]).any()
    seeds = [1, 2] * 4
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda seed: exemplar_fill(frame, hole, seed=seed), seeds))
    for seed, frame_made in zip(seeds, made, strict=True):
        np.testing.assert_array_equal(frame_made, expected[seed])


@needs_exemplars
def test_only_the_neighbourhood_of_the_hole_counts() -> None:
    near = bricks(240, 400)
    hole = np.zeros(near.shape[:2], bool)
    hole[20:40, 20:40] = True
    far = near.copy()
    far[:, 300:] = 0
    np.testing.assert_array_equal(exemplar_fill(near, hole, seed=0)[hole], exemplar_fill(far, hole, seed=0)[hole])


@needs_exemplars
@pytest.mark.parametrize(("height", "width", "known"), [(1, 2, 1), (3, 100, 3), (12, 60, 40), (100, 200, 25)])
def test_where_hardly_anything_is_known_nothing_becomes_black(height: int, width: int, known: int) -> None:
    frame = np.random.default_rng(2).integers(100, 256, (height, width, 3), dtype=np.uint8)
    frame = cv2.blur(frame, (3, 3))
    hole = np.ones((height, width), bool)
    hole[:known, :known] = False
    filled = exemplar_fill(frame, hole, seed=0)
    assert filled.min() >= 100
    np.testing.assert_array_equal(filled[~hole], frame[~hole])


def test_frames_without_a_hole_or_without_anything_else_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "patchmatch", None)  # not even asked for
    frame = bricks()
    for hole in (np.zeros(frame.shape[:2], bool), np.ones(frame.shape[:2], bool)):
        np.testing.assert_array_equal(exemplar_fill(frame, hole, seed=0), frame)


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    assert not exemplars_available()
    frame = bricks()
    with pytest.raises(RuntimeError, match="pypatchmatch"):
        exemplar_fill(frame, hole_in(frame), seed=0)
