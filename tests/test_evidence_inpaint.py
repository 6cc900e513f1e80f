"""One frame's hidden pixels continued from around them."""

import cv2
import numpy as np

from layerlift.evidence.inpaint import inpaint
from layerlift.evidence.proxies import inpainting_error
from layerlift.metrics import psnr


def smooth(height: int = 96, width: int = 128, seed: int = 3) -> np.ndarray:
    """A picture of soft blobs, (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(40, 215, (height // 12, width // 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def hole(shape: tuple[int, int], *, top: int = 30, left: int = 40, high: int = 8, wide: int = 50) -> np.ndarray:
    hidden = np.zeros(shape, bool)
    hidden[top : top + high, left : left + wide] = True
    return hidden


def test_a_slope_goes_on_through_a_hole() -> None:
    ramp = np.repeat(np.linspace(20, 230, 96)[:, None, None], 128, 1).repeat(3, 2).round().astype(np.uint8)
    hidden = hole((96, 128), high=12)
    dirty = np.where(hidden[..., None], np.uint8(255), ramp)
    assert np.abs(inpaint(dirty, hidden).astype(int) - ramp)[hidden].max() <= 2


def test_closer_to_a_smooth_truth_than_telea() -> None:
    truth, hidden = smooth(), hole((96, 128))
    dirty = np.where(hidden[..., None], np.uint8(255), truth)
    telea = cv2.inpaint(dirty, hidden.view(np.uint8), 3, cv2.INPAINT_TELEA)
    assert (
        psnr(inpaint(dirty, hidden)[None], truth[None], hidden[None]) > psnr(telea[None], truth[None], hidden[None]) + 3
    )


def test_only_hidden_pixels_change_and_what_they_held_does_not_matter() -> None:
    truth, hidden = smooth(), hole((96, 128), top=0, left=0, high=40, wide=90)  # large, and at the picture's corner
    one, other = (inpaint(np.where(hidden[..., None], np.uint8(value), truth), hidden) for value in (0, 255))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[~hidden], truth[~hidden])


def test_nothing_and_everything_hidden_stay() -> None:
    truth = smooth()
    for hidden in (np.zeros((96, 128), bool), np.ones((96, 128), bool)):
        assert inpaint(truth, hidden) is truth


def test_expected_error_grows_with_depth_and_contrast() -> None:
    picture = smooth()
    deep, flat = hole((96, 128), high=30), np.full_like(picture, 90)
    error = inpainting_error(picture, deep)
    assert error[45, 65] > 1.5 * error[31, 65]
    assert error[45, 65] > 5 * inpainting_error(flat, deep)[45, 65]
    assert np.isinf(inpainting_error(picture, np.ones((96, 128), bool))).all()
