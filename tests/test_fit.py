"""Sizes, padding and windows for every length, against what removal relies on."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlift.errors import InputError
from layerlift.geometry.fit import choose_box, choose_windows, fit_size, fit_windows, latent_frames, room_for

# (frames of the model, frames of a token): LTX-Video, the demo model, and the smallest there can be.
MODELS = [(97, 8), (121, 8), (257, 8), (17, 4), (33, 4), (9, 8), (5, 4), (9, 4), (20, 8)]


@pytest.mark.parametrize(("model_frames", "time"), MODELS)
def test_windows_keep_every_frame_once_with_context_on_both_sides(model_frames: int, time: int) -> None:
    for frame_count in range(1, 401):
        windows = fit_windows(frame_count, model_frames, time)
        kept = [frame for window in windows for frame in range(window.keep_start, window.keep_stop)]
        assert kept == list(range(frame_count))
        for window in windows:
            assert window.start <= window.keep_start < window.keep_stop <= window.stop
            assert window.frame_count <= model_frames
            assert window.frame_count % time == 1 or window.frame_count == 1
        # Less than a token of padding, and only at the end.
        assert 0 <= windows[-1].stop - frame_count < time
        assert all(window.stop <= frame_count for window in windows[:-1])
        for before, window in pairwise(windows):
            # Latent frame i ≥ 1 here covers the very frames of latent frame i + shift there, up to its end.
            assert window.start - before.start == window.shift * time
            assert window.start + window.carried * time + 1 == before.stop
            # The first frame of a window is never used, and the hand-over lies where both were decoded.
            assert window.start < window.keep_start <= before.stop
            if window.carried:
                assert window.keep_start - window.start - 1 >= window.carried * time // 2
                assert before.stop - window.keep_start >= window.carried * time // 2
            assert window.shift >= 1


def test_windows_are_of_one_length_and_carry_at_least_a_quarter() -> None:
    windows = fit_windows(200, 97, 8)
    assert {window.frame_count for window in windows} == {89}
    assert [window.carried for window in windows] == [0, 4, 4]


def test_a_short_clip_is_one_window() -> None:
    (window,) = fit_windows(30, 97, 8)
    assert (window.start, window.stop, window.keep_start, window.keep_stop) == (0, 33, 0, 30)


def test_a_single_frame_is_not_padded() -> None:
    assert fit_windows(1, 97, 8)[0].stop == 1
    assert [latent_frames(count, 8) for count in (1, 2, 9, 10)] == [1, 2, 2, 3]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 8))
def test_windows_of_small_pictures_are_longer_and_have_no_more_tokens(
    latents: int, more: int, cells: int, budget: int, time: int
) -> None:
    frames, longest = 1 + latents * time, 1 + (latents + more) * time
    found = room_for(frames, longest, cells, budget, time)
    assert frames <= found <= longest
    assert found == frames or found * cells <= frames * budget
    assert found == frames or latent_frames(found, time) * cells <= latent_frames(frames, time) * budget
    # And no fewer than that allows.
    assert found == longest or (found + time) * cells > frames * budget


def test_windows_are_longer_only_where_that_makes_fewer_tokens() -> None:
    # 480×270, 15 × 9 tokens of the model's 22 × 15: 200 frames are one window and not three.
    assert room_for(97, 257, 15 * 9, 22 * 15, 8) == 233
    assert choose_windows(200, 97, 233, 8) == fit_windows(200, 233, 8)
    # 1280×690 in 704×384: windows of 113 frames would be three as well, with more in common.
    assert room_for(97, 257, 22 * 12, 22 * 15, 8) == 121
    assert choose_windows(240, 97, 121, 8) == fit_windows(240, 97, 8) != fit_windows(240, 121, 8)


@pytest.mark.parametrize("arguments", [(0, 97, 8), (10, 8, 8)])
def test_windows_that_cannot_be(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="windows of"):
        fit_windows(*arguments)


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 1500), st.integers(32, 1500), st.sampled_from([16, 32])
)
def test_the_picture_is_neither_squashed_nor_enlarged_nor_trimmed(
    width: int, height: int, box_width: int, box_height: int, space: int
) -> None:
    fit = fit_size((width, height), (box_width, box_height), space)
    assert fit.scaled[0] <= min(width, box_width)
    assert fit.scaled[1] <= min(height, box_height)
    scale = min(1, box_width / width, box_height / height)
    for side, native in zip(fit.scaled, (width, height), strict=True):
        assert abs(side - max(1, scale * native)) <= 0.5 + 1e-9
    for padding, padded in zip(fit.padding, fit.padded, strict=True):
        assert 0 <= padding < space
        assert padded % space == 0


def test_sizes_that_fit_already_stay() -> None:
    fit = fit_size((288, 192), (288, 192), 16)
    assert fit.native == fit.scaled == fit.padded


def test_the_box_turns_with_the_clip_unless_the_user_gave_it() -> None:
    assert choose_box((1080, 1920), (704, 480), None, 32) == (480, 704)
    assert choose_box((1920, 1080), (704, 480), None, 32) == (704, 480)
    assert choose_box((1080, 1920), (704, 480), (704, 480), 32) == (704, 480)
    with pytest.raises(InputError, match="16x480"):
        choose_box((1080, 1920), (704, 480), (16, 480), 32)
