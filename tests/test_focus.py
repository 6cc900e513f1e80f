"""Where the model looks: boxes around what is wanted, on the grid of tokens, in windows around when it is wanted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlift.geometry.fit import fit_size, fit_windows, latent_frames
from layerlift.geometry.focus import LEAST_CELLS, Box, Spot, View, focus_view, focus_windows, offsets, whole_view

NATIVE, BOX, SPACE, TIME, LENGTH = (1280, 690), (704, 480), 32, 8, 97


def whole(native: tuple[int, int] = NATIVE, frames: int = 240) -> View:
    return whole_view(fit_size(native, BOX, SPACE), fit_windows(frames, LENGTH, TIME))


def focus(spots: list[Spot | None], view: View | None = None, margin: float = 40, longest: int | None = None) -> View:
    return focus_view(
        view or whole(), spots, space=SPACE, time=TIME, model_frames=LENGTH, longest=longest, margin=margin
    )


def tokens(view: View) -> list[int]:
    """Of each window."""
    cells = view.size[0] * view.size[1] // SPACE**2
    return [cells * latent_frames(window.frame_count, TIME) for window in view.windows]


def test_a_small_still_mask_is_seen_at_the_clips_own_resolution() -> None:
    view = focus([(600, 300, 700, 390)] * 240)
    assert view.fit.scaled == NATIVE
    assert view.windows == whole().windows
    assert set(view.boxes) == {view.boxes[0]}
    assert view.size[0] * view.size[1] < 0.15 * 1280 * 704
    left, top, right, bottom = view.native(view.boxes[0])
    assert left <= 600 - 96
    assert top <= 300 - 96
    assert right >= 700 + 96
    assert bottom >= 390 + 96


def pixels(view: View) -> list[int]:
    """Of all frames of each window."""
    return [view.size[0] * view.size[1] * window.frame_count for window in view.windows]


@given(
    st.lists(
        st.none() | st.tuples(st.integers(0, 1200), st.integers(0, 640), st.integers(1, 700), st.integers(1, 400)),
        min_size=1,
        max_size=240,
    ),
    st.floats(0, 90),
    st.sampled_from([None, 257]),
)
def test_every_spot_is_seen_by_its_windows(
    given: list[tuple[int, int, int, int] | None], margin: float, longest: int | None
) -> None:
    spots = [
        None if spot is None else (spot[0], spot[1], min(1280, spot[0] + spot[2]), min(690, spot[1] + spot[3]))
        for spot in given
    ]
    picture = whole(frames=len(spots))
    view = focus(spots, picture, margin, longest)
    assert view.size[0] * view.size[1] <= picture.size[0] * picture.size[1]
    # What was planned for the whole picture is enough.
    assert max(tokens(view)) <= max(tokens(picture))
    assert max(pixels(view)) <= max(pixels(picture))
    kept = [frame for window in view.windows for frame in range(window.keep_start, window.keep_stop)]
    assert kept == sorted(set(kept))
    for frame, spot in enumerate(spots):
        if spot is None:
            continue
        assert frame in kept
        for window, box in zip(view.windows, view.boxes, strict=True):
            assert (box.left % SPACE, box.top % SPACE, box.width % SPACE, box.height % SPACE) == (0, 0, 0, 0)
            assert box.right <= view.fit.padded[0]
            assert box.bottom <= view.fit.padded[1]
            if window.start <= frame < window.stop:
                left, top, right, bottom = view.native(box)
                assert left <= max(0, spot[0] - margin)
                assert top <= max(0, spot[1] - margin)
                assert right >= min(1280, spot[2] + margin)
                assert bottom >= min(690, spot[3] + margin)


def test_a_small_box_is_seen_in_one_long_window() -> None:
    spots: list[Spot | None] = [(600, 300, 700, 390)] * 240
    several, one = focus(spots), focus(spots, longest=257)
    assert (len(several.windows), len(one.windows)) == (3, 1)
    assert several.size == one.size
    assert sum(tokens(one)) < 0.8 * sum(tokens(several))
    assert focus(spots, longest=129).windows == several.windows  # longer ones would have more in common


def test_a_window_has_no_more_tokens_than_the_whole_pictures() -> None:
    spots: list[Spot | None] = [(500, 200, 760, 380)] * 240
    view = focus(spots, longest=257)
    assert (len(view.windows), len(focus(spots).windows)) == (2, 3)
    # One window would have fewer in all, and more at a time than was planned.
    one = view.size[0] * view.size[1] // SPACE**2 * latent_frames(240, TIME)
    assert max(tokens(view)) <= max(tokens(whole())) < one < sum(tokens(view))


def test_a_window_is_not_longer_where_its_box_would_have_to_be_larger() -> None:
    spots: list[Spot | None] = [(100 + 4 * i, 300, 180 + 4 * i, 380) for i in range(240)]
    assert focus(spots, longest=257) == focus(spots)


def test_a_large_mask_leaves_the_view_as_it_is() -> None:
    assert focus([(100, 50, 1200, 650)] * 240) == whole()


def test_a_large_mask_for_a_short_time_is_looked_at_for_that_time() -> None:
    spots: list[Spot | None] = [(100, 50, 1200, 650) if 100 <= i < 110 else None for i in range(240)]
    view = focus(spots, longest=257)
    (window,) = view.windows
    assert (view.fit, view.size) == (whole().fit, whole().size)
    assert (window.keep_start, window.keep_stop) == (84, 126)


def test_nothing_wanted_leaves_the_view_as_it_is() -> None:
    assert focus([None] * 240) == whole()


def test_a_mask_too_large_for_the_clips_own_resolution_is_scaled_no_more_than_it_must() -> None:
    view = focus([(300, 150, 800, 500)] * 240)
    assert whole().fit.scaled[0] < view.fit.scaled[0] < 1280


def test_a_model_that_knows_one_scale_keeps_it() -> None:
    spots: list[Spot | None] = [(600, 300, 700, 390)] * 240
    view = focus_view(whole(), spots, space=SPACE, time=TIME, model_frames=LENGTH, margin=40, any_scale=False)
    assert view.fit == whole().fit
    assert view.size[0] * view.size[1] < 0.3 * 704 * 384


def test_a_box_follows_its_object_from_window_to_window() -> None:
    view = focus([(100 + 4 * i, 300, 180 + 4 * i, 380) for i in range(240)])
    assert len(view.windows) == 3
    assert view.boxes[0].left < view.boxes[1].left < view.boxes[2].left
    assert len({(box.width, box.height) for box in view.boxes}) == 1


def test_boxes_have_some_size_and_never_more_than_the_picture() -> None:
    view = focus([(2, 2, 4, 4)] * 9, whole(frames=9))
    assert view.boxes[0] == Box(0, 0, LEAST_CELLS * SPACE, LEAST_CELLS * SPACE)
    small = focus([(2, 2, 4, 4)] * 9, whole((100, 60), 9), margin=3)
    assert small == whole((100, 60), 9)


def test_only_the_time_around_the_mask_is_seen() -> None:
    wanted = [100 <= frame < 110 or frame >= 230 for frame in range(240)]
    first, second = focus_windows(wanted, LENGTH, TIME)
    assert (first.keep_start, first.keep_stop) == (84, 126)
    assert (second.keep_start, second.keep_stop) == (214, 240)
    assert focus_windows([True] * 240, LENGTH, TIME) == fit_windows(240, LENGTH, TIME)
    # Context that would take another window is left out.
    (only,) = focus_windows([50 <= frame < 50 + LENGTH for frame in range(240)], LENGTH, TIME)
    assert only == replace(fit_windows(LENGTH, LENGTH, TIME)[0], start=50, stop=147, keep_start=50, keep_stop=147)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (Box(64, 32, 256, 256), ((slice(0, 8), slice(1, 8)), (slice(0, 8), slice(0, 7)))),
        (Box(32, 32, 256, 256), ((slice(0, 8), slice(0, 8)), (slice(0, 8), slice(0, 8)))),
        (Box(0, 96, 256, 256), ((slice(2, 8), slice(0, 7)), (slice(0, 6), slice(1, 8)))),
        (Box(288, 32, 256, 256), None),
    ],
)
def test_where_two_boxes_show_the_same_tokens(other: Box, found: object) -> None:
    assert offsets(Box(32, 32, 256, 256), other, SPACE) == found
