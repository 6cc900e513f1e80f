import numpy as np
import pytest

from layerlift.evidence.align import Aligned
from layerlift.evidence.combine import PATTERNS, RARE_SAMPLES, combine, enliven, krige, patterns_of, variogram
from layerlift.evidence.region import Region
from layerlift.pixels.arrays import distance_to


def waves(frames: int, pixels: int, noise: float = 0.0) -> np.ndarray:
    """(F, N, 3): every pixel goes to and fro with a phase and an amplitude of its own."""
    rng = np.random.default_rng(0)
    phase, gain = rng.uniform(0, 2 * np.pi, pixels), rng.uniform(3, 10, pixels)
    time = np.arange(frames)[:, None]
    values = 100 + rng.normal(0, 20, pixels) + gain * np.sin(0.5 * time + phase)
    values = values[..., None].repeat(3, 2)
    return (values + rng.normal(0, noise, values.shape)).astype(np.float32)


def test_variogram_of_noise_is_its_variance() -> None:
    values = np.random.default_rng(0).normal(100, 5, (4, 20000, 3)).astype(np.float32)
    gamma = variogram(values, np.ones((4, 20000), bool))
    off = gamma[~np.eye(4, dtype=bool)]
    assert off == pytest.approx(25, rel=0.1)
    assert np.diag(gamma) == pytest.approx(0)


def test_variogram_is_possible_even_where_pairs_see_different_pixels() -> None:
    rng = np.random.default_rng(0)
    values, seen = waves(8, 300, noise=1), rng.random((8, 300)) < 0.4
    seen[0] = True
    gamma = variogram(values, seen)
    centring = np.eye(8) - 1 / 8
    assert np.linalg.eigvalsh(-centring @ gamma @ centring).min() > -1e-6


def test_weights_sum_to_one_and_leave_out_what_is_missing() -> None:
    gamma = variogram(waves(7, 500, noise=1), np.ones((7, 500), bool))
    patterns = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], bool)
    weights, error = krige(gamma[1:, 1:], gamma[0, 1:], patterns)
    assert weights[:3].sum(1) == pytest.approx(1)
    assert (weights[~patterns] == 0).all()
    assert np.isinf(error[3])
    assert error[0] < error[1]


def test_noise_is_averaged_and_waves_are_foretold() -> None:
    still = np.full((7, 400, 3), 90, np.float32) + np.random.default_rng(1).normal(0, 3, (7, 400, 3)).astype(np.float32)
    gamma = variogram(still, np.ones((7, 400), bool))
    weights, _ = krige(gamma[1:, 1:], gamma[0, 1:], np.ones((1, 6), bool))
    assert weights[0] == pytest.approx(1 / 6, abs=0.05)

    sea = waves(7, 2000)
    gamma = variogram(sea, np.ones((7, 2000), bool))
    weights, _ = krige(gamma[1:, 1:], gamma[0, 1:], np.ones((1, 6), bool))
    foretold = np.tensordot(weights[0], sea[1:], 1)
    assert np.abs(foretold - sea[0]).mean() < 1
    assert np.abs(sea[1:].mean(0) - sea[0]).mean() > 3  # what a mean would make of it


def test_what_cannot_be_foretold_is_carried_by_one_sample() -> None:
    noise = np.random.default_rng(0).normal(100, 8, (5, 4000, 3)).astype(np.float32)
    gamma = variogram(noise, np.ones((5, 4000), bool))
    patterns = np.ones((1, 4), bool)
    weights, error = krige(gamma[1:, 1:], gamma[0, 1:], patterns)
    lively = enliven(weights, error, gamma[1:, 1:], patterns, carriers=[2])
    assert lively.sum() == pytest.approx(1)
    assert lively[0].argmax() == 2
    guess, alive = (np.tensordot(w[0], noise[1:], 1).std() for w in (weights, lively))
    assert guess < 0.6 * 8 < 0.8 * 8 < alive < 1.2 * 8


def test_a_sure_guess_is_left_as_it_is() -> None:
    gamma = variogram(np.full((4, 500, 3), 50, np.float32), np.ones((4, 500), bool))
    patterns = np.ones((1, 3), bool)
    weights, error = krige(gamma[1:, 1:], gamma[0, 1:], patterns)
    assert np.array_equal(enliven(weights, error, gamma[1:, 1:], patterns, carriers=[0]), weights)


def test_patterns_are_told_apart_and_rare_ones_are_cut() -> None:
    seen = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1]], bool)
    patterns, index = patterns_of(seen)
    assert np.array_equal(patterns[index], seen)
    many = np.random.default_rng(0).random((4000, 14)) < 0.8
    patterns, index = patterns_of(many)
    assert len(patterns) < len(np.unique(many, axis=0))
    assert (patterns[index] <= many).all()
    cut = (patterns[index] != many).any(1)
    assert patterns[index][cut].sum(1).max() == RARE_SAMPLES
    assert len(patterns) >= PATTERNS // 2


def test_a_hole_takes_the_value_that_the_others_show_in_this_exposure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(40, 200, (40, 40, 3), dtype=np.uint8)
    hidden = np.zeros((40, 40), bool)
    hidden[15:25, 15:25] = True
    shown = truth.copy()
    seen_here = truth.copy()
    seen_here[hidden] = 0
    darker = np.rint((shown.astype(float) - 10) / 1.1).astype(np.uint8)
    samples = Aligned(
        [1, 2], np.stack([shown, darker]), np.ones((2, 40, 40), bool),
        np.array([[1, 1, 1], [1.1, 1.1, 1.1]], np.float32), np.array([[0, 0, 0], [10, 10, 10]], np.float32),
    )  # fmt: skip
    found = combine(samples, Region((0, 0, 40, 40), seen_here, hidden, distance_to(hidden), ~hidden))
    assert found.any_sample[hidden].all()
    assert np.abs(found.values[hidden] - truth[hidden]).max() < 1.5
    assert found.sigma[hidden].max() < 2
