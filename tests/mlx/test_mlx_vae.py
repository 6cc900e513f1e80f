"""The VAE in MLX against diffusers', in float32: each layer, both halves, in pieces of any length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

import layerlift.engine.mlx.vae as mlx_vae
from layerlift.engine.device import Policy
from layerlift.engine.mlx.arrays import from_torch, to_numpy
from layerlift.engine.mlx.latents import decode, encode
from layerlift.engine.mlx.vae import Half
from layerlift.engine.mlx.vae_stream import _down_block, _resnets, _up, decode_stream, encode_stream, fold, unfold
from layerlift.engine.model import latents as torch_latents
from layerlift.engine.model import vae_stream
from layerlift.engine.model.checkpoint import Component
from layerlift.errors import PrecisionError
from tiny_model import narrow_vae

PART, WHOLE = 1e-5, 1e-4
LENGTHS = (1, 3, 100)


@pytest.fixture(scope="module", params=["tiny", "vae_0.9.0", "vae_0.9.1", "vae_0.9.5"])
def theirs(request: pytest.FixtureRequest) -> AutoencoderKLLTXVideo:
    vae = narrow_vae(request.param, scaling_factor=0.7)  # 1 would not show that it is left out
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 8))
    vae.latents_std.copy_(torch.linspace(0.5, 1.5, 8))
    return vae


@pytest.fixture(scope="module")
def component(theirs: AutoencoderKLLTXVideo, written: Callable[..., Component]) -> Component:
    return written("vae", theirs)


@pytest.fixture(scope="module")
def frames(theirs: AutoencoderKLLTXVideo) -> np.ndarray:
    space, time = theirs.spatial_compression_ratio, theirs.temporal_compression_ratio
    return np.random.default_rng(0).integers(0, 256, (1 + 2 * time, space, 2 * space, 3), dtype=np.uint8)


def pieces(array: Any, length: int) -> list[Any]:
    return [array[start : start + length] for start in range(0, len(array), length)]


def there(states: torch.Tensor) -> Any:
    """(1, C, F, H, W) → MLX's (F, H, W, C)."""
    return from_torch(states[0].permute(1, 2, 3, 0).contiguous())


def back(found: list[Any]) -> np.ndarray:
    """Pieces (F, H, W, C) → (1, C, F, H, W)."""
    return np.concatenate([to_numpy(piece) for piece in found]).transpose(3, 0, 1, 2)[None]


