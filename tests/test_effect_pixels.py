"""From scores of cells to masks of pixels, each step on its own."""

import numpy as np
import pytest
import torch

from layerlift.geometry.fit import Geometry, fit_size
from layerlift.pixels import effects as effect_pixels
from layerlift.pixels.effects import (
    Decision,
    cell_side,
    cell_weights,
    distance_in_frames,
    draw_effects,
    keep_effects,
    lift_faint,
    linear_weights,
    scores_of_frames,
    smooth_in_time,
)


def test_linear_weights_interpolate_and_hold_the_ends() -> None:
    weights = linear_weights(torch.tensor([-1.0, 0.0, 0.5, 1.5, 9.0]), torch.tensor([0.0, 1.0, 3.0]))
    values = weights @ torch.tensor([10.0, 20.0, 40.0])
    torch.testing.assert_close(values, torch.tensor([10.0, 10.0, 15.0, 25.0, 40.0]))
    assert linear_weights(torch.arange(3.0), torch.zeros(1)).tolist() == [[1], [1], [1]]


def test_a_latent_frame_stands_in_the_middle_of_its_frames() -> None:
    scores = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    frames = scores_of_frames(scores, torch.zeros(3, 1, 1), 9, 4)[0, :, 0, 0]
    # centres: frame 0, then 2.5 (of 1 … 4) and 6.5 (of 5 … 8)
    expected = torch.tensor([0, 0.4, 0.8, 0.875, 0.625, 0.375, 0.125, 0, 0])
    torch.testing.assert_close(frames, expected)
    alone = scores_of_frames(torch.full((2, 1, 1, 1), 0.3), torch.zeros(1, 1, 1), 1, 4)
    torch.testing.assert_close(alone, torch.full((2, 1, 1, 1), 0.3))


def test_scores_beneath_an_object_do_not_speak() -> None:
    scores = torch.tensor([0.2, 0.9]).view(1, 2, 1, 1)
    hidden = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    frames = scores_of_frames(scores, hidden, 5, 4)[0, :, 0, 0]
    assert frames[1] < 0.23  # 0.48 if both spoke alike
    assert torch.isfinite(frames).all()


def test_smoothing_spreads_over_the_radius_and_keeps_the_sum() -> None:
    scores = torch.zeros(1, 9, 1, 1)
    scores[0, 4] = 1
    smooth = smooth_in_time(scores, 2)[0, :, 0, 0]
    torch.testing.assert_close(smooth, torch.tensor([0, 0, 1, 2, 3, 2, 1, 0, 0]) / 9)
    assert smooth_in_time(scores, 0) is scores
    torch.testing.assert_close(smooth_in_time(torch.ones(2, 1, 3, 4), 5), torch.ones(2, 1, 3, 4))


def kept(scores: np.ndarray, there: np.ndarray, **changes: object) -> np.ndarray:
    decision = Decision(**{"threshold": 0.3, **changes})  # type: ignore[arg-type]
    return keep_effects(scores.astype(np.float32)[None], there[None], decision, cell=16)[0]


@pytest.fixture
def there() -> np.ndarray:
    there = np.zeros((2, 6, 12), bool)
    there[:, 2, :2] = True
    return there


def test_weak_cells_stay_where_a_strong_one_is_among_them(there: np.ndarray) -> None:
    scores = np.zeros(there.shape)
    scores[:, 3, 1:5] = [0.6, 0.2, 0.2, 0.1]  # strong, weak, weak, below all
    scores[:, 0, 0] = 0.4  # a candidate, but nowhere strong
    result = kept(scores, there)
    assert (result[:, 3, 1:4] == scores[:, 3, 1:4].astype(np.float32)).all()
    assert result[:, 3, 4].max() == 0
    assert result[:, 0, 0].max() == 0


def test_small_islands_away_from_the_object_go_and_large_ones_stay(there: np.ndarray) -> None:
    scores = np.zeros(there.shape)
    scores[:, 3, 1] = 0.9
    scores[:, 5, 6] = 0.9
    scores[:, 0:2, 9:11] = 0.9
    result = kept(scores, there)
    assert result[:, 3, 1].all()
    assert not result[:, 5, 6].any()
    assert result[:, 0:2, 9:11].all()


