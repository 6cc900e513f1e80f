"""Shallow holes are inpainted, deep ones left to the model, and none changes its mind from frame to frame."""

import numpy as np

from layerlift.evidence import ShallowHoles, State


def states_of(*boxes: tuple[int, int, int, int] | None) -> list[np.ndarray]:
    """One frame of 40×60 for each box (top, bottom, left, right) of UNKNOWN pixels; None has none."""
    made = []
    for box in boxes:
        state = np.zeros((40, 60), np.uint8)
        if box is not None:
            top, bottom, left, right = box
            state[top:bottom, left:right] = State.UNKNOWN
        made.append(state)
    return made


def dirty(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A grey frame, white where it is unknown, and its state."""
    frame = np.full((40, 60, 3), 90, np.uint8)
    frame[state == State.UNKNOWN] = 255
    return frame, state


def filled(states: list[np.ndarray], depth: float) -> list[bool]:
    """Whether each frame's hole was filled."""
    answers = []
    made = ShallowHoles(iter(states), depth).settle(map(dirty, states))
    for state, (frame, now) in zip(states, made, strict=True):
        hole = state == State.UNKNOWN
        assert ((now == State.GENERATED) == hole).all() or (now == state).all()
        answers.append(bool((now[hole] == State.GENERATED).all()))
        assert (frame == dirty(state)[0]).all()  # what was filled in is the evidence's
    return answers


def test_depth_decides() -> None:
    slit, pit = (10, 14, 5, 50), (10, 30, 20, 40)  # 2 and 10 pixels deep
    assert filled(states_of(slit), 3) == [True]
    assert filled(states_of(pit), 3) == [False]
    assert filled(states_of(pit), 12) == [True]


def test_a_hole_is_what_it_is_at_its_deepest() -> None:
    growing = states_of((10, 12, 20, 40), (10, 30, 20, 40), (10, 12, 20, 40))
    assert filled(growing, 3) == [False, False, False]


def test_holes_apart_in_space_or_time_are_decided_apart() -> None:
    assert filled(states_of((10, 12, 20, 40), None, (10, 30, 20, 40)), 3) == [True, True, False]
    both = states_of((10, 30, 5, 25))[0]
    both[34:36, 40:58] = State.UNKNOWN
    ((frame, now),) = ShallowHoles([both], 3).settle([dirty(both)])
    assert (frame == dirty(both)[0]).all()
    assert (now[10:30, 5:25] == State.UNKNOWN).all()
    assert (now[34:36, 40:58] == State.GENERATED).all()
    assert (now[10:30, 5:25] == State.UNKNOWN).all()