@torch.no_grad()
def test_each_layer(theirs: Any, component: Component, policy: Policy, off: Callable[..., float]) -> None:
    """Every block of both halves on random states; small ones, and such as end within a piece."""
    encoder, decoder = (Half(component, half, policy) for half in ("encoder", "decoder"))
    temb = torch.tensor([50.0]) if theirs.config.timestep_conditioning else None
    ways: list[tuple[Any, Half, Any, Callable[[Any], Any]]] = []
    for block, meta in zip(theirs.encoder.down_blocks, encoder.part.down_blocks, strict=True):
        ways.append((block, encoder, meta, lambda given, meta=meta: _down_block(encoder, meta, given)))
    for block, meta in zip(theirs.decoder.up_blocks, decoder.part.up_blocks, strict=True):
        for mine, plan in zip(block.upsamplers or (), meta.upsamplers or (), strict=True):
            ways.append((mine, decoder, plan.conv, lambda given, plan=plan: _up(decoder, plan, given)))
    for layer, _, meta, run in ways:
        channels = next(module.in_channels for module in meta.modules() if isinstance(module, torch.nn.Conv3d))
        states = torch.randn(1, channels, 5, 4, 6, generator=torch.Generator().manual_seed(1))
        expected = layer(states)
        assert off(expected, back(list(run(iter(pieces(there(states), 2)))))) < PART
    # Residual blocks that are told the timestep, and given noise.
    mid, meta = theirs.decoder.mid_block, decoder.part.mid_block
    channels = mid.resnets[0].conv1.in_channels
    states = torch.randn(1, channels, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    noise = [torch.Generator().manual_seed(2) for _ in range(2)]
    embedded = decoder.embedded(meta, None if temb is None else 50.0)
    expected = mid(states, temb, noise[0])
    assert off(expected, back(list(_resnets(decoder, meta.resnets, iter([there(states)]), embedded, noise[1])))) < PART


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_encoder(
    *, theirs: Any, component: Component, frames: np.ndarray, policy: Policy, length: int, off: Callable[..., float]
) -> None:
    expected = torch_latents.encode(theirs, frames)
    found = encode(Half(component, "encoder", replace(policy, vae_frames=length)), frames)
    assert off(expected, found) < WHOLE


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_decoder(
    *, theirs: Any, component: Component, frames: np.ndarray, policy: Policy, length: int, off: Callable[..., float]
) -> None:
    latents = torch_latents.encode(theirs, frames)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    # In a stream, as noise that is injected comes from its generator only there; with all frames in one piece.
    vae_stream.set_frames_at_once(theirs, len(frames))
    expected = np.stack(list(torch_latents.decode(theirs, latents, generators[0], 0.05, 0.025)))
    half = Half(component, "decoder", replace(policy, vae_frames=length))
    found = np.stack(list(decode(half, latents.numpy(), generators[1], 0.05, 0.025)))
    assert len(found) == len(frames)
    assert off(torch.from_numpy(expected), found) < WHOLE


def test_a_convolution_in_small_calls_is_the_same(
    component: Component, policy: Policy, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What MLX's CPU unfolds is limited; the numbers stay."""
    expected = encode(Half(component, "encoder", policy), frames)
    monkeypatch.setattr(mlx_vae, "UNFOLD_BYTES", 1)
    np.testing.assert_allclose(encode(Half(component, "encoder", policy), frames), expected, rtol=0, atol=1e-6)


def test_weights_on_disk_and_in_fewer_bits(component: Component, policy: Policy, frames: np.ndarray) -> None:
    expected = encode(Half(component, "encoder", policy), frames)
    streamed = Half(component, "encoder", replace(policy, vae_streamed=True))
    np.testing.assert_array_equal(encode(streamed, frames), expected)
    assert not any(array.ndim == 5 for array in streamed._arrays.values())
    stored = Half(component, "encoder", replace(policy, vae_storage="bfloat16"))
    assert stored.array(stored.part.conv_in.conv, "weight").dtype == streamed.dtype
    near = encode(stored, frames)
    assert 0 < np.abs(near - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 1, 1), (2, 2, 2)])
def test_folding(stride: tuple[int, int, int]) -> None:
    states = torch.randn(1, 16, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(back([fold(there(states), stride)]), vae_stream._fold(states, stride).numpy())
    np.testing.assert_array_equal(back([unfold(there(states), stride)]), vae_stream._unfold(states, stride).numpy())
    np.testing.assert_array_equal(back([unfold(fold(there(states), stride), stride)]), states.numpy())


def test_numbers_that_are_none_and_single_colours_are_told(
    component: Component, policy: Policy, frames: np.ndarray
) -> None:
    for half, run in (
        ("encoder", lambda part: encode(part, frames)),
        ("decoder", lambda part: list(decode(part, np.zeros((1, 8, 1, 1, 1), np.float32), torch.Generator(), 0.0))),
    ):
        part = Half(component, half, policy)
        for key in list(part._arrays):
            if key.endswith("conv_out.conv.bias"):
                part._arrays[key] = part._arrays[key] * float("nan")
        with pytest.raises(PrecisionError, match=half):
            run(part)
    part = Half(component, "decoder", policy)
    for key in list(part._arrays):
        if ".conv_out.conv." in key:
            part._arrays[key] = part._arrays[key] * 0
    with pytest.raises(PrecisionError, match="single colour"):
        list(decode(part, np.zeros((1, 8, 1, 1, 1), np.float32), torch.Generator(), 0.0))


def test_streams_end_together(component: Component, policy: Policy, frames: np.ndarray) -> None:
    """Half of the channels are means, and one more is the variance."""
    half = Half(component, "encoder", policy)
    video = from_torch(torch.from_numpy(frames).float())
    encoded = list(encode_stream(half, pieces(video, 1)))
    assert {piece.shape[3] for piece in encoded} == {9}
    decoder = Half(component, "decoder", policy)
    made = list(decode_stream(decoder, [piece[..., :8] for piece in encoded], 0.05, 2, torch.Generator()))
    assert sum(len(piece) for piece in made) == len(frames)
    assert max(len(piece) for piece in made) <= 2
