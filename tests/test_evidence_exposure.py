"""Fades, flashes and flicker: how bright frames are next to each other, and traces through them."""

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.evidence import State, gather_evidence
from layerlift.evidence.exposure import Exposures, find_exposures
from layerlift.evidence.motion import follow, reduced_size
from layerlift.evidence.proxies import Proxies
from layerlift.masks import Mask
from layerlift.metrics import psnr
from layerlift.progress import QUIET, CancelledError, StageProgress

HEIGHT, WIDTH, FRAMES = 96, 144, 16


def texture(seed: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 225, (height // 6, width // 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def two_layers() -> tuple[np.ndarray, np.ndarray]:
    """A clip of two layers that move apart, float, and what is hidden of either."""
    far, near = texture(3, HEIGHT, 240), texture(4, 40, 320)
    video = np.stack([far[:, index : index + WIDTH] for index in range(FRAMES)]).astype(np.float32)
    for index, frame in enumerate(video):
        frame[56:] = near[:, 4 * index : 4 * index + WIDTH]
    hidden = np.zeros(video.shape[:3], bool)
    hidden[:, 30:80, 60:72] = True
    return video, hidden


def exposed(video: np.ndarray, gains: np.ndarray, bias: float = 0) -> np.ndarray:
    return np.clip(np.rint(video * gains[:, None, None, None] + bias), 0, 255).astype(np.uint8)


def exposures_of(video: np.ndarray, hidden: np.ndarray, progress: StageProgress = QUIET) -> Exposures:
    clip = Clip.from_array(video)
    proxies = Proxies(reduced_size(clip))
    try:
        with QUIET.stage("motion", len(video)) as bar:
            motion = follow(clip, Mask.from_array(hidden), 0, bar, proxies.put)
        return find_exposures(proxies, motion, progress)
    finally:
        proxies.close()


FADE = np.linspace(1, 0.2, FRAMES)
FLICKER = 1 + 0.12 * np.random.default_rng(1).normal(size=FRAMES)
FLASH = np.where(np.arange(FRAMES) == 7, 1.4, 1.0)


def test_the_comparison_of_frames_can_be_cancelled() -> None:
    class Cancelled:
        def advance(self, steps: int = 1) -> None:
            raise CancelledError

    video, hidden = two_layers()
    with pytest.raises(CancelledError):
        exposures_of(exposed(video, FADE), hidden, Cancelled())


@pytest.mark.parametrize("gains", [FADE, FADE[::-1], FLICKER, FLASH])
def test_exposures_are_found_while_things_move(gains: np.ndarray) -> None:
    video, hidden = two_layers()
    found = exposures_of(exposed(0.7 * video, gains), hidden)
    ratios = np.array(found.gains)[:, 1]
    np.testing.assert_allclose(ratios / ratios[0], gains / gains[0], rtol=0.08)
    for source, target in ((0, 9), (12, 3)):
        change = found.between(source, target)
        if change is not None:
            np.testing.assert_allclose(change.apply(np.full(3, 100.0)), 100 * gains[target] / gains[source], rtol=0.08)


def test_a_steady_clip_stays_untouched_also_after_a_flash() -> None:
    video, hidden = two_layers()
    steady = exposures_of(exposed(video, np.ones(FRAMES)), hidden)
    assert all(steady.between(index, 0) is None for index in range(FRAMES))
    flash = exposures_of(exposed(0.7 * video, FLASH), hidden)
    assert [flash.between(index, 0) is None for index in range(FRAMES)] == [index != 7 for index in range(FRAMES)]


def test_a_black_frame_tells_nothing_and_is_told_everything() -> None:
    video, hidden = two_layers()
    gains = np.linspace(1, 0, FRAMES)
    found = exposures_of(exposed(video, gains), hidden)
    assert not found.shows(FRAMES - 1, 0)
    assert found.shows(0, FRAMES - 1)


@pytest.mark.parametrize("gains", [FADE, pytest.param(FLICKER, marks=pytest.mark.slow), FLASH])
def test_traces_go_through_changes_of_exposure(gains: np.ndarray) -> None:
    video, hidden = two_layers()
    truth = exposed(0.7 * video, gains, 5)
    dirty = truth.copy()
    dirty[hidden] = (40, 200, 40)
    with gather_evidence(Clip.from_array(dirty), Mask.from_array(hidden), dilate=0) as evidence:
        plate = np.stack([frame for frame, _ in evidence.filled_frames()])
        states = np.stack(list(evidence.states()))
    assert (states == State.GATHERED).sum() > 0.85 * hidden.sum()
    assert psnr(plate, truth, hidden) > 31
