"""Frames to latents and back, unknown tokens, and the pixel work before and after."""

from pathlib import Path

import numpy as np
import pytest
import torch

from layerlift.engine.model.latents import decode, denormalize, encode, normalize, unknown_tokens
from layerlift.errors import LayerliftError
from layerlift.geometry.fit import Geometry, fit_size
from layerlift.pixels.arrays import fill_masked, fit_frame, fit_mask, grow, spread, unfit_frame
from tiny_model import write_tiny_model

GEOMETRY = Geometry(space=16, time=4, channels=8)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory):
    """A whole random VAE, with the encoder and decoder of one tiny model."""
    from diffusers import AutoencoderKLLTXVideo

    folder: Path = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    return AutoencoderKLLTXVideo.from_pretrained(folder / "vae").eval()


def noise_frames(frames: int = 9, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_encode_normalises_the_mode_of_the_posterior(vae) -> None:
    frames = noise_frames()
    latents = encode(vae, frames)
    assert latents.shape == (1, 8, 3, 2, 3)
    assert latents.dtype == torch.float32
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        raw = vae.encode(video).latent_dist.mode()
    mean, std = (v.view(1, -1, 1, 1, 1) for v in (vae.latents_mean, vae.latents_std))
    torch.testing.assert_close(latents, (raw - mean) / std)
    torch.testing.assert_close(denormalize(vae, normalize(vae, raw)), raw)


def test_decode_gives_the_vae_its_timestep_and_noise(vae) -> None:
    latents = torch.randn(1, 8, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    frames = np.stack(list(decode(vae, latents, torch.Generator().manual_seed(1), 0.05, 0.025)))
    assert frames.shape == (9, 32, 48, 3)
    assert frames.dtype == np.float32
    raw = denormalize(vae, latents)
    raw = 0.975 * raw + 0.025 * torch.randn(raw.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        video = vae.decode(raw, torch.tensor([0.05]), return_dict=False)[0]
    expected = ((video + 1) * 127.5).clamp(0, 255)[0].permute(1, 2, 3, 0).numpy()
    np.testing.assert_allclose(frames, expected, atol=1e-3)


def test_nan_from_the_vae_is_an_error(vae) -> None:
    with pytest.raises(LayerliftError, match="decoder returned NaN"):
        next(decode(vae, torch.full((1, 8, 1, 2, 3), float("nan")), torch.Generator(), 0.05, 0.025))


@pytest.mark.parametrize("broken", [[0], [0, 1, 2, 3, 4], [3]])
def test_frame_of_one_colour_is_an_error(vae, monkeypatch: pytest.MonkeyPatch, broken: list[int]) -> None:
    """As some backends return instead of an error: not a frame of the piece is handed out."""
    latents = torch.randn(1, 8, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    real = vae.decoder.forward

    def failing(*given: torch.Tensor) -> torch.Tensor:
        video = real(*given)
        video[:, :, broken] = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
        return video

    assert len(list(decode(vae, latents, torch.Generator(), 0.05, 0.025))) == 5
    monkeypatch.setattr(vae.decoder, "forward", failing)
    with pytest.raises(LayerliftError, match=r"single colour.*--dtype float32"):
        next(decode(vae, latents, torch.Generator(), 0.05, 0.025))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_black_or_white_clip_is_no_error(vae, value: float) -> None:
    frames = np.full((5, 48, 64, 3), 127.5 * (value + 1), np.uint8)
    assert len(list(decode(vae, encode(vae, frames), torch.Generator(), 0.05, 0.025))) == 5


@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_one_masked_pixel_makes_its_token_unknown(frame: int, latent: int) -> None:
    mask = np.zeros((9, 48, 64), bool)
    mask[frame, 17, 47] = True  # the last column of token column 2, in token row 1
    expected = torch.zeros(3, 3, 4, dtype=torch.bool)
    expected[latent, 1, 2] = True
    assert torch.equal(unknown_tokens(mask, GEOMETRY, grow=0), expected)


def test_unknown_tokens_grow_in_space_and_not_in_time() -> None:
    mask = np.zeros((9, 80, 80), bool)
    mask[2, 40, 40] = True
    unknown = unknown_tokens(mask, GEOMETRY)
    expected = torch.zeros(3, 5, 5, dtype=torch.bool)
    expected[1, 1:4, 1:4] = True
    assert torch.equal(unknown, expected)


@pytest.mark.parametrize("size", [(288, 192), (320, 178), (101, 57), (57, 101)])
def test_fitting_is_undone(size: tuple[int, int]) -> None:
    fit = fit_size(size, (160, 96), 16)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    frame = np.stack([x / size[0], y / size[1], (x + y) / sum(size)], -1) * 255
    small = fit_frame(frame.astype(np.uint8), fit)
    assert small.shape == (fit.padded[1], fit.padded[0], 3)
    back = unfit_frame(small.astype(np.float32), fit)
    assert back.shape == frame.shape
    assert np.abs(back - frame).mean() < 2


def test_a_scaled_mask_loses_no_pixel_and_its_padding_repeats_the_edge() -> None:
    fit = fit_size((320, 180), (80, 80), 16)  # → 80×45, padded to 80×48
    mask = np.zeros((180, 320), bool)
    mask[10, 21] = mask[179, 300] = True
    small = fit_mask(mask, fit)
    assert np.argwhere(small).tolist() == [[2, 5], [44, 75], [45, 75], [46, 75], [47, 75]]


def test_filling_hides_the_object_and_leaves_the_rest() -> None:
    frame = np.full((40, 60, 3), 100, np.uint8)
    frame[:, 30:] = 140
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    frame[mask] = 255
    filled = fill_masked(frame, mask)
    assert (filled[~mask] == frame[~mask]).all()
    assert filled[mask].min() >= 100
    assert filled[mask].max() <= 140
    assert fill_masked(frame, np.zeros_like(mask)) is frame


def test_spreading_a_constant_is_that_constant() -> None:
    weights = np.zeros((37, 53), np.float32)
    weights[3, 50] = 1
    np.testing.assert_allclose(spread(np.full((37, 53, 2), 7, np.float32), weights), 7, rtol=1e-5)
    assert not spread(np.ones((8, 8, 1), np.float32), np.zeros((8, 8), np.float32)).any()


def test_growing_is_a_disc() -> None:
    mask = np.zeros((21, 21), bool)
    mask[10, 10] = True
    y, x = np.mgrid[:21, :21]
    assert (grow(mask, 5) == (np.hypot(x - 10, y - 10) <= 5)).all()
    assert grow(mask, 0) is mask
