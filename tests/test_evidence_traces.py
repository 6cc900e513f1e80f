"""Hidden pixels are traced to the frames that show them, along their own motion."""

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence import State, gather_evidence
from layerlift.evidence.fuse import SURE, Side, fuse
from layerlift.evidence.links import Link, cropped
from layerlift.evidence.tracer import contradiction
from layerlift.jobs.shelf import Shelf
from layerlift.masks import Mask
from layerlift.metrics import psnr

HEIGHT, WIDTH = 96, 144


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 225, (height // 6, width // 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def plate_of(video: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What evidence makes of a clip whose `hidden` pixels are painted over, and their states."""
    dirty = video.copy()
    dirty[hidden] = (40, 200, 40)
    with gather_evidence(Clip.from_array(dirty), Mask.from_array(hidden), dilate=0) as evidence:
        return np.stack([frame for frame, _ in evidence.filled_frames()]), np.stack(list(evidence.states()))


def walker_behind_a_mark() -> tuple[np.ndarray, np.ndarray]:
    """A still scene in which a patch wanders to the right, behind a bar that always hides the same pixels."""
    behind, patch = texture(1), texture(2, 60, 48) // 5
    video = np.stack([behind] * 20)
    for index, frame in enumerate(video):
        frame[20:80, 4 + 4 * index : 52 + 4 * index] = patch
    hidden = np.zeros(video.shape[:3], bool)
    hidden[:, 46:50, 50:100] = True
    return video, hidden


def test_what_moves_behind_a_mark_is_taken_along_its_own_motion() -> None:
    video, hidden = walker_behind_a_mark()
    plate, state = plate_of(video, hidden)
    moving = hidden.copy()
    for index in range(20):
        moving[index, :, : 8 + 4 * index] = moving[index, :, 48 + 4 * index :] = False  # well inside the patch
    pairs = zip(video, hidden.view(np.uint8), strict=True)
    telea = np.stack([cv2.inpaint(*pair, 3, cv2.INPAINT_TELEA) for pair in pairs])
    assert psnr(plate, video, moving) > psnr(telea, video, moving)
    # What is called gathered is right.
    wrong = np.abs(plate.astype(int) - video).mean(-1) > 20
    assert wrong[state == State.GATHERED].mean() < 0.05


def test_two_layers_that_move_apart_are_both_found() -> None:
    far, near = texture(3, HEIGHT, 240), texture(4, 40, 320)
    video = np.stack([far[:, index : index + WIDTH] for index in range(16)]).copy()
    for index, frame in enumerate(video):
        frame[56:] = near[:, 4 * index : 4 * index + WIDTH]
    hidden = np.zeros(video.shape[:3], bool)
    hidden[:, 30:80, 60:72] = True  # over both
    plate, state = plate_of(video, hidden)
    assert (state == State.GATHERED).sum() > 0.6 * hidden.sum()
    assert psnr(plate, video, hidden) > 28


def test_nothing_of_what_is_hidden_is_read() -> None:
    video, hidden = walker_behind_a_mark()
    plates = []
    for colour in ((255, 0, 255), (0, 0, 0)):
        dirty = video.copy()
        dirty[hidden] = colour
        with gather_evidence(Clip.from_array(dirty), Mask.from_array(hidden), dilate=0) as evidence:
            plates.append(np.stack([frame for frame, _ in evidence.filled_frames()]))
    np.testing.assert_array_equal(*plates)


def test_a_frame_hidden_wholly_is_its_neighbour() -> None:
    video = np.stack([texture(5)] * 7)
    hidden = np.zeros(video.shape[:3], bool)
    hidden[3] = True
    plate, _ = plate_of(video, hidden)
    assert psnr(plate, video, hidden) > 40


def test_the_surer_side_weighs_more_and_contradiction_is_no_evidence() -> None:
    count = 5
    right, wrong = (np.full((count, 3), value, np.float32) for value in (100, 180))
    sure, vague = (np.full(count, value, np.float32) for value in (1, 20))
    prior = Side(np.full((count, 3), 120, np.float32), np.full(count, 30, np.float32))
    agreed = fuse([Side(right, sure), Side(wrong, vague)], prior)
    assert np.abs(agreed.colours - 100).max() < 1
    torn = fuse([Side(right, sure), Side(wrong, sure)], prior)
    assert (torn.evidence_error > SURE).all()
    nothing = fuse([Side(right, np.full(count, np.inf, np.float32))], prior)
    np.testing.assert_allclose(nothing.colours, 120)
    assert np.isinf(nothing.evidence_error).all()


def test_a_link_that_does_not_lead_back_costs() -> None:
    back = Link((0, 0, 20, 10), np.full((10, 20, 2), (-3, 0), np.float32), np.zeros((10, 20), np.float32))
    rows, columns = np.array([5, 5]), np.array([4, 4])
    cost = contradiction(np.array([[3, 0], [-1, 0]], np.float32), back, rows, columns)
    assert cost[0] == 0
    assert cost[1] > 5


def test_a_hole_of_more_pixels_than_opencv_takes_places_in_a_row() -> None:
    scene = texture(3, 180, 300)
    truth = np.stack([np.roll(scene, 2 * at, 1) for at in range(3)])
    hidden = np.zeros(truth.shape[:3], bool)
    hidden[1, 20:160, 20:280] = True
    assert np.count_nonzero(hidden) > 32767
    plate, _ = plate_of(truth, hidden)
    assert psnr(plate, truth, hidden) > 30


def test_links_of_more_pixels_than_opencv_looks_up_at_once() -> None:
    count = 3 * 32767
    back = Link((0, 0, 20, 10), np.full((10, 20, 2), (-3, 0), np.float32), np.zeros((10, 20), np.float32))
    flow = np.zeros((count, 2), np.float32)
    flow[count // 2 :] = 3, 0
    cost = contradiction(flow, back, np.full(count, 5), np.full(count, 4))
    assert cost.shape == (count,)
    assert (cost[: count // 2] > 5).all()
    assert (cost[count // 2 :] == 0).all()


def test_a_box_beyond_the_picture_keeps_its_size() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(cropped(picture, (1, 0, 4, 2), (-2, 1)), [[4, 4, 5], [8, 8, 9]])
    assert cropped(picture, (0, 0, 2, 2), (50, 50)).tolist() == [[11, 11], [11, 11]]


def test_a_shelf_gives_back_what_was_put_last() -> None:
    with Shelf() as shelf:
        shelf.put(3, np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 2), bool))
        shelf.put(1, np.array([True, False]))
        shelf.put(3, np.full((1, 2), 7, np.uint8))
        assert shelf.get(3)[0].tolist() == [[7, 7]]
        assert shelf.get(1)[0].tolist() == [True, False]
        assert 1 in shelf
        assert 2 not in shelf