def test_faint_effects_are_lifted_as_wholes_and_clear_ones_stay(there: np.ndarray) -> None:
    scores = np.zeros((2, *there.shape), np.float32)
    scores[0, :, 3, 0:3] = [0.3, 0.4, 0.2]  # faint, and part of it another object's
    scores[1, :, 3, 3] = 0.2
    scores[0, :, 0, 6:10] = 0.9
    scores[1, :, 5, 6:10] = 0.1
    there = np.ones(scores.shape[1:], bool)
    lifted = lift_faint(scores, there, 0.8)
    np.testing.assert_allclose(lifted[0, :, 3, 0:3] / scores[0, :, 3, 0:3], lifted[0, 0, 3, 0] / 0.3, rtol=1e-5)
    np.testing.assert_allclose(lifted[1, :, 3, 3] / 0.2, lifted[0, 0, 3, 0] / 0.3, rtol=1e-5)
    assert 0.75 < lifted[0, :, 3].max() <= 1
    assert (lifted[0, :, 0] == scores[0, :, 0]).all()
    np.testing.assert_allclose(lifted[1, :, 5, 6:10], 0.3, rtol=1e-5)  # at most threefold
    assert (lift_faint(scores, ~there, 0.8) == scores).all()


def test_only_what_touches_its_object_is_lifted(there: np.ndarray) -> None:
    scores = np.zeros(there.shape, np.float32)
    scores[:, 3, 1] = scores[:, 0:2, 9:11] = 0.5
    result = keep_effects(scores[None], there[None], Decision(0.3, 0.8), 16)[0]
    np.testing.assert_allclose(result[:, 3, 1], 0.8, rtol=1e-5)
    assert (result[:, 0:2, 9:11] == scores[:, 0:2, 9:11]).all()


def test_effects_beyond_the_distance_go(there: np.ndarray) -> None:
    scores = np.zeros(there.shape)
    scores[:, 3, 1:12] = 0.9
    result = kept(scores, there, max_distance=48)
    reached = np.flatnonzero(result[0, 3])
    assert reached.tolist() == [1, 2, 3]  # √10 cells of 16 pixels are too far
    assert kept(scores, there, max_distance=0).max() == 0


def test_distance_stays_within_its_frame() -> None:
    there = np.zeros((3, 4, 5), bool)
    there[0, 0, 0] = there[2, 3, 4] = True
    distance = distance_in_frames(there)
    assert distance[0, 3, 4] == pytest.approx(5)
    assert distance[2, 3, 4] == 0
    assert np.isinf(distance[1]).all()
    assert np.isinf(distance_in_frames(np.zeros((1, 2, 2), bool))).all()


def test_an_object_that_is_gone_keeps_only_large_strong_effects() -> None:
    there = np.zeros((1, 6, 12), bool)
    scores = np.zeros(there.shape)
    scores[0, 0, :3], scores[0, 5, 7] = 0.9, 0.9
    result = kept(scores, there)
    assert result[0, 0, :3].all()
    assert not result[0, 5, 7]


def test_cells_lie_where_the_fit_put_them() -> None:
    fit = fit_size((200, 100), (100, 100), 16)  # half size, padded to 112 × 64
    side = cell_side(fit, Geometry(16, 4, 8))
    assert side == (32, 32)
    weights = cell_weights(200, 1, side[0], 7, torch.device("cpu"))
    assert weights.shape == (200, 7)
    assert weights[15].argmax() == 0
    torch.testing.assert_close(weights[32 + 16 - 1 : 32 + 17].mean(0), torch.eye(7)[1], atol=0.04, rtol=0)
    assert cell_weights(9, 4, 16, 1, torch.device("cpu")).shape == (3, 1)


def test_effects_are_drawn_outside_objects_and_belong_to_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    frames = torch.from_numpy(generator.integers(0, 256, (5, 50, 70, 3), dtype=np.uint8))
    objects = torch.zeros(2, 5, 50, 70, dtype=torch.bool)
    objects[0, :, 10:20, 10:20] = True
    objects[1, :, 30:40, 50:60] = True
    scores = torch.from_numpy(generator.random((2, 5, 4, 5)).astype(np.float32))
    for edges in (False, True):
        decision = Decision(0.3, edges=edges)
        effects = draw_effects(frames, objects, scores, decision, side=(16, 16))
        assert effects.shape == objects.shape
        assert effects.any((1, 2, 3)).all()
        assert not (effects & objects.any(0)).any()
        assert not (effects[0] & effects[1]).any()
        with monkeypatch.context() as patch:
            patch.setattr(effect_pixels, "DRAW_BYTES", 1)  # one frame at a time
            assert torch.equal(draw_effects(frames, objects, scores, decision, side=(16, 16)), effects)


def test_without_edges_scores_are_interpolated() -> None:
    scores = torch.zeros(1, 1, 2, 2)
    scores[..., 0] = 1
    frames = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    effects = draw_effects(
        frames, torch.zeros(1, 1, 32, 32, dtype=torch.bool), scores, Decision(0.5, edges=False), side=(16, 16)
    )
    assert effects[0, 0, :, :16].all()
    assert not effects[0, 0, :, 16:].any()
