"""What changed between clip and clean plate."""

import numpy as np
import pytest

from layerlift.stages.effects.plate import what_changed


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A frame, its clean plate, where effects may be, and where one is: a soft shadow on grainy ground."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:80, :120]
    clean = np.full((80, 120, 3), 140.0) + generator.normal(0, 3, (80, 120, 3))
    distance = np.hypot((rows - 40) / 14, (columns - 60) / 25)
    alpha = np.clip(6 * (1 - distance) + 0.5, 0, 1) * 0.4
    frame = clean * (1 - alpha[..., None])
    generous = distance < 1.6
    # The model knows the ground but not its grain.
    plate = np.where(generous[..., None], 140 + generator.normal(0, 3, clean.shape), clean)
    return frame.round().astype(np.uint8), plate.round().astype(np.uint8), generous, alpha > 0.02


def test_the_shadow_stays_and_the_rest_of_a_generous_mask_goes(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frame, plate, generous, shadow = scene
    found = what_changed(frame, plate, generous)
    assert not (found & ~generous).any()
    assert (found & shadow).sum() / (found | shadow).sum() > 0.9
    assert (generous & shadow).sum() / (generous | shadow).sum() < 0.6


def test_grain_alone_is_no_change(scene: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, plate, generous, _ = scene
    generator = np.random.default_rng(1)
    other = np.clip(plate + generator.normal(0, 6, plate.shape), 0, 255).astype(np.uint8)
    assert what_changed(other, plate, generous).sum() < 0.01 * generous.sum()


def test_nothing_where_nothing_was_asked_for(scene: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    frame, plate, generous, _ = scene
    assert not what_changed(frame, plate, np.zeros_like(generous)).any()
