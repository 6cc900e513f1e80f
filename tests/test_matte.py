"""Closed-form matting in a band, with the background known."""

import numpy as np
import pytest

from layerlift.stages.layers.matte import WINDOW_EPSILON, band_borders, matting_laplacian, solid_alpha


def disc(radius: float, blur: float, size: int = 48) -> np.ndarray:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.clip((radius - np.hypot(x - 23.3, y - 24.1)) / blur + 0.5, 0, 1)


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc with a gradient before noise: frame, plate (H, W, 3), true alpha (H, W)."""
    rng = np.random.default_rng(0)
    truth = disc(14, 2.5)
    plate = rng.uniform(0.1, 0.4, (48, 48, 3)).astype(np.float32)
    x = np.linspace(0, 1, 48, dtype=np.float32)
    coat = np.stack(np.broadcast_arrays(0.6 + 0.3 * x, 0.9 - 0.2 * x[:, None], 0.3), -1)
    return truth[..., None] * coat + (1 - truth[..., None]) * plate, plate, truth


def test_soft_edge_is_found_from_a_mask_that_is_off_by_a_pixel(
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frame, plate, truth = pictures
    for threshold in (0.02, 0.5, 0.98):
        alpha = solid_alpha(frame, plate, truth > threshold, 3)
        assert np.abs(alpha - truth)[(truth > 0) & (truth < 1)].mean() < 0.06
    assert np.abs((truth > 0.5) - truth)[(truth > 0) & (truth < 1)].mean() > 0.2


def test_beyond_the_band_the_mask_decides(pictures: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frame, plate, truth = pictures
    core, outside = band_borders(truth > 0.5, 3)
    alpha = solid_alpha(frame, plate, truth > 0.5, 3)
    assert (alpha[core] == 1).all()
    assert (alpha[outside] == 0).all()
    np.testing.assert_array_equal(solid_alpha(frame, plate, truth > 0.5, 0), truth > 0.5)


def test_neighbours_help_where_object_and_background_are_alike() -> None:
    """In a stripe the colours hardly differ; the pixel's own estimate is noise there."""
    rng = np.random.default_rng(3)
    truth = disc(14, 2.5)
    plate = np.full((48, 48, 3), 0.3, np.float32)
    coat = np.full((48, 48, 3), 0.7, np.float32)
    coat[20:28] = 0.33
    noise = rng.normal(0, 1.5 / 255, (48, 48, 3)).astype(np.float32)
    frame = truth[..., None] * coat + (1 - truth[..., None]) * plate + noise
    alpha = solid_alpha(frame, plate, truth > 0.5, 3)
    edge = (truth > 0) & (truth < 1)
    edge[:, 23:] = False
    assert np.abs(alpha - truth)[20:28][edge[20:28]].mean() < 0.2


def test_thin_objects_keep_a_core() -> None:
    mask = np.zeros((20, 20), bool)
    mask[9:11, 3:17] = True
    core, _ = band_borders(mask, 4)
    assert core.any()
    assert not (core & ~mask).any()
    frame = np.where(mask[..., None], np.float32(0.9), np.float32(0.2)) * np.ones(3, np.float32)
    alpha = solid_alpha(frame, np.full((20, 20, 3), 0.2, np.float32), mask, 4)
    np.testing.assert_allclose(alpha, mask, atol=0.05)


def test_nothing_to_solve() -> None:
    frame = np.zeros((8, 8, 3), np.float32)
    assert solid_alpha(frame, frame, np.zeros((8, 8), bool), 2).max() == 0
    assert solid_alpha(frame, frame, np.ones((8, 8), bool), 2).min() == 1


@pytest.mark.slow
def test_laplacian_is_pymattings() -> None:
    """PyMatting is not in the lock: it brings a compiler and compiles for minutes when it is first imported."""
    pytest.importorskip("pymatting")
    from pymatting import cf_laplacian

    rng = np.random.default_rng(2)
    frame = rng.random((12, 14, 3)).astype(np.float32)
    everywhere = np.ones((12, 14), bool)
    ours = matting_laplacian(frame, everywhere).toarray()
    theirs = cf_laplacian(frame.astype(np.float64), epsilon=WINDOW_EPSILON).toarray()
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
