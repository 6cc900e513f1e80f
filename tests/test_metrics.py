"""PSNR against its definition."""

import numpy as np
import pytest

from layerlift.metrics import PSNR_CAP, psnr


def test_psnr_of_one_level_everywhere() -> None:
    truth = np.full((2, 4, 4, 3), 100, np.uint8)
    assert psnr(truth + 1, truth) == pytest.approx(20 * np.log10(255))


def test_equal_clips_reach_the_cap_and_nothing_passes_it() -> None:
    truth = np.zeros((1, 64, 64, 3), np.uint8)
    nearly = truth.copy()
    nearly[0, 0, 0, 0] = 1
    assert psnr(truth, truth) == psnr(nearly, truth) == PSNR_CAP
    assert psnr(nearly, truth, cap=np.inf) > PSNR_CAP


def test_only_pixels_of_the_mask_count() -> None:
    truth = np.zeros((1, 4, 4, 3), np.uint8)
    picture = truth.copy()
    picture[0, 0, 0] = 255
    where = np.zeros((1, 4, 4), bool)
    assert np.isnan(psnr(picture, truth, where))
    where[0, 1:] = True
    assert psnr(picture, truth, where) == PSNR_CAP
    where[0, 0, 0] = True
    assert psnr(picture, truth, where) == pytest.approx(10 * np.log10(13))  # one of 13 pixels is wrong by 255


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same shape"):
        psnr(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 5, 3), np.uint8))
