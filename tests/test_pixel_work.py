"""Parts of the picture on their way to the model and back lie where they lay, on the CPU and on a device."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerlift.engine.device import BACKENDS
from layerlift.geometry.fit import Fit, fit_windows
from layerlift.geometry.focus import Box, View
from layerlift.pixels.arrays import bounds, distance_to
from layerlift.pixels.paste import ColorMatch
from layerlift.pixels.work import Patch, fit_regions, make_patches, paste_patches
from layerlift.stages.windows import filed

CPU = BACKENDS["cpu"]
ON_DEVICE = replace(BACKENDS["cuda"], device="cpu")  # the ways of a GPU, on the CPU
POLICIES = pytest.mark.parametrize("policy", [CPU, ON_DEVICE], ids=["cpu", "device"])

FITS = [
    Fit((200, 120), (200, 120), (208, 128)),
    Fit((200, 120), (100, 60), (112, 64)),
    Fit((200, 120), (150, 90), (160, 96)),
]
# In the middle, and at the corner where the padding is.
CORNERS = [(16, 16), None]


def smooth(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.stack([x, y * 1.5, 90 + 40 * np.sin(x / 30) * np.cos(y / 25)], -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


@POLICIES
@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("corner", CORNERS)
def test_there_and_back(policy, fit: Fit, corner: tuple[int, int] | None) -> None:
    box = Box(*(corner or (fit.padded[0] - 64, fit.padded[1] - 48)), 64, 48)
    view = View(fit, fit_windows(3, 9, 4), (box,))
    frame = smooth(*fit.native)
    pairs = [(frame, np.zeros(frame.shape[:2], bool))] * 3
    parts = list(fit_regions(iter(pairs), [box, None, box], fit, policy))
    assert parts[1] is None
    small, hidden = parts[0].cut(box)
    assert (small.shape, hidden.shape, hidden.any()) == ((48, 64, 3), (48, 64), False)
    given = torch.from_numpy(small).float() if policy.device_pixels else small.astype(np.float32)
    (patch,) = make_patches([given], view, box)
    left, top, right, bottom = patch.spot
    assert patch.pixels.shape == (bottom - top, right - left, 3)
    # A box's own border is repeated beyond it, so the outermost pixels may differ where there is scaling.
    inner = np.s_[4:-4, 4:-4]
    error = np.abs(np.asarray(patch.pixels) - frame[top:bottom, left:right])[inner]
    assert error.max() <= (0.51 if fit.scaled == fit.native else 3)
    assert error.mean() <= 0.6


@POLICIES
def test_hidden_pixels_are_filled_from_around_them(policy) -> None:
    fit, box = FITS[0], Box(32, 16, 96, 80)
    frame = np.full((120, 200, 3), 100, np.uint8)
    hidden = np.zeros((120, 200), bool)
    hidden[40:60, 60:90] = True
    frame[hidden] = 255
    (part,) = fit_regions([(frame, hidden)], [box], fit, policy)
    assert (part.frame == 100).all()
    assert part.hidden.sum() == 600
    assert part.hidden[24:44, 28:58].all()


def test_both_ways_paste_the_same_pixels() -> None:
    """Boxes move from frame to frame, some frames have nothing, and colours are matched across."""
    rng = np.random.default_rng(0)
    frames = [smooth(200, 120) for _ in range(6)]
    items, masks = [], []
    for i, frame in enumerate(frames):
        left, top = 20 + 8 * (i // 2), 8 + 16 * (i // 3)
        mask = np.zeros(frame.shape[:2], bool)
        mask[top + 30 : top + 50, left + 30 : left + 60] = True
        new = frame[top : top + 90, left : left + 96].astype(np.float32) + 9 + rng.normal(0, 1, (90, 96, 3))
        masks.append(mask if i != 4 else np.zeros_like(mask))
        inside = mask[top : top + 90, left : left + 96]
        items.append(
            (frame, inside, None if i == 4 else Patch((left, top, left + 96, top + 90), new.astype(np.float32)))
        )
    one, two = (np.stack(list(paste_patches(iter(items), 4, policy))) for policy in (CPU, ON_DEVICE))
    assert np.abs(one.astype(int) - two).max() <= 1
    masks = np.stack(masks)
    assert (one[~masks] == np.stack(frames)[~masks]).all()
    assert (one[4] == frames[4]).all()
    # The patches were 9 too bright, which matching takes back.
    assert np.abs(one.astype(int) - np.stack(frames)).mean(where=masks[..., None]) < 2


def test_colours_seen_before_are_kept_where_a_part_moves() -> None:
    """What was seen in a part of the picture holds for a part further right, shifted by as much."""
    frame = np.full((96, 160, 3), 120, np.uint8)
    new = np.full((96, 96, 3), 100, np.float32)
    mask = np.zeros((96, 96), bool)
    mask[30:60, 30:60] = True
    dark = new.copy()
    moved, fresh = ColorMatch(), ColorMatch()
    moved.place((0, 0), (96, 160))
    moved(dark, frame[:, :96], mask)
    for match in (moved, fresh):
        match.place((32, 0), (96, 160))
    other = np.full((96, 96, 3), 116, np.float32)
    assert moved(other, frame[:, 32:128], mask)[45, 45].mean() > fresh(other, frame[:, 32:128], mask)[45, 45].mean() + 1


def test_an_array_in_a_file_is_a_copy() -> None:
    array = np.random.default_rng(0).normal(size=(1, 3, 2, 4, 5)).astype(np.float32)
    copy = filed(array)
    np.testing.assert_array_equal(copy, array)
    copy[:, :, 0] = 7
    assert (copy != array).any()
    assert filed(np.empty((0, 3))).shape == (0, 3)


def test_bounds_are_those_of_what_is_true() -> None:
    mask = np.zeros((50, 70), bool)
    assert bounds(mask) is None
    mask[7, 60] = mask[30, 12] = True
    assert bounds(mask) == (12, 7, 61, 31)
    assert bounds(mask[:, ::2]) == (6, 7, 31, 31)  # a view with gaps
    assert bounds(np.ones((3, 4), bool)) == (0, 0, 4, 3)


def test_distances_are_the_same_wherever_in_memory_they_lie() -> None:
    mask = np.random.default_rng(0).random((100, 150)) < 0.002
    found, held = set(), []
    for length in range(40):
        result = distance_to(mask)
        found.add(result.tobytes())
        held += [result, np.empty(4 * length, np.float32)]  # the next result lies elsewhere
    assert len(found) == 1
