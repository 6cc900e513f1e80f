import cv2
import numpy as np
import pytest

from layerlift.evidence.register import Sight, Template, largest_shift

SIZE = 96, 128
EXTENT = (0.0, 0.0, 127.0, 95.0)


def texture(seed: int = 0, height: int = 160, width: int = 200) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 40 * soft / soft.std(), 0, 255)


def look(world: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """What a camera sees of a world at `matrix`, frame pixel → world pixel."""
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return np.clip(np.rint(cv2.warpPerspective(world, matrix, SIZE[::-1], flags=flags)), 0, 255).astype(np.uint8)


def shift(x: float, y: float, zoom: float = 1.0) -> np.ndarray:
    return np.array([[zoom, 0, x], [0, zoom, y], [0, 0, 1.0]])


def nothing() -> np.ndarray:
    return np.zeros(SIZE, bool)


@pytest.mark.parametrize("zoom", [1.0, 1.012])
def test_a_motion_is_found_to_a_fraction_of_a_pixel(zoom: float) -> None:
    world = texture()
    here, there = shift(30, 30), shift(31.37, 29.21, zoom)
    template = Template(Sight(look(world, here), nothing()), 1500)
    found = template.fit(Sight(look(world, there), nothing()), np.eye(3))
    assert found is not None
    assert largest_shift(np.linalg.inv(np.linalg.inv(there) @ here) @ found.matrix, EXTENT) < 0.05


def test_brightness_and_a_big_object_do_not_mislead() -> None:
    world = texture()
    here, there = look(world, shift(30, 30)), look(world, shift(30.6, 30.4))
    there = np.clip(there * 0.8 + 15, 0, 255).astype(np.uint8)
    there[20:60, 30:70] = texture(1)[:40, :40].astype(np.uint8)
    found = Template(Sight(here, nothing()), 1500).fit(Sight(there, nothing()), np.eye(3))
    assert found is not None
    assert largest_shift(np.linalg.inv(shift(-0.6, -0.4)) @ found.matrix, EXTENT) < 0.1


def test_hidden_pixels_are_not_looked_at() -> None:
    world = texture()
    here, there = look(world, shift(30, 30)), look(world, shift(30.5, 30))
    hidden = nothing()
    hidden[8:80, 10:100] = True
    # What is hidden moves the other way, and is most of the picture.
    here[hidden], there[hidden] = look(texture(2), shift(30, 30))[hidden], look(texture(2), shift(29, 30))[hidden]
    found = Template(Sight(here, hidden), 1500).fit(Sight(there, hidden), np.eye(3))
    assert found is not None
    assert largest_shift(np.linalg.inv(shift(-0.5, 0)) @ found.matrix, EXTENT) < 0.1


def test_no_motion_stays_none_at_all() -> None:
    rng = np.random.default_rng(3)
    frame = look(texture(), shift(30, 30))
    noisy = np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)
    found = Template(Sight(frame, nothing()), 1500).fit(Sight(noisy, nothing()), np.eye(3))
    assert found is not None
    assert np.array_equal(found.matrix, np.eye(3))


def test_agreement_tells_a_scene_from_another() -> None:
    frame = look(texture(), shift(30, 30))
    template = Template(Sight(frame, nothing()), 1500)
    assert template.agreement(Sight(frame, nothing()), np.eye(3)) > 0.99
    assert template.agreement(Sight(look(texture(5), shift(30, 30)), nothing()), np.eye(3)) < 0.2


def test_too_little_in_sight_is_no_result() -> None:
    frame = look(texture(), shift(30, 30))
    hidden = ~nothing()
    assert Template(Sight(frame, nothing()), 1500).fit(Sight(frame, hidden), np.eye(3)) is None
    assert Template(Sight(frame, hidden), 1500).fit(Sight(frame, nothing()), np.eye(3)) is None


def test_a_frame_that_is_masked_wholly_is_like_no_other() -> None:
    """Without a warning of numpy's, too: pytest makes an error of those."""
    everything = Sight(look(texture(), shift(30, 30)), np.ones(SIZE, bool))
    template = Template(everything, 1500)
    assert template.agreement(everything, np.eye(3)) == -1.0
