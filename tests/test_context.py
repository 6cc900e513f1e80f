"""What windows are shown of each other."""

from typing import Any

import numpy as np
import pytest

from layerlift.engine.base import Context, Denoise, Engine
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.engine.sampling import token_coordinates
from layerlift.geometry.fit import Geometry, Window, fit_windows
from layerlift.geometry.focus import Box
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.context import gather_context
from layerlift.stages.encoding import Section
from layerlift.stages.removal import remove_frames
from support import around
from tiny_model import write_tiny_model

GEOMETRY, RATE = Geometry(16, 4, 8), 24.0
GRID = (2, 3)


def make_sections(frames: int = 65, box: Box | None = None) -> list[Section | None]:
    """Sections whose latents hold the number of the section and of the latent frame in the clip, all of it known but
    the first column of tokens."""
    sections: list[Section | None] = []
    for number, window in enumerate(fit_windows(frames, 17, 4)):
        latents = np.zeros((1, 8, 5, *GRID), np.float32)
        latents[:, 0] = number
        latents[:, 1] = (window.start // 4 + np.arange(5))[None, :, None, None]
        unknown = np.zeros((5, *GRID), bool)
        unknown[:, :, 0] = True
        sections.append(Section(window, latents, unknown, True, box))
    return sections


def gather(sections: list[Section | None], number: int, count: int = 8):
    return gather_context(sections, number, geometry=GEOMETRY, rate=RATE, count=count)


def test_frames_come_from_all_over_the_clip_and_none_from_the_window() -> None:
    sections = make_sections()
    assert len(sections) == 5
    found = gather(sections, 2, count=4)
    window = sections[2].window  # type: ignore[union-attr]
    numbers = sorted({int(number) for number in found.latents[0, 1]})
    assert len(numbers) == 4
    inside = range(window.start // 4 + 1, window.stop // 4 + 1)
    assert not set(numbers) & set(inside)
    assert numbers[0] < inside.start
    assert numbers[-1] >= inside.stop
    assert gather(sections, 2, count=0) is None


def test_tokens_lie_at_their_own_places_seen_from_the_window() -> None:
    sections = make_sections()
    found = gather(sections, 2, count=100)
    whole = token_coordinates((1, 8, 17, *GRID), GEOMETRY, RATE).unflatten(2, (17, *GRID))
    start = sections[2].window.start / RATE  # type: ignore[union-attr]
    for latents, (seconds, row, column) in zip(found.latents[0].T, found.places[0].T, strict=True):
        assert seconds == pytest.approx(float(whole[0, 0, int(latents[1]), 0, 0]) - start)
        assert float(row) in (0, 16)
        assert float(column) in (0, 16, 32)
    places = [tuple(place.tolist()) for place in found.places[0].T]
    assert len(set(places)) == len(places)  # each of them once


def test_what_later_windows_still_have_to_generate_is_not_shown() -> None:
    found = gather(make_sections(), 2, count=100)
    hidden = found.places[0, 2] == 0
    assert hidden.any()
    assert (found.latents[0, 0, hidden] < 2).all()
    assert (found.latents[0, 0, ~hidden] > 2).any()


def test_a_window_elsewhere_in_the_picture_is_shown_where_both_look() -> None:
    sections = make_sections(box=Box(0, 0, 48, 32))
    moved = Box(16, 0, 48, 32)
    assert sections[2] is not None
    sections[2].box = moved
    found = gather(sections, 2, count=100)
    # What the others show at 16 and 32 pixels lies at 0 and 16 here.
    assert set(found.places[0, 2].tolist()) == {0.0, 16.0}
    sections[2].box = Box(480, 0, 48, 32)
    assert gather(sections, 2) is None


def test_far_windows_and_those_without_anything_to_generate() -> None:
    sections = make_sections(frames=401)
    number = len(sections) // 2
    found = gather(sections, number, count=10**6)
    assert np.abs(found.places[0, 0]).max() <= (3 + 1) * 17 / RATE
    assert gather([None] * number + [sections[number]], number) is None
    assert gather([Section(Window(0, 17, 0, 17), *arrays(sections[0]), True)], 0) is None


def arrays(section: Section | None) -> tuple[np.ndarray, np.ndarray]:
    assert section is not None
    return section.latents, section.unknown


# --- in removal ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), steps=1))


def remove(model: Engine, frames: int, context: int) -> np.ndarray:
    video = np.random.default_rng(0).integers(0, 256, (frames, 48, 112, 3), dtype=np.uint8)
    mask = np.zeros(video.shape[:3], bool)
    mask[:, 16:32, 16:32] = True
    options = RemovalOptions(evidence="off", context=context)
    return np.stack(
        list(remove_frames(video, mask, options, runtime=Runtime(model=model, policy=choose_policy("cpu"))))
    )


def test_a_clip_of_one_window_is_what_it_was(model: Model) -> None:
    assert (remove(model, 9, 8) == remove(model, 9, 0)).all()


def test_a_window_sees_what_it_is_shown(model: Model) -> None:
    seen = []

    def denoise(
        run: Denoise, latents: np.ndarray, unknown: np.ndarray, context: Context | None, *rest: Any
    ) -> np.ndarray:
        seen.append((unknown, context))
        made = run(latents, unknown, context, *rest)
        np.testing.assert_array_equal(made[:, :, ~unknown], latents[:, :, ~unknown])
        return made

    engine = around(model, "denoising", denoise)
    alone, shown = remove(engine, 25, 0), remove(engine, 25, 2)
    assert (alone != shown).any()
    half = len(seen) // 2
    assert half > 2
    for (unknown, nothing), (same, context) in zip(seen[:half], seen[half:], strict=True):
        assert nothing is None
        assert (same == unknown).all()
        assert context is not None
        assert len(context) > 0
        assert context.places.shape == (1, 3, len(context))
