"""What no frame shows is filled once, and stands still in the scene."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.evidence import gather_evidence
from layerlift.evidence.exemplar import exemplars_available
from layerlift.evidence.fills import CARRIED, SHALLOW, deep_parts, smooth_sources
from layerlift.evidence.inpaint import inpaint
from layerlift.evidence.traces import COST, FRAME, X, Y, own_source
from layerlift.evidence.tracing import STEPS
from layerlift.masks import Mask
from layerlift.metrics import psnr
from layerlift.options import RemovalOptions
from layerlift.progress import CancelledError, StageProgress
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.removal import remove_frames

HEIGHT, WIDTH, FRAMES, STEP = 120, 180, 12, 2
# A hole that the camera moves little: its middle is in no frame.
HOLE = np.s_[30:90, 50:130]


def planks(width: int) -> np.ndarray:
    """Boards side by side, each of another brightness, with a dark gap after it."""
    rng = np.random.default_rng(4)
    picture = np.repeat(rng.integers(110, 190, -(-width // 12)), 12)[:width].astype(np.float32)
    picture[np.arange(width) % 12 == 0] = 30
    noise = cv2.GaussianBlur(rng.normal(0, 12, (HEIGHT, width)).astype(np.float32), (0, 0), 1)
    return np.clip(picture + noise, 0, 255)[..., None].repeat(3, 2).astype(np.uint8)


def pan() -> tuple[Clip, Mask]:
    """A pan along planks, and the hole in each of its frames."""
    scene = planks(WIDTH + STEP * FRAMES)
    video = np.stack([scene[:, STEP * index : STEP * index + WIDTH] for index in range(FRAMES)]).copy()
    hidden = np.zeros(video.shape[:3], bool)
    hidden[:, *HOLE] = True
    video[hidden] = (40, 200, 40)
    return Clip.from_array(video), Mask.from_array(hidden)


@pytest.fixture(scope="module")
def filled() -> np.ndarray:
    """Every frame of a pan along planks, filled without a model."""
    with gather_evidence(*pan(), dilate=0) as evidence:
        return np.stack([frame for frame, _ in evidence.filled_frames()]).astype(float)


def middle(frame: np.ndarray, shift: int = 0) -> np.ndarray:
    return frame[45:75, 75 + shift : 105 + shift]


@pytest.mark.skipif(not exemplars_available(), reason="pypatchmatch is not to be had here")
def test_what_no_frame_shows_has_the_texture_of_its_surroundings(filled: np.ndarray) -> None:
    for frame in filled:
        assert middle(frame).std() > 0.5 * frame[:, :40].std()


@pytest.mark.skipif(not exemplars_available(), reason="pypatchmatch is not to be had here")
def test_what_no_frame_shows_stands_still_in_the_scene(filled: np.ndarray) -> None:
    moved = [np.abs(middle(one, STEP) - middle(other)).mean() for one, other in pairwise(filled)]
    assert np.median(moved) < 3
    # In the picture it moves with the camera.
    still = [np.abs(middle(one) - middle(other)).mean() for one, other in pairwise(filled)]
    assert np.median(still) > 4 * np.median(moved)


class EndsBetween:
    """Asks for an end where tracing has made `steps` steps and asks whether to go on before it makes another."""

    def __init__(self, steps: int) -> None:
        self.left: int | None = None
        self.steps = steps

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        self.left = self.steps if name == "trace" else None
        yield self

    def advance(self, steps: int = 1) -> None:
        if self.left == steps == 0:
            raise CancelledError("enough")
        if self.left is not None:
            self.left -= steps


# All frames are inpainted, then compared for their exposures; linked, then walked through; and, when nothing but fills
# is left, filled.
@pytest.mark.parametrize("rounds", [1, 2, STEPS])
def test_tracing_can_be_stopped_between_its_steps(rounds: int) -> None:
    with pytest.raises(CancelledError):
        gather_evidence(*pan(), dilate=0, progress=EndsBetween(rounds * FRAMES))


def test_parts_that_are_shallow_or_lie_in_plain_surroundings_are_left_to_inpainting() -> None:
    rich = np.random.default_rng(0).integers(60, 200, (60, 80, 3)).astype(np.uint8)
    unseen = np.zeros((60, 80), bool)
    unseen[5 : 5 + int(2 * SHALLOW) - 2, 5:70] = True
    assert not deep_parts(rich, unseen).any()
    unseen[30:58, 5:40] = True
    deep = deep_parts(rich, unseen)
    assert np.array_equal(deep, unseen & (np.arange(60) >= 30)[:, None])
    # However much a slope rises, inpainting continues it.
    slope = np.broadcast_to(3 * np.arange(80)[:, None], (60, 80, 3)).astype(np.uint8)
    assert not deep_parts(slope, unseen).any()


def test_neighbours_come_from_one_fill() -> None:
    unseen = np.zeros((30, 30), bool)
    unseen[5:25, 5:25] = True
    source = own_source(3, 30, 30)
    source[..., X] += 2.5
    source[12, 12] = 20, 20, 7, 1  # a speck of another fill
    source[16, 16, COST] = 2 * CARRIED  # and one that costs too much
    source[~unseen] = np.nan, np.nan, np.nan, np.inf
    smooth = smooth_sources(source, unseen)
    assert (smooth[unseen][:, FRAME] == 3).all()
    rows, columns = np.nonzero(unseen)
    np.testing.assert_allclose(smooth[unseen][:, X], columns + 2.5, atol=1e-3)
    np.testing.assert_allclose(smooth[unseen][:, Y], rows, atol=1e-3)
    assert not np.isfinite(smooth[~unseen][:, COST]).any()


def test_where_exemplars_are_not_to_be_had_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "patchmatch", None)  # as if pypatchmatch were not installed
    scene = planks(WIDTH)
    video = np.stack([scene] * 2)
    report = Report()
    hidden = np.zeros(video.shape[:3], bool)
    hidden[:, 40:60, 60:90] = True
    frames = list(remove_frames(Clip.from_array(video), hidden, runtime=Runtime(model="none", report=report)))
    assert len(frames) == 2
    assert any("pypatchmatch" in note for note in report.notes)


def test_letters_over_someone_who_walks_by_come_out_better_than_inpainted() -> None:
    # A still camera never shows what lies behind a mark; who walks behind it is seen beside it, and is traced.
    rng = np.random.default_rng(5)
    scene = cv2.resize(rng.integers(60, 230, (18, 32, 3), dtype=np.uint8), (256, 144), interpolation=cv2.INTER_CUBIC)
    coat = cv2.resize(rng.integers(15, 45, (12, 8, 3), dtype=np.uint8), (64, 100), interpolation=cv2.INTER_CUBIC)
    letters = np.zeros(scene.shape[:2], np.uint8)
    cv2.putText(letters, "CH 5", (95, 85), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 3)
    letters = cv2.dilate(letters, np.ones((3, 3))) > 0
    truth = np.stack([scene] * 16)
    for index, frame in enumerate(truth):
        left = 40 + 6 * index
        frame[44:, left : left + 64] = coat
    video = truth.copy()
    video[:, letters] = 255
    hidden = np.broadcast_to(letters, truth.shape[:3]).copy()
    plate = np.stack(
        list(remove_frames(Clip.from_array(video), hidden, RemovalOptions(dilate=0), runtime=Runtime(model="none")))
    )
    spread = np.stack([inpaint(frame, letters) for frame in video])
    assert psnr(plate, truth, hidden) > psnr(spread, truth, hidden)


def test_where_nothing_is_known_around_a_hole_nothing_is_deep() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    assert not deep_parts(picture, np.ones((40, 60), bool)).any()
