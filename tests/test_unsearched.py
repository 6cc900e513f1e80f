"""Frames of which no evidence is looked for: what is hidden in them, found once where it stays where it is."""

from collections.abc import Callable

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.evidence import State
from layerlift.evidence.unsearched import Unsearched
from layerlift.masks import Mask
from layerlift.pixels import arrays as pixels
from layerlift.pixels.arrays import all_bounds, bounds, grow, same


def make_masks() -> np.ndarray:
    """Six frames: still for three, moved for two, and nothing."""
    masks = np.zeros((6, 20, 30), bool)
    masks[:3, 5:8, 4:9] = True
    masks[3:5, 9:12, 11:15] = True
    return masks


READ: dict[str, Callable[[Unsearched], list[np.ndarray]]] = {
    "hidden": lambda found: list(found.hidden()),
    "frames": lambda found: [state == State.UNKNOWN for _, state in found.frames()],
    "wanted": lambda found: [hidden for _, hidden in found.wanted()],
}


@pytest.mark.parametrize("read", READ)
def test_hidden_pixels_are_those_of_the_grown_mask_found_once_where_they_stay(read: str) -> None:
    masks, frames = make_masks(), np.arange(6 * 20 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(6, 20, 30, 3)
    found = Unsearched(Clip.from_array(frames, 24), Mask.from_array(masks), 2)
    hidden = READ[read](found)
    if read != "frames":  # whose states are made of them
        assert len({id(one) for one in hidden}) == 3
    assert len(hidden) == len(masks)
    for ours, mask in zip(hidden, masks, strict=True):
        assert (ours == grow(mask, 2)).all()
    for (frame, _), given in zip(found.wanted(), frames, strict=True):
        assert (frame == given).all()


def test_the_same_masks() -> None:
    masks = make_masks()
    assert same(masks[0], masks[2])
    assert not same(masks[0], masks[3])
    assert not same(masks[0], masks[0][:-1])
    one_off = masks[0].copy()
    one_off[-1, -1] = True
    assert not same(masks[0], one_off)
    assert same(masks[0][:, ::2], masks[1][:, ::2])  # rows with gaps


def test_bounds_of_all_look_at_a_mask_once_where_it_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = make_masks()
    here, there, nowhere = masks[0], masks[3], masks[5]
    still = [here, here, there, nowhere, here]
    expected, looked = [bounds(mask) for mask in still], []
    monkeypatch.setattr(pixels, "bounds", lambda mask: looked.append(1) or bounds(mask))
    first, second = (4, 5, 9, 8), (11, 9, 15, 12)
    assert all_bounds(still) == expected == [first, first, second, None, first]
    assert len(looked) == 4
