"""Pixels on the device are those of OpenCV on the CPU, up to rounding."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from layerlift.engine.device import choose_policy
from layerlift.engine.model.latents import decode, decode_on_device
from layerlift.geometry.fit import Fit
from layerlift.geometry.focus import Box
from layerlift.pixels import arrays as pixels
from layerlift.pixels import paste as on_cpu
from layerlift.pixels import tensors
from layerlift.pixels.work import fit_regions
from tiny_model import tiny_vae_config

SIZES = [(64, 96), (61, 83), (37, 20), (5, 3), (1, 40)]


def clip(size: tuple[int, int], frames: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, masks and something generated; every mask is a blob of its own."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    y, x = np.mgrid[: size[0], : size[1]]
    centres = rng.random((frames, 2)) * size
    masks = np.stack([((y - cy) / (size[0] / 4)) ** 2 + ((x - cx) / (size[1] / 4)) ** 2 < 1 for cy, cx in centres])
    masks[:, 0, 0] = True
    return video, masks, (rng.random((frames, *size, 3)) * 255).astype(np.float32)


@pytest.mark.parametrize(
    "fit",
    [
        Fit((96, 64), (96, 64), (96, 64)),
        Fit((83, 61), (83, 61), (96, 64)),
        Fit((130, 77), (64, 38), (64, 48)),
        Fit((96, 64), (48, 32), (48, 32)),
        Fit((20, 37), (20, 37), (32, 48)),
    ],
    ids=str,
)
def test_fit_and_fill_and_back(fit: Fit) -> None:
    video, masks, generated = clip((fit.native[1], fit.native[0]))
    masks[2] = False
    whole, policy = Box(0, 0, *fit.padded), replace(choose_policy("cpu"), device_pixels=True)
    made = list(fit_regions(zip(video, masks, strict=True), [whole] * len(video), fit, policy))
    for part, original, given in zip(made, video, masks, strict=True):
        assert part is not None
        frame, mask = part.frame, part.hidden
        hidden = pixels.fit_mask(given, fit)
        assert np.array_equal(mask, hidden)
        fitted = pixels.fit_frame(original, fit)
        assert np.abs(frame.astype(int) - pixels.fill_masked(fitted, hidden)).max() <= 1
        assert np.abs(frame.astype(int) - fitted)[~hidden].max() <= (fit.scaled != fit.native)
    _, _, generated = clip((fit.padded[1], fit.padded[0]))
    for frame in generated:
        back = tensors.unfit_frame(torch.from_numpy(frame), fit).numpy()
        np.testing.assert_allclose(back, pixels.unfit_frame(frame, fit), atol=0.05)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("feather", [0, 1, 3, 4.5])
def test_match_and_paste(size: tuple[int, int], feather: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With chunks of two frames, a frame without anything generated and one without a mask."""
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 2 * size[0] * size[1] * 3 * 4)
    video, masks, generated = clip(size, frames=9)
    masks[6] = False
    items = [(video[i], masks[i], None if i == 3 else generated[i], i) for i in range(9)]
    match, expected = on_cpu.ColorMatch(), []
    for frame, mask, new, _ in items:
        if new is None or not mask.any():
            match.reset()
            expected.append(frame)
        else:
            expected.append(on_cpu.paste(frame, match(new, frame, mask), mask, feather))
    made = list(tensors.paste_frames(items, feather, "cpu"))
    assert [tag for _, tag in made] == list(range(9))
    for (frame, _), wanted, mask, original in zip(made, expected, masks, video, strict=True):
        assert np.abs(frame.astype(int) - wanted).max() <= 1
        assert np.array_equal(frame[~mask], original[~mask])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reach", [1, 4, 20])
def test_distances(size: tuple[int, int], reach: int) -> None:
    _, masks, _ = clip(size)
    masks[1] = False
    made = tensors.squared_distance(torch.from_numpy(masks), reach).sqrt().numpy()
    expected = np.stack([pixels.distance_to(mask) for mask in masks])
    np.testing.assert_allclose(made, np.where(expected <= reach, expected, np.inf), rtol=1e-5)


def test_chunks_hold_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 3 * 4 * 4 * 3 * 4)
    frames = [np.zeros((4, 4, 3), np.uint8)] * 8
    assert [len(chunk) for chunk in tensors._chunks(frames, lambda frame: frame)] == [3, 3, 2]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("distance", [1, 2.5, 30])
def test_growing_looks_only_where_it_has_to(size: tuple[int, int], distance: float) -> None:
    _, masks, _ = clip(size)
    for mask in masks:
        mask[0, 0] = False
        if mask.any():
            assert np.array_equal(pixels.grow(mask, distance), pixels.distance_to(mask) <= distance)


def test_decoded_frames_can_stay_where_they_are() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(**tiny_vae_config()).eval()
    latents = torch.randn(1, 8, 2, 3, 4)
    there, here = (
        list(way(vae, latents, torch.Generator().manual_seed(1), 0.05)) for way in (decode_on_device, decode)
    )
    assert len(there) == 5
    for left, brought in zip(there, here, strict=True):
        assert np.array_equal(left.numpy(), brought)


def test_of_small_pictures_few_frames_are_read_before_the_first_is_there() -> None:
    """What was read of a clip and not kept when a job is killed has to be read and made again."""
    read = []

    def frames() -> Iterator[tuple[np.ndarray, np.ndarray, Box]]:
        for index in range(600):
            read.append(index)
            yield np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.bool_), Box(0, 0, 8, 8)

    made = tensors.fit_parts(frames(), Fit((8, 8), (8, 8), (8, 8)), "cpu")
    next(made)
    assert len(read) <= 33
    assert 1 + sum(1 for _ in made) == len(read) == 600
