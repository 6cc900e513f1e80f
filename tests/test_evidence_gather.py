from fractions import Fraction

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.evidence import Evidence, EvidenceOptions, State, gather_evidence
from layerlift.evidence.reach import BYTES, Reach, hold
from layerlift.evidence.region import boxes_around
from layerlift.masks import Mask
from layerlift.metrics import psnr

HEIGHT, WIDTH = 96, 160
DILATE = 2


def world(seed: int = 0, contrast: float = 40) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(200, 420, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + contrast * soft / soft.std(), 0, 255)


def see(ground: np.ndarray, x: float, y: float = 50) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], float)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.clip(np.rint(cv2.warpAffine(ground, matrix, (WIDTH, HEIGHT), flags=flags)), 0, 255).astype(np.uint8)


def walker(frames: int, step: float = 9, start: float = 12) -> np.ndarray:
    """A mask (F, H, W) of something 24 pixels wide that walks through."""
    mask = np.zeros((frames, HEIGHT, WIDTH), bool)
    for t in range(frames):
        left = round(start + step * t)
        mask[t, 30:70, left : left + 24] = True
    return mask


def hide(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    video = truth.copy()
    video[mask] = (250, 20, 20)
    return video


def gather(video: np.ndarray, mask: np.ndarray, **options: int) -> Evidence:
    clip = Clip.from_array(video, Fraction(24))
    return gather_evidence(clip, Mask.from_array(mask), dilate=DILATE, options=EvidenceOptions(**options))


def results(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(evidence.frames())
    return np.stack([frame for frame, _ in pairs]), np.stack([state for _, state in pairs])


def grown(mask: np.ndarray) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DILATE + 1, 2 * DILATE + 1))
    return np.stack([cv2.dilate(frame.astype(np.uint8), kernel) > 0 for frame in mask])


def test_a_still_camera_gives_back_the_very_pixels() -> None:
    truth = np.stack([see(world(), 50)] * 12)
    mask = walker(12)
    with gather(hide(truth, mask), mask) as evidence:
        frames, states = results(evidence)
    assert np.array_equal(frames, truth)
    assert (states[mask] == State.GATHERED).all()
    assert (states[~grown(mask)] == State.ORIGINAL).all()
    assert evidence.shares["gathered"] == 1
    assert evidence.shares["hidden"] == (states != State.ORIGINAL).sum()


def test_a_moving_camera_gives_them_back_nearly() -> None:
    truth = np.stack([see(world(), 40 + 3.37 * t, 50 + 0.3 * t) for t in range(12)])
    mask = walker(12)
    with gather(hide(truth, mask), mask) as evidence:
        frames, states = results(evidence)
    found = states == State.GATHERED
    assert found[mask].mean() > 0.95
    assert psnr(frames, truth, found) > 40
    untouched = states == State.ORIGINAL
    assert np.array_equal(frames[untouched], hide(truth, mask)[untouched])


def test_waves_go_on_inside_the_mask() -> None:
    ground = world()
    y = np.arange(HEIGHT)[:, None, None]
    truth = np.stack(
        [np.clip(see(ground, 50) + 9 * np.sin(0.35 * y + 0.55 * t), 0, 255).astype(np.uint8) for t in range(14)]
    )
    mask = walker(14)
    with gather(hide(truth, mask), mask) as evidence:
        frames, _ = results(evidence)
    inside = mask[1:] & mask[:-1]
    ours, true = (np.abs(np.diff(clip.astype(float), axis=0))[inside].mean() for clip in (frames, truth))
    assert ours == pytest.approx(true, rel=0.3)
    assert psnr(frames, truth, mask) > 38


def test_what_never_moves_stays_unknown() -> None:
    truth = np.stack([see(world(), 50)] * 8)
    mask = walker(8, step=0)
    video = hide(truth, mask)
    with gather(video, mask) as evidence:
        frames, states = results(evidence)
    untouched = states == State.ORIGINAL
    assert np.array_equal(frames[untouched], video[untouched])
    assert (states[mask] == State.UNKNOWN).all()
    assert evidence.shares["unknown"] == 1


