import cv2
import numpy as np

from layerlift.evidence.fill import LARGEST, fill_frames, inpaint_unknown
from layerlift.evidence.motion import Motion
from layerlift.evidence.state import State


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.dstack([2 * x, 3 * y, x + y]).clip(0, 255).astype(np.uint8)


def unknown(shape: tuple[int, int], box: tuple[slice, slice]) -> np.ndarray:
    state = np.zeros(shape, np.uint8)
    state[box] = State.UNKNOWN
    return state


def test_only_unknown_pixels_change_and_take_after_their_surroundings() -> None:
    truth = picture()
    state = unknown(truth.shape[:2], np.s_[20:34, 30:44])
    state[40:44, 50:54] = State.GATHERED
    frame = truth.copy()
    frame[state > 0] = 255
    filled = inpaint_unknown(frame, state)
    assert np.array_equal(filled[state != State.UNKNOWN], frame[state != State.UNKNOWN])
    assert np.abs(filled[state == State.UNKNOWN].astype(int) - truth[state == State.UNKNOWN]).mean() < 12


def test_nothing_unknown_or_nothing_known_is_left_alone() -> None:
    frame = picture()
    assert inpaint_unknown(frame, np.zeros(frame.shape[:2], np.uint8)) is frame
    assert inpaint_unknown(frame, np.full(frame.shape[:2], State.UNKNOWN, np.uint8)) is frame


def test_what_touches_a_deep_hole_makes_no_streak_across_it() -> None:
    frame = np.full((120, 160, 3), 120, np.uint8)
    frame[54:66, :50] = 20  # a dark bar that ends at the hole
    state = unknown((120, 160), np.s_[20:100, 50:110])
    frame[state > 0] = 255
    streak = 120 - inpaint_unknown(frame, state)[60, 50:110, 0].astype(int)
    assert streak[:3].mean() > 50  # it goes on a little
    assert streak[20:].max() < 25


def test_a_large_hole_is_filled_from_a_smaller_picture() -> None:
    truth = picture(300, 300)
    state = unknown((300, 300), np.s_[50:250, 50:250])
    assert (state > 0).sum() > LARGEST
    frame = truth.copy()
    frame[state > 0] = (255, 0, 0)
    filled = inpaint_unknown(frame, state)
    assert np.abs(filled[60, 60:240].astype(int) - truth[60, 60:240]).mean() < 20
    assert np.array_equal(filled[state == 0], frame[state == 0])


def test_what_is_filled_in_keeps_still_under_a_still_camera_and_moves_with_a_moving_one() -> None:
    rng = np.random.default_rng(0)
    world = rng.integers(60, 200, (60, 140, 3), dtype=np.uint8)
    for step in (0, 2):
        motion = Motion([np.array([[1, 0, step * t], [0, 1, 0], [0, 0, 1.0]]) for t in range(6)], [1] * 6)
        frames = [world[:, 20 + step * t : 100 + step * t].copy() for t in range(6)]
        holes = [np.s_[20:40, 50 - step * t : 70 - step * t] for t in range(6)]
        states = [unknown((60, 80), hole) for hole in holes]
        filled = [frame for frame, _ in fill_frames(zip(frames, states, strict=True), motion)]
        first, last = filled[0][22:38, 52:68], filled[5][22:38, 52 - 5 * step : 68 - 5 * step]
        assert np.abs(first.astype(int) - last).mean() < 3
        assert all(np.array_equal(a[s == 0], b[s == 0]) for a, b, s in zip(filled, frames, states, strict=True))


def test_grain_around_a_hole_does_not_make_it_flicker() -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(picture() + rng.normal(0, 6, (60, 80, 3)), 0, 255).astype(np.uint8) for _ in range(6)]
    states = [unknown((60, 80), np.s_[20:40, 30:50])] * 6
    motion = Motion([np.eye(3)] * 6, [1] * 6)
    steady = [frame for frame, _ in fill_frames(zip(frames, states, strict=True), motion)]
    alone = [inpaint_unknown(frame, state) for frame, state in zip(frames, states, strict=True)]
    ours, theirs = (
        np.abs(np.diff(np.stack(clip)[:, 20:40, 30:50].astype(int), axis=0)).mean() for clip in (steady, alone)
    )
    assert ours < 0.85 * theirs


def test_what_is_carried_far_does_not_sharpen_itself() -> None:
    rng = np.random.default_rng(0)
    world = cv2.GaussianBlur(rng.normal(size=(60, 140, 3)), (0, 0), 0.7)
    world = np.clip(128 + 25 * world / world.std(), 70, 190).astype(np.uint8)
    shifts = 0.37 * np.arange(80)
    motion = Motion([np.array([[1, 0, x], [0, 1, 0.21 * x], [0, 0, 1.0]]) for x in shifts], [1] * 80)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frames = [cv2.warpAffine(world, motion.poses[t][:2], (80, 40), flags=flags) for t in range(80)]
    states = [np.zeros((40, 80), np.uint8), *[unknown((40, 80), np.s_[10:30, 20:40])] * 79]
    last = [frame for frame, _ in fill_frames(zip(frames, states, strict=True), motion)][-1][10:30, 20:40]
    assert last.std() < 1.1 * world.std()
    assert last.min() >= 60
    assert last.max() <= 200


def test_small_changes_of_light_add_up() -> None:
    frames = [np.full((40, 60, 3), (100, 120, 140), np.uint8) for _ in range(60)]
    states = [unknown((40, 60), np.s_[10:30, 20:40])] * 60
    rng = np.random.default_rng(0)
    for t, frame in enumerate(frames):  # a quarter of a level a frame: rounded, the grain carries it
        frame[:] = np.floor(np.array([100, 120, 140]) + 0.25 * t + rng.random((40, 60, 3))).astype(np.uint8)
    last = [frame for frame, _ in fill_frames(zip(frames, states, strict=True), Motion([np.eye(3)] * 60, [1] * 60))][-1]
    assert np.abs(last[12:28, 22:38].mean((0, 1)) - (114.75, 134.75, 154.75)).max() < 2


def test_a_cut_begins_afresh() -> None:
    frames = [np.full((40, 40, 3), value, np.uint8) for value in (50, 200)]
    states = [unknown((40, 40), np.s_[10:30, 10:30])] * 2
    motion = Motion([np.eye(3)] * 2, [1, 2])
    (_, _), (filled, state) = fill_frames(zip(frames, states, strict=True), motion)
    assert (filled > 190).all()
    assert (state[10:30, 10:30] == State.GENERATED).all()
    assert (state == State.GENERATED).sum() == 400
