"""Pixel formats by swscale: the number of threads makes no difference but in time."""

import numpy as np
import pytest
from av.video.frame import VideoFrame

from layerlift.clip.convert import converted


class Told:
    """A picture of some size that notes how it is converted."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.told: dict[str, object] = {}

    def reformat(self, **told: object) -> "Told":
        self.told = told
        return self


@pytest.mark.parametrize(
    ("width", "height", "threads"), [(64, 48, 1), (1280, 720, 1), (1920, 1080, 0), (3840, 2160, 0)]
)
def test_small_pictures_start_no_threads(width: int, height: int, threads: int) -> None:
    picture = Told(width, height)
    converted(picture, "rgb24")
    assert picture.told == {"format": "rgb24", "interpolation": None, "threads": threads}


def test_threads_make_no_difference() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    large = VideoFrame.from_ndarray(pixels, format="rgb24")
    alone = large.reformat(format="yuv444p", threads=1).to_ndarray()
    np.testing.assert_array_equal(converted(large, "yuv444p").to_ndarray(), alone)