def test_one_frame_shows_nothing_of_what_it_hides() -> None:
    truth = see(world(), 50)[None]
    mask = walker(1)
    with gather(hide(truth, mask), mask) as evidence:
        _, states = results(evidence)
    assert (states[mask] == State.UNKNOWN).all()


def test_a_flat_picture_is_filled_with_its_colour() -> None:
    truth = np.full((8, HEIGHT, WIDTH, 3), (90, 120, 60), np.uint8)
    mask = walker(8)
    with gather(hide(truth, mask), mask) as evidence:
        frames, states = results(evidence)
    found = states == State.GATHERED
    assert found[mask].mean() > 0.9
    assert np.abs(frames[found].astype(int) - truth[found]).max() <= 1


def test_nothing_is_taken_across_a_cut() -> None:
    one, other = world(1), world(2)
    truth = np.stack([see(one, 50)] * 6 + [see(other, 50)] * 6)
    mask = walker(12, step=0)
    mask[6:] = walker(6, start=100, step=0)  # where the first shot's walker was, only the second shot shows anything
    with gather(hide(truth, mask), mask) as evidence:
        _, states = results(evidence)
    assert (states[mask] == State.UNKNOWN).all()


def test_a_flash_is_evened_out() -> None:
    ground = world(contrast=25)
    truth = np.stack([see(ground, 50)] * 10).astype(float)
    truth[4] = truth[4] * 1.25 + 12
    truth = np.clip(np.rint(truth), 0, 255).astype(np.uint8)
    mask = walker(10)
    with gather(hide(truth, mask), mask) as evidence:
        frames, states = results(evidence)
    assert (states[4][mask[4]] == State.GATHERED).mean() > 0.9
    assert psnr(frames[4:5], truth[4:5], mask[4:5] & (states[4:5] == State.GATHERED)) > 40
    assert psnr(frames[3:4], truth[3:4], mask[3:4]) > 40


def test_somebody_who_passes_by_is_left_out() -> None:
    truth = np.stack([see(world(contrast=15), 50)] * 14)
    mask = walker(14, step=9)
    video = hide(truth, mask)
    # Not masked, dark, and only ever where the walker is in other frames.
    for t in (9, 10, 11):
        video[t, 35:65, 30:60] = 10
    with gather(video, mask) as evidence:
        frames, states = results(evidence)
    found = mask & (states == State.GATHERED)
    assert found[:4].sum() > 0.8 * mask[:4].sum()
    assert np.abs(frames[:4][found[:4]].astype(int) - truth[:4][found[:4]]).max() < 10


def test_of_contradicting_samples_those_count_that_fit_what_is_around() -> None:
    truth = np.stack([see(world(contrast=10), 50)] * 10)
    truth[5:, 25:75, 20:80] //= 3  # a shadow falls and stays
    mask = np.zeros((10, HEIGHT, WIDTH), bool)
    mask[4:6, 30:70, 30:70] = True
    with gather(hide(truth, mask), mask) as evidence:
        frames, states = results(evidence)
    wrong = np.abs(frames.astype(int) - truth).mean(-1) > 20
    assert not wrong[states == State.GATHERED].any()
    assert not wrong[5, 38:62, 38:62].any()


@pytest.mark.slow
def test_reach_limits_how_far_is_looked() -> None:
    truth = np.stack([see(world(), 50)] * 12)
    mask = walker(12, step=2)
    with gather(hide(truth, mask), mask) as far, gather(hide(truth, mask), mask, reach=3) as near:
        assert near.shares["gathered"] < far.shares["gathered"]
    with gather(hide(truth, mask), mask, reach=0) as none:
        assert none.shares["gathered"] == 0


@pytest.mark.slow
def test_little_memory_holds_fewer_frames_and_still_finds() -> None:
    truth = np.stack([see(world(), 50)] * 40)
    mask = walker(40, step=3)
    with gather(hide(truth, mask), mask, memory=int(18 * HEIGHT * WIDTH * BYTES)) as evidence:
        frames, states = results(evidence)
    assert (states[mask] == State.GATHERED).mean() > 0.95
    assert np.array_equal(frames[states == State.GATHERED], truth[states == State.GATHERED])


def test_frames_in_reach_never_take_more_memory_than_allowed() -> None:
    video, mask = np.zeros((60, 40, 50, 3), np.uint8), np.zeros((60, 40, 50), bool)
    held = Reach(Clip.from_array(video), Mask.from_array(mask), 0, reach=30, memory=int(20 * 40 * 50 * BYTES))
    for present in held.walk():
        there = [index for index in range(60) if index in held]
        assert len(there) <= 20
        assert set(range(max(0, present - held.near), min(60, present + held.near + 1))) <= set(there)
        assert min(there) >= present - 30
        assert present + 30 - max(there) < held.stride or present + 30 > 59
    assert held.near >= 2


def test_a_held_frame_takes_what_is_counted_for_it_and_gives_its_masks_back() -> None:
    hidden = np.zeros((60, 90), bool)
    hidden[20:30, 80:90] = True
    held = hold(np.zeros((60, 90, 3), np.uint8), hidden)
    assert np.array_equal(held.hidden, hidden)
    clear = np.zeros((60, 90), bool)
    clear[1:-1, 1:-1] = True
    clear[19:31, 79:] = False
    assert np.array_equal(held.clear > 0, clear)
    taken = held.frame.nbytes + held.packed_hidden.nbytes + held.packed_clear.nbytes
    assert taken == 60 * 90 * BYTES


def test_two_far_objects_have_a_box_each_and_near_ones_share_one() -> None:
    hidden = np.zeros((200, 300), bool)
    hidden[20:30, 20:30] = hidden[150:160, 250:260] = True
    frame = np.zeros((200, 300, 3), np.uint8)
    assert boxes_around(hold(frame, hidden), 10) == [(10, 10, 40, 40), (240, 140, 270, 170)]
    hidden[20:30, 45:50] = True
    assert boxes_around(hold(frame, hidden), 10) == [(10, 10, 60, 40), (240, 140, 270, 170)]
    assert boxes_around(hold(frame, np.zeros((200, 300), bool)), 10) == []


def test_a_box_that_grows_by_another_takes_in_what_it_then_touches() -> None:
    hidden = np.zeros((200, 300), bool)
    # The first and the second touch neither, their box does.
    hidden[20:30, 20:30] = hidden[60:70, 26:36] = hidden[40:44, 45:50] = True
    assert boxes_around(hold(np.zeros((200, 300, 3), np.uint8), hidden), 16) == [(4, 4, 66, 86)]


def test_frames_can_be_read_again_and_in_part_until_closed() -> None:
    truth = np.stack([see(world(), 50)] * 6)
    mask = walker(6)
    mask[3] = False
    evidence = gather(hide(truth, mask), mask)
    everything = results(evidence)
    part = list(evidence.frames(2, 5))
    assert all(np.array_equal(frame, everything[0][2 + i]) for i, (frame, _) in enumerate(part))
    assert not everything[1][3].any()
    assert all(np.array_equal(a, b) for a, b in zip(evidence.states(), everything[1], strict=True))
    evidence.close()
    with pytest.raises(ValueError, match="closed"):
        list(evidence.frames())


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.stack([see(world(), 40 + 3.37 * t, 50 + 0.3 * t) for t in range(8)])
    mask = walker(8)
    made = []
    for workers in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda workers=workers: workers)
        cv2.setNumThreads(workers)
        with gather(hide(truth, mask), mask) as evidence:
            made.append(results(evidence))
    cv2.setNumThreads(-1)
    assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))
